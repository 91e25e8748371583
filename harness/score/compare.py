"""Paired comparisons of models on the examples that both can be scored on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np

from harness.score.statistics import (
    MIN_FOR_BOOTSTRAP,
    PERMUTATIONS,
    bootstrap_interval,
    bootstrap_sums,
    holm,
    permutation_p,
    permuted_sums,
)
from harness.score.survey import ReferenceSet
from harness.score.table import Table, TableKey
from harness.tasks.metrics import COMPARED, COMPARED_PER_EMOTION
from harness.tasks.metrics.base import AdditiveMetric, BoolArray, FloatArray
from harness.types import Task


@dataclass(frozen=True)
class Pair:
    """Statistics (n, k) of one metric for two models on common examples, zero elsewhere; `both` (n,) are common."""

    metric: AdditiveMetric
    a: FloatArray
    b: FloatArray
    both: BoolArray

    @property
    def count(self) -> int:
        """How many examples are common."""
        return int(self.both.sum())

    @cached_property
    def observed(self) -> float:
        """The difference, which may not be finite."""
        return float(self.difference(self.a.sum(0), self.b.sum(0)))

    def left_out(self) -> FloatArray:
        """Differences without each common example in turn, (count,)."""
        return self.difference(self.a.sum(0) - self.a[self.both], self.b.sum(0) - self.b[self.both])

    def difference(self, sums_a: FloatArray, sums_b: FloatArray) -> FloatArray:
        """Values (...) of a minus those of b."""
        return self.metric.value(sums_a) - self.metric.value(sums_b)


def compare(
    task: Task,
    sets: Sequence[ReferenceSet],
    tables: Mapping[TableKey, Table],
    *,
    replicates: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Records of every pair of models, overall and per emotion, with Holm-adjusted p-values.

    A pair with a row that answers held-out annotations is compared on what remains for that row; `human` and `crowd`
    have no references in common and are not compared.
    """
    by_references = {(part.key, part.references): part for part in sets}
    pairs = []
    for a, b in combinations([part for part in sets if part.is_main and part.key.control is None], 2):
        remaining = b.references if a.references == "all" else a.references
        if (a.key, remaining) in by_references and (b.key, remaining) in by_references:
            pairs.append((by_references[a.key, remaining], by_references[b.key, remaining]))

    def records(emotion: str | None, names: Collection[str]) -> list[dict[str, Any]]:
        found = []
        for a, b in pairs:
            one, other = (tables[TableKey(part.key, part.references, emotion)] for part in (a, b))
            for name, result in _tested(paired_statistics(one, other, names), replicates, seed).items():
                place = {"task": task.name, "metric": name, "emotion": emotion}
                found.append(place | {"a": a.key.model, "b": b.key.model} | result)
        return found

    overall = records(None, COMPARED)
    _adjust(overall)
    per_emotion = [record for emotion in task.emotions for record in records(emotion, COMPARED_PER_EMOTION)]
    for name in COMPARED_PER_EMOTION:
        _adjust([record for record in per_emotion if record["metric"] == name])
    return overall + per_emotion


def paired_statistics(a: Table, b: Table, names: Collection[str], mask: BoolArray | None = None) -> dict[str, Pair]:
    """The statistics of metrics that both tables have, over the examples (of `mask`) that count for both.

    Metrics with the same statistics (`Metric.shared`) get the same arrays.
    """
    pairs: dict[str, Pair] = {}
    masked: dict[str, tuple[FloatArray, FloatArray, BoolArray]] = {}
    chosen = slice(None) if mask is None else mask
    for name in (name for name in a.statistics if name in b.statistics and name in names):
        metric = a.metrics[name]
        assert isinstance(metric, AdditiveMetric)
        if metric.shared not in masked:
            left, right = a.statistics[name], b.statistics[name]
            both = (left.eligible & right.eligible)[chosen]
            masked[metric.shared] = left.values[chosen] * both[:, None], right.values[chosen] * both[:, None], both
        one, other, both = masked[metric.shared]
        if both.any():
            pairs[name] = Pair(metric.over(one.sum(0)), one, other, both)
    return pairs


def _tested(pairs: Mapping[str, Pair], replicates: int, seed: int) -> dict[str, dict[str, Any]]:
    """Difference, interval, p and n of each metric; all share the resampled and the swapped examples."""
    results: dict[str, dict[str, Any]] = {}
    for name, pair in pairs.items():
        difference = pair.observed if np.isfinite(pair.observed) else None
        results[name] = {"difference": difference, **dict.fromkeys(("low", "high", "p", "p_holm")), "n": pair.count}
    enough = {name: pair for name, pair in pairs.items() if pair.count >= MIN_FOR_BOOTSTRAP}
    if not enough:
        return results
    shared = {pair.metric.shared: pair for pair in enough.values()}
    a, b = (np.concatenate([getattr(p, side) for p in shared.values()], axis=1) for side in ("a", "b"))
    widths = [pair.a.shape[1] for pair in shared.values()]
    resampled = _columns(bootstrap_sums(np.concatenate([a, b], axis=1), replicates, seed), [*widths, *widths])
    swapped_a, swapped_b = (_columns(sums, widths) for sums in permuted_sums(a, b, PERMUTATIONS, seed))
    places = {key: i for i, key in enumerate(shared)}
    for name, pair in enough.items():
        i = places[pair.metric.shared]
        observed = results[name]["difference"]
        if observed is None:
            continue
        replicated = pair.difference(resampled[i], resampled[i + len(widths)])
        interval = bootstrap_interval(replicated, observed, pair.left_out())
        if interval is not None:
            results[name] |= {"low": interval.low, "high": interval.high}
        results[name]["p"] = permutation_p(observed, pair.difference(swapped_a[i], swapped_b[i]))
    return results


def _columns(sums: FloatArray, widths: Sequence[int]) -> list[FloatArray]:
    """Split sums (R, sum of widths) at the metrics."""
    return np.split(sums, np.cumsum(widths)[:-1], axis=1)


def _adjust(family: Sequence[dict[str, Any]]) -> None:
    """Fill in `p_holm` of one family of tests."""
    tested = [record for record in family if record["p"] is not None]
    for record, adjusted in zip(tested, holm([record["p"] for record in tested]), strict=True):
        record["p_holm"] = adjusted

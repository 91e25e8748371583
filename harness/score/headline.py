"""The answer in numbers: how much of a larger model's lead over the majority line the small model keeps.

The share is (S - M) / (L - M): S the small model, L a larger one, M the row that always answers the commonest label,
all three on the images that count for all three, resampled together. It is defined if L beats M; its interval, if L
does so in nearly all resamples too, since a lead that may be none has no shares. Beside it stand paired differences
of every two models along the task's slices and by how far the annotators agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from harness.score.cells import AGREEMENT, Scorer
from harness.score.compare import Pair, paired_statistics
from harness.score.statistics import LEVEL, MIN_FOR_BOOTSTRAP, FloatArray, bootstrap_interval, bootstrap_sums
from harness.score.table import Table
from harness.store.run_folder import adapter_kind
from harness.tasks.metrics import HEADLINES
from harness.tasks.metrics.base import AdditiveMetric, BoolArray

SLICED = ("annotator_mass", "accuracy", "cider_d")
"""Metrics whose differences are given along slices."""

MANY_VALUES = 60
"""A key with more values than this, such as the artist, is not compared value by value."""


@dataclass(frozen=True, slots=True)
class Contest:
    """Who is measured against whom on one task.

    Attributes:
        small: the trained model with the fewest parameters (any model, if none is known to be trained).
        larger: models with more parameters, by size; those that do not tell theirs (endpoints) come last.
        majority: the row that answers the commonest label, None if the run has none.
        people: rows that answer with annotations.
    """

    small: str
    larger: tuple[str, ...]
    majority: str | None
    people: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Every row that is scored against all references, small first."""
        return (self.small, *self.larger, *([self.majority] if self.majority is not None else []))


def contest(manifest: Mapping[str, Any], task: str) -> Contest | None:
    """Read the sides off a manifest; None if no model that tells its size ran on the task."""
    runs = {r["model"]: r for r in manifest["runs"] if r["task"] == task and r.get("control") is None}
    models = [m for m in manifest["models"] if m["model"] in runs]
    kinds = {kind: [m for m in models if adapter_kind(m) == kind] for kind in ("model", "baseline", "person")}
    sizes = {m["model"]: runs[m["model"]].get("parameters") for m in kinds["model"]}
    known = sorted((n for n, size in sizes.items() if size), key=lambda n: (sizes[n], n))
    trained = [n for n in known if (runs[n].get("observed") or {}).get("trained_parameters")]
    if not known:
        return None
    small = (trained or known)[0]
    larger = [n for n in known if sizes[n] > sizes[small]] + [n for n, size in sizes.items() if not size]
    majority = next((m["model"] for m in kinds["baseline"] if m.get("adapter", m["model"]) == "majority"), None)
    return Contest(small, tuple(larger), majority, tuple(m["model"] for m in kinds["person"]))


@dataclass(frozen=True, slots=True)
class Share:
    """The share of a lead that is kept, with its interval, or the reason why it or its interval is not defined."""

    share: float | None
    low: float | None
    high: float | None
    reason: str | None


def share_kept(sums: Sequence[FloatArray], resampled: Sequence[FloatArray], left_out: Sequence[FloatArray]) -> Share:
    """(S - M) / (L - M) of the values of small, large and majority, in this order.

    Args:
        sums: the three observed values, each of shape ().
        resampled: the three values of every bootstrap replicate (R,), of the same resampled images.
        left_out: the three values without each image in turn (n,).
    """
    observed = float(_share(*sums))
    if not np.isfinite(observed):
        return Share(None, None, None, "the larger model does not beat the majority line")
    if len(left_out[0]) < MIN_FOR_BOOTSTRAP:
        return Share(observed, None, None, f"fewer than {MIN_FOR_BOOTSTRAP} images")
    replicates = _share(*resampled)
    if np.isfinite(replicates).mean() < 0.5 + LEVEL / 2:
        return Share(observed, None, None, "the larger model's lead over the majority line is not beyond chance")
    interval = bootstrap_interval(replicates, observed, _share(*left_out))
    if interval is None:
        return Share(observed, None, None, "no resample has a value")
    return Share(observed, interval.low, interval.high, None)


def _share(small: FloatArray, large: FloatArray, majority: FloatArray) -> FloatArray:
    """Shares (...), NaN unless large is above majority."""
    lead = np.asarray(large - majority)
    return np.divide(small - majority, lead, out=np.full_like(lead, np.nan), where=lead > 0)


def shares(scorer: Scorer, sides: Contest, *, replicates: int, seed: int) -> list[dict[str, Any]]:
    """A record for each larger model and headline metric: the values on shared images, the share and its interval."""
    tables = _tables(scorer, {sides.small, *sides.larger, sides.majority})
    found: list[dict[str, Any]] = []
    for large in sides.larger:
        names = [sides.small, large, *([sides.majority] if sides.majority is not None else [])]
        if all(name in tables for name in names):
            found += _records(names, [tables[name] for name in names], replicates, seed)
    return found


def _tables(scorer: Scorer, models: Iterable[str | None]) -> dict[str, Table]:
    wanted = set(models)
    return {
        key.row.model: table
        for key, table in scorer.tables.items()
        if key.row.control is None and key.references == "all" and key.emotion is None and key.row.model in wanted
    }


def _records(names: Sequence[str], tables: Sequence[Table], replicates: int, seed: int) -> Iterator[dict[str, Any]]:
    """One record per metric that all tables have; two tables (no majority row) give values without a share."""
    for name in (name for name in HEADLINES if all(name in table.statistics for table in tables)):
        metric = tables[0].metrics[name]
        both = np.logical_and.reduce([table.statistics[name].eligible for table in tables])
        if not isinstance(metric, AdditiveMetric) or not both.any():
            continue
        rows = [table.statistics[name].values * both[:, None] for table in tables]
        metric = metric.over(rows[1].sum(0))
        values = [np.asarray(metric.value(one.sum(0))) for one in rows]
        kept = Share(None, None, None, "no majority row in this run")
        if len(tables) == 3:
            sums = bootstrap_sums(np.concatenate(rows, axis=1), replicates, seed)
            resampled = [metric.value(part) for part in np.split(sums, 3, axis=1)]
            left_out = [metric.value(one.sum(0) - one[both]) for one in rows]
            kept = share_kept(values, resampled, left_out)
        yield {
            "metric": name,
            "small": names[0],
            "large": names[1],
            "majority": names[2] if len(names) == 3 else None,
            "values": [float(value) if np.isfinite(value) else None for value in values],
            "share": kept.share,
            "low": kept.low,
            "high": kept.high,
            "n": int(both.sum()),
            "reason": kept.reason,
        }


def headline_record(sides: Contest, results: Mapping[str, Any], task: str, found: Sequence[Any]) -> dict[str, Any]:
    """The entry of `headline` in results.json of one task.

    Args:
        sides: who is compared.
        results: its `cells`, `models` and `comparisons` are read: sizes, times, prices, tested differences.
        task: the task's name.
        found: what `shares` gave.
    """
    small, models = _model(results, task, sides.small), {name: _model(results, task, name) for name in sides.larger}
    larger = [
        {
            **models[large],
            # how many times as much the larger model takes
            "ratios": {
                key: models[large][key] / small[key] if models[large][key] and small[key] else None
                for key in _RESOURCES
            },
            "shares": [
                {key: value for key, value in record.items() if key not in ("small", "large", "majority")}
                | _tested(results, task, record["metric"], sides.small, large)
                for record in found
                if record["large"] == large
            ],
            "emotions": _emotions(results, task, sides.small, large),
        }
        for large in sides.larger
    ]
    return {
        "task": task,
        "small": small,
        "majority": sides.majority,
        "people": list(sides.people),
        "larger": larger,
        "over_majority": []
        if sides.majority is None
        else [
            {"metric": name, **_tested(results, task, name, sides.small, sides.majority)}
            for name in HEADLINES
            if _comparison(results, task, name, None, sides.small, sides.majority) is not None
        ],
    }


_RESOURCES = ("parameters", "latency_p50_s", "cost_usd")


def _model(results: Mapping[str, Any], task: str, model: str) -> dict[str, Any]:
    """A model's name, size, seconds per image and price of the run, None if not known."""
    values = {
        cell["metric"]: cell["value"]
        for cell in results["cells"]
        if cell["metric"] in _RESOURCES and (cell["task"], cell["model"], cell["control"]) == (task, model, None)
        if cell["emotion"] is None and cell["slice"] is None and cell["references"] == "all"
    }
    return {"model": model, **{name: values.get(name) for name in _RESOURCES}}


def _comparison(
    results: Mapping[str, Any], task: str, metric: str, emotion: str | None, a: str, b: str
) -> Mapping[str, Any] | None:
    wanted = (task, metric, emotion)
    entries = (e for e in results["comparisons"] if (e["task"], e["metric"], e["emotion"]) == wanted)
    return next((e for e in entries if {e["a"], e["b"]} == {a, b}), None)


def _tested(
    results: Mapping[str, Any], task: str, metric: str, a: str, b: str, emotion: str | None = None
) -> dict[str, Any]:
    """The tested difference a - b, as `comparisons` has it in either order; None throughout if it was not tested."""
    entry = _comparison(results, task, metric, emotion, a, b)
    if entry is None or entry["difference"] is None:
        return dict.fromkeys(("difference", "difference_low", "difference_high", "p_holm"))
    sign = 1 if entry["a"] == a else -1
    ends = [entry["low"], entry["high"]][::sign]
    low, high = (None if end is None else sign * end for end in ends)
    found = {"difference": sign * entry["difference"], "difference_low": low, "difference_high": high}
    return found | {"p_holm": entry["p_holm"]}


def _emotions(results: Mapping[str, Any], task: str, small: str, large: str) -> dict[str, Any]:
    """Emotions on whose annotated images the small model is better, worse, or cannot be told apart, by accuracy."""
    named = {e["emotion"] for e in results["comparisons"] if e["task"] == task and e["metric"] == "accuracy"}
    found: dict[str, list[str]] = {"better": [], "worse": [], "undecided": []}
    for emotion in sorted(name for name in named if name is not None):
        tested = _tested(results, task, "accuracy", small, large, emotion)
        if tested["difference"] is not None:
            is_decided = tested["p_holm"] is not None and tested["p_holm"] < 1 - LEVEL
            verdict = "better" if tested["difference"] > 0 else "worse"
            found[verdict if is_decided else "undecided"].append(emotion)
    return {"metric": "accuracy", **found}


def slice_differences(scorer: Scorer, models: Sequence[str], *, replicates: int, seed: int) -> list[dict[str, Any]]:
    """Paired differences of every two models along slices and agreement, with bootstrap intervals.

    Each is `{"task", "metric", "key", "value", "a", "b", "difference", "low", "high", "n"}`, a minus b on the images
    of that value that count for both. The intervals are not corrected for their number.
    """
    tables = _tables(scorer, models)
    if not tables:
        return []
    found: list[dict[str, Any]] = []
    # every model's set of all references holds all examples, in one order
    cuts = next(cuts for part, cuts in scorer.cuts.items() if part.references == "all" and part.key.control is None)
    for key in (AGREEMENT, *scorer.context.task.slices):
        values = cuts.get(key, [])
        distinct = sorted({value for value in values if value})
        if len(distinct) <= MANY_VALUES:
            for value in distinct:
                mask = np.array([one == value for one in values])
                place = {"task": scorer.context.task.name, "key": key, "value": value}
                found += [place | record for record in _differences(tables, mask, replicates, seed)]
    return found


def _differences(tables: Mapping[str, Table], mask: BoolArray, replicates: int, seed: int) -> Iterator[dict[str, Any]]:
    """All pairs and metrics over the images of `mask`, resampled together: drawing is what costs."""
    found: list[tuple[dict[str, str], Pair]] = []
    for (a, left), (b, right) in combinations(tables.items(), 2):
        pairs = paired_statistics(left, right, SLICED, mask)
        found += [({"metric": name, "a": a, "b": b}, pairs[name]) for name in SLICED if name in pairs]
    columns = [rows for _, pair in found for rows in (pair.a, pair.b)]
    parts: list[FloatArray] = []
    if found and replicates and mask.sum() >= MIN_FOR_BOOTSTRAP:
        drawn = bootstrap_sums(np.concatenate(columns, axis=1), replicates, seed)
        parts = np.split(drawn, np.cumsum([rows.shape[1] for rows in columns])[:-1], axis=1)
    for number, (place, pair) in enumerate(found):
        interval = None
        if parts and pair.count >= MIN_FOR_BOOTSTRAP:
            resampled = pair.difference(parts[2 * number], parts[2 * number + 1])
            interval = bootstrap_interval(resampled, pair.observed, pair.left_out())
        yield {
            **place,
            "difference": pair.observed,
            "low": interval.low if interval else None,
            "high": interval.high if interval else None,
            "n": pair.count,
        }

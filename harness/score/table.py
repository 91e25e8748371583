"""Statistics of every example in little memory, and the estimates that follow from them: values with intervals.

Metrics compute statistics block by block; blocks are joined when all have been read, and any subset of the examples
has its value, its interval and its n from the same arrays.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from harness.score.statistics import MIN_FOR_BOOTSTRAP, Interval, bootstrap_interval, bootstrap_sums, wilson
from harness.score.survey import References
from harness.tasks.metrics.base import (
    AdditiveMetric,
    BoolArray,
    Features,
    FloatArray,
    Metric,
    ScoredExample,
    SetMetric,
    Statistics,
    Unavailable,
)
from harness.types import RowKey

NOTHING = "no example counts here"
_SUMS_AT_ONCE = 1 << 16
_LARGEST = np.iinfo(np.uint8).max
_ALL = slice(None)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval and n, or the reason why there is none."""

    value: float | None
    interval: Interval | None
    n: int
    unavailable: str | None


class Compact(NamedTuple):
    """`Statistics` in little memory: most columns are counts below 256, which take a byte each.

    Attributes:
        counts: (n, c) uint8.
        others: (n, k - c) float64.
        is_count: (k,), which of the columns are among `counts`.
        eligible: (n,).
    """

    counts: npt.NDArray[np.uint8]
    others: FloatArray
    is_count: BoolArray
    eligible: BoolArray

    @classmethod
    def of(cls, values: FloatArray, is_count: BoolArray, eligible: BoolArray) -> Compact:
        """The same numbers."""
        return cls(values[:, is_count].astype(np.uint8), values[:, ~is_count], is_count, eligible)

    def values(self, chosen: BoolArray | slice = _ALL) -> FloatArray:
        """The statistics (m, k) of chosen examples, row after row in memory."""
        counts = self.counts[chosen]
        values = np.empty((len(counts), len(self.is_count)))
        values[:, self.is_count], values[:, ~self.is_count] = counts, self.others[chosen]
        return values

    @staticmethod
    def joined(blocks: Sequence[Compact]) -> Compact:
        """Blocks one after the other; a column is of counts if it is so in all of them."""
        is_count = np.logical_and.reduce([block.is_count for block in blocks])
        same = [b if (b.is_count == is_count).all() else Compact.of(b.values(), is_count, b.eligible) for b in blocks]
        counts, others, _, eligible = zip(*same, strict=True)
        return Compact(np.concatenate(counts), np.concatenate(others), is_count, np.concatenate(eligible))


class Unpacked(Mapping[str, Statistics]):
    """`Statistics` by name, made anew from compact ones each time that they are asked for."""

    def __init__(self, compact: Mapping[str, Compact]) -> None:
        self._compact = compact

    def __getitem__(self, name: str) -> Statistics:
        found = self._compact[name]
        return Statistics(found.values(), found.eligible)

    def __iter__(self) -> Iterator[str]:
        return iter(self._compact)

    def __len__(self) -> int:
        return len(self._compact)


class TableKey(NamedTuple):
    """A model, the references it is scored against, and the emotion of the `annotated` view (None: all examples)."""

    row: RowKey
    references: References
    emotion: str | None = None


class Table:
    """Metrics of one list of scored examples, with the statistics of every example computed once, block by block.

    Attributes:
        metrics: what is computed, by name.
    """

    def __init__(self, metrics: Sequence[Metric], found: Collection[str]) -> None:
        self.metrics = {metric.name: metric for metric in metrics}
        self._statistics: dict[str, Compact] = {}
        self._features: dict[str, Features] = {}
        self._blocks: dict[str, list[Any]] = {}
        self._reasons: dict[str, str] = {}
        self._size = 0
        for name, metric in self.metrics.items():
            if (reason := metric.missing() or metric.lacking(found)) is not None:
                self._reasons[name] = reason

    def add(self, rows: Sequence[ScoredExample]) -> None:
        """Compute the statistics of a block."""
        self._size += len(rows)
        computed: set[str] = set()
        masks: dict[bytes, BoolArray] = {}  # few are different
        for name, metric in self.metrics.items():
            shared = metric.shared
            if name in self._reasons or shared in computed:
                continue
            computed.add(shared)
            try:
                if isinstance(metric, AdditiveMetric):
                    values, eligible = metric.statistics(rows)
                    eligible = masks.setdefault(eligible.tobytes(), eligible)
                    is_count = ((values >= 0) & (values <= _LARGEST) & (values == np.floor(values))).all(axis=0)
                    self._blocks.setdefault(shared, []).append(Compact.of(values, is_count, eligible))
                elif isinstance(metric, SetMetric):
                    self._blocks.setdefault(shared, []).append(metric.features(rows))
            except Unavailable as reason:
                self._reasons[name] = str(reason)
                computed.discard(shared)

    def close(self) -> None:
        """Join the blocks; nothing is added afterwards."""
        if not self._size:
            self.add([])
        joined: dict[str, Any] = {}
        masks: dict[bytes, BoolArray] = {}
        for name, metric in self.metrics.items():
            shared = metric.shared
            if name in self._reasons:
                continue
            if shared not in joined and isinstance(metric, AdditiveMetric):
                found = Compact.joined(self._blocks.pop(shared))
                joined[shared] = found._replace(eligible=masks.setdefault(found.eligible.tobytes(), found.eligible))
            elif shared not in joined:
                values, eligible = zip(*self._blocks.pop(shared), strict=True)
                joined[shared] = Features(np.concatenate(values), np.concatenate(eligible))
            if isinstance(metric, AdditiveMetric):
                self._statistics[name] = joined[shared]
            else:
                self._features[name] = joined[shared]

    def __len__(self) -> int:
        return self._size

    @property
    def statistics(self) -> Mapping[str, Statistics]:
        """By name of an additive metric, after `close`; of all examples that were added, in that order."""
        return Unpacked(self._statistics)

    def estimates(self, names: Sequence[str], mask: BoolArray, draws: int, seed: int) -> dict[str, Estimate]:
        """Estimates over the examples of `mask` (n,), for the metrics named, with so many bootstrap replicates."""
        intervals = self._intervals(names, mask, draws, seed)
        return {name: self._estimate(name, mask, intervals.get(name)) for name in names}

    def _estimate(self, name: str, mask: BoolArray, interval: Interval | None) -> Estimate:
        if name in self._reasons:
            return Estimate(None, None, 0, self._reasons[name])
        metric = self.metrics[name]
        found = self._statistics[name] if name in self._statistics else self._features[name]
        counted = found.eligible & mask
        n = int(counted.sum())
        if n == 0:
            return Estimate(None, None, 0, NOTHING)
        try:
            if isinstance(metric, AdditiveMetric):
                assert isinstance(found, Compact)
                value = float(metric.value(found.values(counted).sum(0)))
            else:
                assert isinstance(metric, SetMetric)
                assert isinstance(found, Features)
                value = metric.value(found.values[counted])
        except Unavailable as reason:
            return Estimate(None, None, n, str(reason))
        if not math.isfinite(value):
            return Estimate(None, None, n, "the value is not a finite number")
        return Estimate(value, wilson(value * n, n) if metric.proportion else interval, n, None)

    def _intervals(self, names: Sequence[str], mask: BoolArray, draws: int, seed: int) -> dict[str, Interval | None]:
        """Bootstrap intervals of the additive metrics that need one, all from the same resampled examples."""
        chosen = [n for n in names if n in self._statistics and not self.metrics[n].proportion]
        chosen = [n for n in chosen if (self._statistics[n].eligible & mask).sum() >= MIN_FOR_BOOTSTRAP]
        if not chosen or not draws:
            return {}
        shared = {self.metrics[n].shared: self._statistics[n] for n in chosen}
        ends = np.cumsum([0, *(len(found.is_count) for found in shared.values())]).tolist()
        joined = np.empty((int(mask.sum()), ends[-1]))
        for found, start, end in zip(shared.values(), ends, ends[1:], strict=False):
            joined[:, start:end] = found.values(mask)
        sums = dict(zip(shared, np.split(bootstrap_sums(joined, draws, seed), ends[1:-1], axis=1), strict=True))
        del joined
        intervals: dict[str, Interval | None] = {}
        for name in chosen:
            metric, own = self.metrics[name], self._statistics[name]
            counted = own.values(own.eligible & mask)
            assert isinstance(metric, AdditiveMetric)
            total = counted.sum(0)
            value = metric.over(total).value
            left_out = [value(total - counted[i : i + _SUMS_AT_ONCE]) for i in range(0, len(counted), _SUMS_AT_ONCE)]
            resampled, observed = value(sums[metric.shared]), float(value(total))
            intervals[name] = bootstrap_interval(resampled, observed, np.concatenate(left_out))
        return intervals

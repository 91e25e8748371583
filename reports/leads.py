"""Which row leads by a metric, and whether its lead over the runner-up is beyond chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.reports.metric_table import MetricInfo
from harness.reports.numerals import number_or_none
from harness.reports.task_view import CellKey, Row, TaskView

SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True)
class Lead:
    """The best ranked row and the next; controls and people do not take part.

    Attributes:
        first, second: by value in the metric's better direction.
        difference: first minus second on the pictures that both share, with interval and Holm-adjusted p; all None
            where the two were not compared, as rows of different runs are not.
        n: pictures of the comparison.
        is_ahead: whether the first is the better one on the shared pictures, too. Values of texts rest on each row's
            own answered pictures, so it may not be.
    """

    first: Row
    second: Row
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p_holm: float | None = None
    n: int | None = None
    is_ahead: bool = False

    @property
    def is_significant(self) -> bool:
        """Better than the runner-up with Holm-adjusted p below `SIGNIFICANT`."""
        return self.is_ahead and self._is_beyond_chance

    @property
    def is_reversed(self) -> bool:
        """On the shared pictures the runner-up is better beyond chance."""
        return not self.is_ahead and self._is_beyond_chance

    @property
    def _is_beyond_chance(self) -> bool:
        return self.p_holm is not None and self.p_holm < SIGNIFICANT


def lead(view: TaskView, info: MetricInfo) -> Lead | None:
    """The lead by a metric; None where fewer than two ranked rows have it or neither direction is better."""
    if info.higher_is_better is None:
        return None
    sign = 1.0 if info.higher_is_better else -1.0
    rivals = [
        (sign * value, row)
        for row in view.rows
        if row.is_ranked and row.kind != "control" and not row.is_person
        if (value := view.value(CellKey(row.id, info.name))) is not None
    ]
    if len(rivals) < 2:
        return None
    (_, first), (_, second) = sorted(rivals, key=lambda rival: -rival[0])[:2]
    entry = _comparison(view, info.name, first, second)
    if entry is None:
        return Lead(first, second)
    difference, low, high = (number_or_none(entry, name) for name in ("difference", "low", "high"))
    if entry["a"] == second.id.model:
        difference, low, high = _negated(difference), _negated(high), _negated(low)
    n = number_or_none(entry, "n")
    is_ahead = difference is not None and sign * difference > 0
    p_holm = number_or_none(entry, "p_holm")
    return Lead(first, second, difference, low, high, p_holm, None if n is None else int(n), is_ahead)


def _comparison(view: TaskView, metric: str, first: Row, second: Row) -> Mapping[str, Any] | None:
    if first.id.run != second.id.run:
        return None
    run = next(run for run in view.runs if run.index == first.id.run)
    wanted = {first.id.model, second.id.model}
    entries = run.entries("comparisons", view.name)
    return next(
        (e for e in entries if (e["metric"], e.get("emotion")) == (metric, None) and {e["a"], e["b"]} == wanted), None
    )


def _negated(value: float | None) -> float | None:
    return None if value is None else -value

"""Who is better than whom: the lead by a metric, all paired differences, and the leads across tasks.

Nothing is averaged across tasks: their labels, their people and how often they agree differ, so 40 % of nine emotions
and 60 % of three are not 50 % of anything. Each line is read on its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.reports.numbers import (
    MetricInfo,
    Shown,
    number_or_none,
    shown_difference,
    shown_p,
)
from harness.reports.view import CellKey, LeaderboardRow, Run, TaskView

SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True)
class Lead:
    """The best ranked row and the next; controls and people do not take part.

    Attributes:
        first, second: by value in the metric's better direction.
        difference: first minus second on the images that both share, with interval and Holm-adjusted p; all None
            if the two were not compared, as rows of different runs are not.
        n: images of the comparison.
        is_ahead: whether the first is the better one on the shared images, too. Values of texts rest on each row's
            own answered images, so it may not be.
    """

    first: LeaderboardRow
    second: LeaderboardRow
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
        """On the shared images the runner-up is better beyond chance."""
        return not self.is_ahead and self._is_beyond_chance

    @property
    def _is_beyond_chance(self) -> bool:
        return self.p_holm is not None and self.p_holm < SIGNIFICANT


def lead(view: TaskView, info: MetricInfo) -> Lead | None:
    """The lead by a metric; None if fewer than two ranked rows have it or neither direction is better."""
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


def _comparison(view: TaskView, metric: str, first: LeaderboardRow, second: LeaderboardRow) -> Mapping[str, Any] | None:
    if first.id.run != second.id.run:
        return None
    wanted = {first.id.model, second.id.model}
    entries = view.run_of(first).entries("comparisons", view.name)
    return next(
        (e for e in entries if (e["metric"], e.get("emotion")) == (metric, None) and {e["a"], e["b"]} == wanted), None
    )


def _negated(value: float | None) -> float | None:
    return None if value is None else -value


@dataclass(frozen=True, slots=True)
class Pair:
    """One comparison as printed: `difference` is a − b."""

    info: MetricInfo
    emotion: str | None
    a: str
    b: str
    difference: str
    interval: str
    p: str
    p_holm: str
    n: int | None
    verdict: str
    is_significant: bool


def pairs(view: TaskView) -> tuple[list[Pair], list[Pair]]:
    """Overall comparisons, and those per emotion (a family of tests of its own), in the order of the metrics."""
    found = [_pair(view, run, entry) for run in view.runs for entry in run.entries("comparisons", view.name)]
    order = view.infos({pair.info.name for pair in found})
    found.sort(key=lambda pair: order.index(pair.info))
    return [p for p in found if p.emotion is None], [p for p in found if p.emotion is not None]


def _pair(view: TaskView, run: Run, entry: Mapping[str, Any]) -> Pair:
    info = view.info(entry["metric"])
    a, b = (_label(view, run, str(entry[side])) for side in ("a", "b"))
    difference, p_holm = number_or_none(entry, "difference"), number_or_none(entry, "p_holm")
    low, high = number_or_none(entry, "low"), number_or_none(entry, "high")
    interval = "" if low is None else f"{shown_difference(info, low)} to {shown_difference(info, high)}"
    is_significant = p_holm is not None and p_holm < SIGNIFICANT
    n = entry.get("n")
    return Pair(
        info,
        entry.get("emotion"),
        a,
        b,
        shown_difference(info, difference),
        interval,
        shown_p(number_or_none(entry, "p")),
        shown_p(p_holm),
        int(n) if n is not None else None,
        _better(info, a, b, difference) if is_significant else "no difference shown",
        is_significant,
    )


def _label(view: TaskView, run: Run, stem: str) -> str:
    model, _, control = stem.partition("@")
    row = view.row(run.index, model, control or None)
    return row.label if row is not None else stem


def _better(info: MetricInfo, a: str, b: str, difference: float | None) -> str:
    if not difference:
        return "no difference shown"
    higher = a if difference > 0 else b
    if info.higher_is_better is None:
        return f"{higher} higher"
    return f"{higher if info.higher_is_better else (b if higher == a else a)} better"


@dataclass(frozen=True, slots=True)
class Line:
    """One task: a cell for each row of the report, and the lead in words; `leader` is the index of the first row."""

    view: TaskView
    n: int | None
    cells: tuple[Shown, ...]
    verdict: str
    evidence: str
    is_significant: bool
    leader: int | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """One metric across the tasks that have it.

    Attributes:
        labels: row labels, models first.
        absent: tasks that do not have the metric.
    """

    info: MetricInfo
    labels: tuple[str, ...]
    lines: tuple[Line, ...]
    absent: tuple[str, ...]


def summaries(views: Sequence[TaskView]) -> list[Summary]:
    """A summary for each headline metric that at least one task has; none for a single task."""
    if len(views) < 2:
        return []
    names = dict.fromkeys(name for view in views for name in view.headlines)
    found = [_summary(views, name) for name in names]
    return [summary for summary in found if summary.lines]


def _summary(views: Sequence[TaskView], name: str) -> Summary:
    rows = [(view, row) for view in views for row in _rows(view) if view.value(CellKey(row.id, name)) is not None]
    having = list({view.slug: view for view, _ in rows}.values())
    labels = tuple(dict.fromkeys(r.label for kind in ("model", "reference") for _, r in rows if r.kind == kind))
    absent = tuple(view.name for view in views if view not in having)
    info = (having or views)[0].info(name)
    return Summary(info, labels, tuple(_line(view, info, labels) for view in having), absent)


def _rows(view: TaskView) -> list[LeaderboardRow]:
    """Rows that are scored against all references: no people, and no model without its image."""
    return [row for row in view.rows if row.kind != "control" and not row.is_person]


def _line(view: TaskView, info: MetricInfo, labels: Sequence[str]) -> Line:
    best = lead(view, info)
    rows = {row.label: row for row in _rows(view)}
    cells = tuple(_summary_cell(view, info, rows.get(label)) for label in labels)
    counts = [cell.n for cell in cells if cell.value is not None and cell.n is not None]
    n = max(set(counts), key=lambda one: (counts.count(one), one), default=None)
    if best is None:
        return Line(view, n, cells, "nothing to compare", "", False)
    leader = labels.index(best.first.label)
    if best.difference is None:
        verdict = f"{best.first.label} first, {best.second.label} next"
        return Line(view, n, cells, verdict, "not compared: rows of different runs", False, leader)
    difference, low, high = (shown_difference(info, one) for one in (best.difference, best.low, best.high))
    interval = f" [{low} to {high}]" if best.low is not None else ""
    p = shown_p(best.p_holm)
    evidence = f"{difference}{interval}, p {p if p.startswith('<') else '= ' + p}, n {best.n}"
    return Line(view, n, cells, _verdict(best), evidence, best.is_significant, leader)


def _verdict(best: Lead) -> str:
    first, second = best.first.label, best.second.label
    if best.is_significant:
        return f"{first} better than {second}"
    if best.is_reversed:
        return f"{first} first, but {second} better on the images of both"
    return f"{first} first; no difference to {second} shown"


def _summary_cell(view: TaskView, info: MetricInfo, row: LeaderboardRow | None) -> Shown:
    if row is None:
        return Shown("–", reason="not run on this task")
    found = Shown.of(info, view.cells.get(CellKey(row.id, info.name)))
    is_marked = found.value is not None and not row.is_ranked
    return dataclasses.replace(found, text=f"{found.text} †") if is_marked else found

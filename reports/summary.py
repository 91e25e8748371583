"""Several tasks on one page: who leads on which, and by how much.

Nothing is averaged across tasks: their labels, their people and how often they agree differ, so 40 % of nine emotions
and 60 % of three are not 50 % of anything. Each line is read on its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.reports.leads import Lead, lead
from harness.reports.metric_table import MetricInfo, metric_info
from harness.reports.numerals import number_or_none, shown, shown_difference, shown_interval, shown_p
from harness.reports.task_view import CellKey, Row, TaskView

METRICS = ("accuracy", "macro_f1", "annotator_mass", "cider_d", "emotional_alignment", "ccc_valence", "ccc_arousal")
"""What is summed up: labels, explanations, ratings."""


@dataclass(frozen=True, slots=True)
class SummaryCell:
    """One row's number on one task; `reason` says why there is none."""

    text: str
    interval: str = ""
    n: int | None = None
    reason: str = ""
    is_lead: bool = False
    is_significant: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One task: a cell for each row of the report, and the lead in words."""

    view: TaskView
    n: int | None
    cells: tuple[SummaryCell, ...]
    verdict: str
    evidence: str
    is_significant: bool


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
    """A summary for each metric that at least one task has; none for a single task."""
    if len(views) < 2:
        return []
    found = [_summary(views, metric_info(name)) for name in METRICS]
    return [summary for summary in found if summary.lines]


def _summary(views: Sequence[TaskView], info: MetricInfo) -> Summary:
    having = [view for view in views if any(_value(view, row, info) is not None for row in _rows(view))]
    rows = [row for view in having for row in _rows(view) if _value(view, row, info) is not None]
    labels = tuple(dict.fromkeys(row.label for kind in ("model", "reference") for row in rows if row.kind == kind))
    absent = tuple(view.name for view in views if view not in having)
    return Summary(info, labels, tuple(_line(view, info, labels) for view in having), absent)


def _rows(view: TaskView) -> list[Row]:
    """Rows that are scored against all references: no people, and no model without its picture."""
    return [row for row in view.rows if row.kind != "control" and not row.is_person]


def _value(view: TaskView, row: Row, info: MetricInfo) -> float | None:
    return view.value(CellKey(row.id, info.name))


def _line(view: TaskView, info: MetricInfo, labels: Sequence[str]) -> Line:
    best = lead(view, info)
    rows = {row.label: row for row in _rows(view)}
    cells = tuple(_cell(view, info, rows.get(label)) for label in labels)
    counts = [cell.n for cell in cells if cell.n is not None]
    n = max(set(counts), key=lambda one: (counts.count(one), one), default=None)
    if best is None:
        return Line(view, n, cells, "nothing to compare", "", False)
    cells = tuple(
        _marked(cell, best.is_significant) if label == best.first.label else cell
        for label, cell in zip(labels, cells, strict=True)
    )
    if best.difference is None:
        verdict, evidence = (
            f"{best.first.label} first, {best.second.label} next",
            "not compared: rows of different runs",
        )
        return Line(view, n, cells, verdict, evidence, False)
    verdict = _verdict(best)
    difference, low, high = (shown_difference(info, one) for one in (best.difference, best.low, best.high))
    interval = f" [{low} to {high}]" if best.low is not None else ""
    p = shown_p(best.p_holm)
    evidence = f"{difference}{interval}, p {p if p.startswith('<') else '= ' + p}, n {best.n}"
    return Line(view, n, cells, verdict, evidence, best.is_significant)


def _verdict(best: Lead) -> str:
    first, second = best.first.label, best.second.label
    if best.is_significant:
        return f"{first} better than {second}"
    if best.is_reversed:
        return f"{first} first, but {second} better on the pictures of both"
    return f"{first} first; no difference to {second} shown"


def _cell(view: TaskView, info: MetricInfo, row: Row | None) -> SummaryCell:
    if row is None:
        return SummaryCell("–", reason="not run on this task")
    cell = view.cells.get(CellKey(row.id, info.name))
    value = _value(view, row, info)
    if cell is None or value is None:
        return SummaryCell("–", reason=str((cell or {}).get("unavailable") or "not measured for this row"))
    interval = shown_interval(info, number_or_none(cell, "low"), number_or_none(cell, "high"))
    mark = "" if row.is_ranked else " †"
    return SummaryCell(shown(info, value) + mark, interval, int(cell["n"]) if cell.get("n") is not None else None)


def _marked(cell: SummaryCell, is_significant: bool) -> SummaryCell:
    return SummaryCell(cell.text, cell.interval, cell.n, cell.reason, True, is_significant)

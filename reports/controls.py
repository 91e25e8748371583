"""What rows still score when the picture is blank or that of another item: that much they did not read off it."""

from __future__ import annotations

from dataclasses import dataclass

from harness.reports.metric_table import HEADLINES, MetricInfo, metric_info
from harness.reports.numerals import number_or_none, shown, shown_difference, shown_interval
from harness.reports.task_view import CellKey, Row, RowId, TaskView


@dataclass(frozen=True, slots=True)
class Score:
    """A value with its interval; a dash with its reason."""

    text: str
    interval: str
    reason: str


@dataclass(frozen=True, slots=True)
class ControlLine:
    """A model: its score with the picture, then for each control the score and the drop."""

    row: Row
    own: Score
    controls: tuple[tuple[Score, str], ...]


@dataclass(frozen=True, slots=True)
class ControlTable:
    """One metric; `controls` names the columns."""

    info: MetricInfo
    controls: tuple[str, ...]
    lines: tuple[ControlLine, ...]


def control_tables(view: TaskView) -> list[ControlTable]:
    """A table for each headline metric, empty where no control was run."""
    names = tuple(dict.fromkeys(row.id.control for row in view.rows if row.id.control is not None))
    under = {row.id for row in view.rows if row.id.control is not None}
    models = [row for row in view.rows if any(row.id._replace(control=name) in under for name in names)]
    metrics = [name for name in HEADLINES if any((CellKey(row, name) in view.cells) for row in under)]
    return [
        ControlTable(info, names, tuple(_line(view, row, info, names) for row in models if row.id.control is None))
        for info in map(metric_info, metrics)
    ]


def _line(view: TaskView, row: Row, info: MetricInfo, names: tuple[str, ...]) -> ControlLine:
    found = []
    for name in names:
        other = row.id._replace(control=name)
        found.append((_score(view, other, info), _drop(view, row.id, other, info)))
    return ControlLine(row, _score(view, row.id, info), tuple(found))


def _score(view: TaskView, row: RowId, info: MetricInfo) -> Score:
    key = CellKey(row, info.name)
    cell, value = view.cells.get(key), view.value(key)
    if cell is None or value is None:
        return Score("–", "", str((cell or {}).get("unavailable") or "not measured for this row"))
    low, high = number_or_none(cell, "low"), number_or_none(cell, "high")
    return Score(shown(info, value), shown_interval(info, low, high), "")


def _drop(view: TaskView, row: RowId, other: RowId, info: MetricInfo) -> str:
    own, controlled = view.value(CellKey(row, info.name)), view.value(CellKey(other, info.name))
    return "" if own is None or controlled is None else shown_difference(info, own - controlled)

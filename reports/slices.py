"""Results by style, period or any other key along which a task is cut."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.reports.emotions import FEW
from harness.reports.metric_table import MetricInfo, display_rank, metric_info
from harness.reports.numerals import number_or_none, shown, shown_interval
from harness.reports.task_view import HELD_OUT, Row, RowId, TaskView

LONGEST = 60
"""Lines of a table at most: a key such as the artist has thousands of values; cells.csv holds them all."""


@dataclass(frozen=True, slots=True)
class SliceCell:
    """One number; `is_few` marks less than ten pictures."""

    text: str
    interval: str
    n: int | None
    is_few: bool
    reason: str


@dataclass(frozen=True, slots=True)
class SliceTable:
    """One metric cut along one key: a line per value (most pictures first), a column per row.

    `left_out` counts the values beyond the first `LONGEST`.
    """

    key: str
    info: MetricInfo
    rows: tuple[Row, ...]
    lines: tuple[tuple[str, tuple[SliceCell, ...]], ...]
    left_out: int


def slice_tables(view: TaskView) -> list[SliceTable]:
    """All slices of results.json, by key in the task's order and by metric."""
    people = {row.id for row in view.rows if row.is_person}
    cuts: dict[tuple[str, str], dict[tuple[RowId, str], Mapping[str, Any]]] = {}
    for key, cell in view.cells.items():
        wanted = HELD_OUT if key.row in people else ("all",)
        if key.slice is not None and key.emotion is None and key.references in wanted:
            name, value = key.slice
            cuts.setdefault((name, key.metric), {})[key.row, value] = cell
    declared = [str(name) for name in view.entry.get("slices") or ()]
    order = sorted(cuts, key=lambda cut: (cut[0] not in declared, cut[0], display_rank(cut[1])))
    return [_table(view, name, metric_info(metric), cuts[name, metric]) for name, metric in order]


def _table(
    view: TaskView, name: str, info: MetricInfo, cells: Mapping[tuple[RowId, str], Mapping[str, Any]]
) -> SliceTable:
    size: dict[str, int] = {}
    for (_, value), cell in cells.items():
        size[value] = max(size.get(value, 0), int(cell.get("n") or 0))
    present = {row_id for row_id, _ in cells}
    rows = tuple(row for row in view.rows if row.id in present)
    values = sorted(size, key=lambda value: (-size[value], value))
    lines = tuple((value, tuple(_cell(info, cells.get((row.id, value))) for row in rows)) for value in values[:LONGEST])
    return SliceTable(name, info, rows, lines, max(0, len(values) - LONGEST))


def _cell(info: MetricInfo, cell: Mapping[str, Any] | None) -> SliceCell:
    value = None if cell is None or cell.get("unavailable") else number_or_none(cell, "value")
    n = int(cell["n"]) if cell is not None and cell.get("n") is not None else None
    if cell is None or value is None:
        return SliceCell("–", "", n, False, str((cell or {}).get("unavailable") or "not measured for this row"))
    interval = shown_interval(info, number_or_none(cell, "low"), number_or_none(cell, "high"))
    return SliceCell(shown(info, value), interval, n, (n or 0) < FEW, "")

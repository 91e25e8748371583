"""Results by style, period or any other key along which a task is cut."""

from __future__ import annotations

from dataclasses import dataclass

from harness.reports.emotions import FEW
from harness.reports.metric_table import MetricInfo, display_rank, metric_info
from harness.reports.numerals import number_or_none, shown, shown_interval
from harness.reports.task_view import CellKey, Row, TaskView

LONGEST = 60
"""Lines of a table at most: a key such as the artist has thousands of values; cells.csv holds them all."""


@dataclass(frozen=True, slots=True)
class SliceCell:
    """One number; `is_few` marks less than ten paintings."""

    text: str
    interval: str
    n: int | None
    is_few: bool
    reason: str


@dataclass(frozen=True, slots=True)
class SliceTable:
    """One metric cut along one key: a line per value (most paintings first), a column per row.

    `left_out` counts the values beyond the first `LONGEST`.
    """

    key: str
    info: MetricInfo
    rows: tuple[Row, ...]
    lines: tuple[tuple[str, tuple[SliceCell, ...]], ...]
    left_out: int


def slice_tables(view: TaskView) -> list[SliceTable]:
    """All slices of results.json, by key in the task's order and by metric."""
    sliced = [key for key in view.cells if key.slice is not None and key.emotion is None and key.references == "all"]
    declared = [str(name) for name in view.entry.get("slices") or ()]
    names = sorted({key.slice[0] for key in sliced if key.slice}, key=lambda n: (n not in declared, n))
    tables = []
    for name in names:
        metrics = {key.metric for key in sliced if key.slice and key.slice[0] == name}
        tables += [_table(view, name, metric_info(metric)) for metric in sorted(metrics, key=display_rank)]
    return tables


def _table(view: TaskView, name: str, info: MetricInfo) -> SliceTable:
    size: dict[str, int] = {}
    present = set()
    for key, cell in view.cells.items():
        if key.slice is not None and key.slice[0] == name and key.metric == info.name and key.references == "all":
            size[key.slice[1]] = max(size.get(key.slice[1], 0), int(cell.get("n") or 0))
            present.add(key.row)
    rows = tuple(row for row in view.rows if row.id in present)
    values = sorted(size, key=lambda value: (-size[value], value))
    lines = tuple(
        (value, tuple(_cell(view, info, CellKey(row.id, info.name, slice=(name, value))) for row in rows))
        for value in values[:LONGEST]
    )
    return SliceTable(name, info, rows, lines, max(0, len(values) - LONGEST))


def _cell(view: TaskView, info: MetricInfo, key: CellKey) -> SliceCell:
    cell, value = view.cells.get(key), view.value(key)
    n = int(cell["n"]) if cell is not None and cell.get("n") is not None else None
    if cell is None or value is None:
        return SliceCell("–", "", n, False, str((cell or {}).get("unavailable") or "not measured for this row"))
    interval = shown_interval(info, number_or_none(cell, "low"), number_or_none(cell, "high"))
    return SliceCell(shown(info, value), interval, n, (n or 0) < FEW, "")

"""The leaderboard: one table per set of references, sorted, with intervals, marks and reasons."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.reports.leads import lead
from harness.reports.metric_table import GROUPS, Group, MetricInfo, display_rank, metric_info
from harness.reports.numerals import number_or_none, shown, shown_interval
from harness.reports.task_view import HELD_OUT, CellKey, Coverage, Row, RowId, TaskView

_COVERAGE = ("answered", "refused", "unparsed", "failed")
_RESOURCES = ("parameters", "peak_memory_gb")
_COSTS = ("cost", "cost-more")
_TEXT_GROUPS = ("text", "text-more", "affect", "vad", "variety")

BODIES: tuple[tuple[str, str], ...] = (
    ("model", "Models"),
    ("reference", "Reference points"),
    ("control", "Controls: the picture was replaced"),
)
REFERENCE_TABLES: dict[str, tuple[str, str]] = {
    "leave_one_out": (
        "Against one held-out person",
        "Every row is scored on the same remaining annotations, without the held-out one. This is the only table in "
        "which the human row and the models may be compared.",
    ),
    "leave_half_out": (
        "Against half of the annotators",
        "Every row is scored on the same half of the annotations; the commonest label of the other half is the crowd "
        "row's answer. This is the only table in which the crowd row and the models may be compared.",
    ),
    "same_emotion": (
        "Against references of the answered emotion only",
        "An explanation is compared only with annotators who felt the emotion that the row answered.",
    ),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One number as printed.

    Attributes:
        text: the value, or a dash.
        interval: `low–high`, empty without one.
        sort: the unrounded value, None where there is none.
        n: pictures behind the value, where known.
        reason: why there is no value, empty otherwise.
        is_best: better than the runner-up beyond chance.
        is_held_out: measured on the remaining references of the human row.
    """

    text: str
    interval: str = ""
    sort: float | None = None
    n: int | None = None
    reason: str = ""
    is_best: bool = False
    is_held_out: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """A metric's column; `n`, its most common count of pictures, stands in the heading, other counts in the cells."""

    info: MetricInfo
    n: int | None


@dataclass(frozen=True, slots=True)
class BoardRow:
    """One printed row."""

    row: Row
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Body:
    """Rows that belong together."""

    kind: str
    title: str
    rows: tuple[BoardRow, ...]


@dataclass(frozen=True, slots=True)
class Board:
    """A whole table.

    Attributes:
        key: which references were used.
        groups: (group, number of its columns), in column order.
        sorted_by: index of the column that orders the rows, None if no column has a direction.
    """

    key: str
    title: str
    note: str
    groups: tuple[tuple[Group, int], ...]
    columns: tuple[Column, ...]
    bodies: tuple[Body, ...]
    sorted_by: int | None

    @property
    def has_texts(self) -> bool:
        """Whether explanations are scored here."""
        return any(column.info.group in _TEXT_GROUPS for column in self.columns)

    @property
    def scale_note(self) -> str:
        """The scale of the numbers, as far as they are here."""
        has_cider = any(column.info.name == "cider_d" for column in self.columns)
        return f"Fractions in percent{', CIDEr-D from 0 to 10' if has_cider else ''}"


def boards(view: TaskView) -> list[Board]:
    """The main leaderboard and one table for each other set of references that was scored."""
    tables = [_board(view, "all", "Leaderboard", "")]
    for references, (title, note) in REFERENCE_TABLES.items():
        if view.metrics(references=references, emotion=None, slice=None):
            tables.append(_board(view, references, title, note))
    return tables


def _board(view: TaskView, references: str, title: str, note: str) -> Board:
    infos = _columns(view, references)
    best = _winners(view, infos) if references == "all" else {}
    printed = [
        BoardRow(row, tuple(_cell(view, row, info, references, best.get(info.name) == row.id) for info in infos))
        for row in view.rows
    ]
    if references != "all":
        printed = [row for row in printed if any(cell.sort is not None or cell.reason for cell in row.cells)]
    lead = next((i for i, info in enumerate(infos) if info.higher_is_better is not None), None)
    bodies = tuple(
        Body(kind, body_title, _ordered([r for r in printed if r.row.kind == kind], lead, infos))
        for kind, body_title in BODIES
        if any(r.row.kind == kind for r in printed)
    )
    columns = tuple(Column(info, _common_n(row.cells[i] for row in printed)) for i, info in enumerate(infos))
    return Board(references, title, note, _spans(infos), columns, bodies, lead)


def _columns(view: TaskView, references: str) -> list[MetricInfo]:
    names = view.metrics(references=references, emotion=None, slice=None)
    if references == "all":
        names |= {n for held_out in HELD_OUT for n in view.metrics(references=held_out, emotion=None, slice=None)}
        names |= set(_COVERAGE) if any(row.coverage for row in view.rows) else set()
        names |= {n for n in _RESOURCES if any(number_or_none(r.resources, n) is not None for r in view.rows)}
    return [metric_info(name) for name in sorted(names, key=display_rank)]


def _spans(infos: Sequence[MetricInfo]) -> tuple[tuple[Group, int], ...]:
    counted = ((group, sum(info.group == group.key for info in infos)) for group in GROUPS)
    return tuple((group, number) for group, number in counted if number)


def _cell(view: TaskView, row: Row, info: MetricInfo, references: str, is_best: bool) -> Cell:
    if info.name in _COVERAGE:
        return _coverage_cell(row.coverage, info)
    key = CellKey(row.id, info.name, references=references)
    cell = view.cells.get(key)
    if cell is None and info.name in _RESOURCES:
        return _printed(info, {"value": number_or_none(row.resources, info.name)})
    if view.value(key) is not None and cell is not None:
        return _printed(info, cell, is_best=is_best)
    remaining = (view.cells.get(key._replace(references=held_out)) for held_out in HELD_OUT)
    own = next((found for found in remaining if found is not None), None)
    if references == "all" and row.is_person and own is not None and not own.get("unavailable"):
        return _printed(info, own, is_held_out=info.group not in _COSTS)
    reason = cell.get("unavailable") if cell is not None else None
    return Cell("–", reason=str(reason or "not measured for this row"))


def _printed(info: MetricInfo, cell: Any, *, is_best: bool = False, is_held_out: bool = False) -> Cell:
    value = number_or_none(cell, "value")
    if value is None or not math.isfinite(value):
        return Cell("–", reason="not known")
    interval = shown_interval(info, number_or_none(cell, "low"), number_or_none(cell, "high"))
    n = None if info.group in _COSTS else cell.get("n")
    return Cell(shown(info, value), interval, value, int(n) if n is not None else None, "", is_best, is_held_out)


def _coverage_cell(coverage: Coverage | None, info: MetricInfo) -> Cell:
    if coverage is None:
        return Cell("–", reason="coverage is not recorded")
    if info.name == "answered":
        return Cell(shown(info, coverage.share), f"{coverage.answered}/{coverage.examples}", coverage.share)
    number = float(getattr(coverage, info.name))
    return Cell(shown(info, number), "", number)


def _common_n(cells: Iterable[Cell]) -> int | None:
    counts = Counter(cell.n for cell in cells if cell.sort is not None and cell.n is not None)
    return max(counts, key=lambda n: (counts[n], n), default=None)


def _ordered(rows: list[BoardRow], column: int | None, infos: Sequence[MetricInfo]) -> tuple[BoardRow, ...]:
    """Best first; rows that are not ranked and then rows without the value follow."""
    if column is None:
        return tuple(rows)
    sign = -1.0 if infos[column].higher_is_better else 1.0

    def rank(row: BoardRow) -> tuple[bool, bool, float]:
        value = row.cells[column].sort
        return value is None, not row.row.is_ranked, sign * (value or 0.0)

    return tuple(sorted(rows, key=rank))


def _winners(view: TaskView, infos: Sequence[MetricInfo]) -> dict[str, RowId]:
    """By metric the row that beats the runner-up beyond chance."""
    leads = ((info.name, lead(view, info)) for info in infos)
    return {name: found.first.id for name, found in leads if found is not None and found.is_significant}

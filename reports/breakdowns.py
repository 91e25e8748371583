"""Where a row is good and where not: by emotion, by style or any other key, and without its image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.reports.numbers import MetricInfo, Shown, shown, shown_difference
from harness.reports.view import HELD_OUT, CellKey, LeaderboardRow, RowId, TaskView

HEAT_STEPS = 10

VIEWS: tuple[tuple[str, str, str], ...] = (
    ("annotated", "annotated with the emotion", "images with at least one annotation of the emotion"),
    ("reference", "dominant emotion", "images whose dominant human emotion it is"),
    ("predicted", "answered emotion", "images for which the row answered it"),
)


@dataclass(frozen=True, slots=True)
class Heatmap:
    """One metric in one view; `low` and `high` are the ends of its colour scale, None if every cell is grey."""

    info: MetricInfo
    view: str
    view_title: str
    view_description: str
    low: float | None
    high: float | None
    rows: tuple[tuple[LeaderboardRow, tuple[Shown, ...]], ...]

    @property
    def view_choice(self) -> tuple[str, str]:
        """Key and title of the view."""
        return self.view, self.view_title

    @property
    def ends(self) -> tuple[str, str] | None:
        """The ends of the colour scale as text."""
        return None if self.low is None else (shown(self.info, self.low), shown(self.info, self.high))

    def step(self, cell: Shown) -> int | None:
        """Colour step 0 … `HEAT_STEPS` - 1, None without a value or on too few images."""
        if cell.value is None or cell.is_few or self.low is None or self.high is None:
            return None
        return heat_step(cell.value, self.low, self.high)


_REFERENCES = {
    "annotated": ("emotion", "same_emotion", "all"),
    "reference": ("all", "same_emotion"),
    "predicted": ("all", "same_emotion"),
}


def heatmaps(view: TaskView) -> list[Heatmap]:
    """All metrics in all views that results.json holds, the default (`annotated`, first metric) first.

    A cell has the references that its view is about: of several sets that were scored, the first of `_REFERENCES`.
    """
    people = {row.id for row in view.rows if row.is_person}
    best: dict[tuple[RowId, str, str, str], tuple[int, Mapping[str, Any]]] = {}
    for key, cell in view.cells.items():
        if key.emotion is None or key.conditioned_on is None:
            continue
        wanted = _REFERENCES.get(key.conditioned_on, ()) + (HELD_OUT if key.row in people else ())
        if key.references in wanted:
            place, rank = (key.row, key.metric, key.emotion, key.conditioned_on), wanted.index(key.references)
            if place not in best or rank < best[place][0]:
                best[place] = (rank, cell)
    cells = {place: cell for place, (_, cell) in best.items()}
    maps = []
    for conditioned_on, title, description in VIEWS:
        names = {metric for _, metric, _, view_name in cells if view_name == conditioned_on}
        for info in view.infos(names):
            found = [
                (row, [cells.get((row.id, info.name, emotion, conditioned_on)) for emotion in view.emotions])
                for row in view.rows
            ]
            rows = tuple((row, tuple(Shown.of(info, cell) for cell in line)) for row, line in found if any(line))
            solid = [cell.value for _, line in rows for cell in line if cell.value is not None and not cell.is_few]
            low, high = min(solid, default=None), max(solid, default=None)
            maps.append(Heatmap(info, conditioned_on, title, description, low, high, rows))
    return maps


def heat_step(value: float, low: float, high: float) -> int:
    """The colour step of `value` on a linear scale from `low` to `high`; the middle when they are equal."""
    if high <= low:
        return HEAT_STEPS // 2
    return min(HEAT_STEPS - 1, int((value - low) / (high - low) * HEAT_STEPS))


LONGEST = 60
"""Lines of a table at most: a key such as the artist has thousands of values; cells.csv holds them all."""


@dataclass(frozen=True, slots=True)
class SliceTable:
    """One metric cut along one key: a line per value (most images first), a column per row.

    `left_out` counts the values beyond the first `LONGEST`.
    """

    key: str
    info: MetricInfo
    rows: tuple[LeaderboardRow, ...]
    lines: tuple[tuple[str, tuple[Shown, ...]], ...]
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
    names = sorted({name for name, _ in cuts}, key=lambda name: (name not in declared, name))
    infos = view.infos({metric for _, metric in cuts})
    tables = []
    for name, info in ((name, info) for name in names for info in infos if (name, info.name) in cuts):
        cells = cuts[name, info.name]
        size: dict[str, int] = {}
        for (_, value), cell in cells.items():
            size[value] = max(size.get(value, 0), int(cell.get("n") or 0))
        present = {row_id for row_id, _ in cells}
        rows = tuple(row for row in view.rows if row.id in present)
        values = sorted(size, key=lambda value: (-size[value], value))
        lines = tuple((v, tuple(Shown.of(info, cells.get((row.id, v))) for row in rows)) for v in values[:LONGEST])
        tables.append(SliceTable(name, info, rows, lines, max(0, len(values) - LONGEST)))
    return tables


@dataclass(frozen=True, slots=True)
class ControlLine:
    """A model: its score with the image, then for each control the score and the drop."""

    row: LeaderboardRow
    own: Shown
    controls: tuple[tuple[Shown, str], ...]


@dataclass(frozen=True, slots=True)
class ControlTable:
    """One metric; `controls` names the columns."""

    info: MetricInfo
    controls: tuple[str, ...]
    lines: tuple[ControlLine, ...]


def control_tables(view: TaskView) -> list[ControlTable]:
    """A table for each headline metric, empty if no control was run."""
    names = tuple(dict.fromkeys(row.id.control for row in view.rows if row.id.control is not None))
    under = {row.id for row in view.rows if row.id.control is not None}
    models = [
        row
        for row in view.rows
        if row.id.control is None and any(row.id._replace(control=name) in under for name in names)
    ]
    tables = []
    for info in map(view.info, view.headlines):
        if not any(CellKey(row, info.name) in view.cells for row in under):
            continue
        lines = []
        for row in models:
            own, *others = (
                Shown.of(info, view.cells.get(CellKey(row.id._replace(control=name), info.name)))
                for name in (None, *names)
            )
            drops = [
                "" if own.value is None or other.value is None else shown_difference(info, own.value - other.value)
                for other in others
            ]
            lines.append(ControlLine(row, own, tuple(zip(others, drops, strict=True))))
        tables.append(ControlTable(info, names, tuple(lines)))
    return tables

"""Emotions: one fixed colour slot each, and the model × emotion heatmap in its three views."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from harness.reports.metric_table import MetricInfo, display_rank, metric_info
from harness.reports.numerals import number_or_none, shown, shown_interval
from harness.reports.task_view import HELD_OUT, CellKey, Row, RowId, TaskView

ARTEMIS = (
    "amusement", "awe", "contentment", "excitement", "anger", "disgust", "fear", "sadness", "something else",
)  # fmt: skip
"""The nine ArtEmis emotions own the first nine colour slots, whatever the task."""

EXTRA_SLOTS = 12
HEAT_STEPS = 10
FEW = 10
"""Cells on fewer pictures than this are greyed: too few to read anything from."""

VIEWS: tuple[tuple[str, str, str], ...] = (
    ("annotated", "annotated with the emotion", "pictures with at least one annotation of the emotion"),
    ("reference", "dominant emotion", "pictures whose dominant human emotion it is"),
    ("predicted", "answered emotion", "pictures for which the row answered it"),
)


def colour_slots(emotions: Iterable[str]) -> dict[str, int]:
    """A colour slot (1-based) for each emotion: fixed for ArtEmis, by alphabetical order for the others."""
    slots = {name: number for number, name in enumerate(ARTEMIS, start=1)}
    others = sorted(set(emotions) - set(slots))
    return slots | {name: len(ARTEMIS) + 1 + i % EXTRA_SLOTS for i, name in enumerate(others)}


@dataclass(frozen=True, slots=True)
class HeatCell:
    """One number of a heatmap.

    Attributes:
        step: colour step 0 … `HEAT_STEPS` - 1, None where there is no value or too few pictures.
    """

    text: str
    n: int | None
    step: int | None
    interval: str
    reason: str

    @property
    def is_few(self) -> bool:
        """A value stands here, on too few pictures."""
        return not self.reason and self.step is None


@dataclass(frozen=True, slots=True)
class Heatmap:
    """One metric in one view; `low` and `high` are the ends of its colour scale."""

    info: MetricInfo
    view: str
    view_title: str
    view_says: str
    low: str
    high: str
    rows: tuple[tuple[Row, tuple[HeatCell, ...]], ...]

    @property
    def view_choice(self) -> tuple[str, str]:
        """Key and title of the view."""
        return self.view, self.view_title


_REFERENCES = {
    "annotated": ("emotion", "same_emotion", "all"),
    "reference": ("all", "same_emotion"),
    "predicted": ("all", "same_emotion"),
}
_Place: TypeAlias = tuple[RowId, str, str, str]


def heatmaps(view: TaskView) -> list[Heatmap]:
    """All metrics in all views that results.json holds, the default (`annotated`, first metric) first."""
    cells = _cells_by_place(view)
    maps = []
    for conditioned_on, title, says in VIEWS:
        names = {metric for _, metric, _, view_name in cells if view_name == conditioned_on}
        for name in sorted(names, key=display_rank):
            maps.append(_heatmap(view, cells, metric_info(name), conditioned_on, title, says))
    return maps


def _cells_by_place(view: TaskView) -> dict[_Place, Mapping[str, Any]]:
    """Per-emotion cells by row, metric, emotion and view, each with the references that its view is about."""
    people = {row.id for row in view.rows if row.is_person}
    best: dict[_Place, tuple[int, CellKey]] = {}
    for key in view.cells:
        if key.emotion is None or key.conditioned_on is None:
            continue
        wanted = _REFERENCES.get(key.conditioned_on, ()) + (HELD_OUT if key.row in people else ())
        if key.references in wanted:
            place, rank = (key.row, key.metric, key.emotion, key.conditioned_on), wanted.index(key.references)
            if place not in best or rank < best[place][0]:
                best[place] = (rank, key)
    return {place: view.cells[key] for place, (_, key) in best.items()}


def _heatmap(
    view: TaskView,
    cells: Mapping[_Place, Mapping[str, Any]],
    info: MetricInfo,
    conditioned_on: str,
    title: str,
    says: str,
) -> Heatmap:
    def at(row: Row, emotion: str) -> Mapping[str, Any] | None:
        return cells.get((row.id, info.name, emotion, conditioned_on))

    rows = [row for row in view.rows if any(at(row, emotion) is not None for emotion in view.emotions)]
    solid = [v for row in rows for emotion in view.emotions if (v := _solid(at(row, emotion))) is not None]
    low, high = (min(solid), max(solid)) if solid else (0.0, 0.0)
    lines = tuple((row, tuple(_cell(info, at(row, emotion), low, high) for emotion in view.emotions)) for row in rows)
    ends = (shown(info, low), shown(info, high)) if solid else ("", "")
    return Heatmap(info, conditioned_on, title, says, *ends, lines)


def _value(cell: Mapping[str, Any] | None) -> float | None:
    return None if cell is None or cell.get("unavailable") else number_or_none(cell, "value")


def _solid(cell: Mapping[str, Any] | None) -> float | None:
    """The value behind a coloured cell: available and on enough pictures."""
    return _value(cell) if cell is not None and (cell.get("n") or 0) >= FEW else None


def _cell(info: MetricInfo, cell: Mapping[str, Any] | None, low: float, high: float) -> HeatCell:
    value = _value(cell)
    n = int(cell["n"]) if cell is not None and cell.get("n") is not None else None
    if cell is None or value is None:
        return HeatCell("–", n, None, "", str((cell or {}).get("unavailable") or "not measured for this row"))
    interval = shown_interval(info, number_or_none(cell, "low"), number_or_none(cell, "high"))
    solid = _solid(cell)
    return HeatCell(shown(info, value), n, None if solid is None else heat_step(solid, low, high), interval, "")


def heat_step(value: float, low: float, high: float) -> int:
    """The colour step of `value` on a linear scale from `low` to `high`; the middle when they are equal."""
    if high <= low:
        return HEAT_STEPS // 2
    return min(HEAT_STEPS - 1, int((value - low) / (high - low) * HEAT_STEPS))

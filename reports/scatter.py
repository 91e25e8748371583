"""Quality against parameters, latency and cost: geometry of small scatter plots with a logarithmic x axis.

Only numbers and texts leave this module; the template draws them, so that every text is escaped in one place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.reports.numbers import MetricInfo, number_or_none, shown
from harness.reports.view import HELD_OUT, CellKey, LeaderboardRow, TaskView

WIDTH, HEIGHT = 380, 250
LEFT, RIGHT, TOP, BOTTOM = 44, 20, 14, 40
ANSWER_WIDTH, ANSWER_HEIGHT = 560, 330
UNKNOWN = 0.22
"""Share of the width at the right for models that do not publish their size."""

LABEL_HEIGHT, MARK_RADIUS = 13, 5
RESOURCES = ("parameters", "latency_p50_s", "cost_usd")
LEAST = {"latency_p50_s": 1e-3}
"""Below it rows stand at the axis's left end: a table look-up of a microsecond would take the room of the models."""
_LETTER_WIDTH = 7.0


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis: position in pixels and its text."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Point:
    """One row of the leaderboard; `top` and `bottom` are the ends of its interval, None without one."""

    x: float
    y: float
    top: float | None
    bottom: float | None
    label: str
    label_x: float
    label_y: float
    anchor: str
    description: str
    is_model: bool


@dataclass(frozen=True, slots=True)
class Level:
    """A line across a panel: what a row of no size scores, such as the majority line or one person."""

    y: float
    label: str
    label_y: float


@dataclass(frozen=True, slots=True)
class Plot:
    """One panel of `width` × `height` pixels; beyond `right` stand models that do not tell what the x axis measures."""

    x_info: MetricInfo
    y_info: MetricInfo
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    points: tuple[Point, ...]
    levels: tuple[Level, ...]
    width: int
    height: int
    right: float
    has_unknown: bool


@dataclass(frozen=True, slots=True)
class _Value:
    row: LeaderboardRow
    x: float | None
    y: float
    low: float | None
    high: float | None


def plots(view: TaskView) -> dict[str, list[Plot]]:
    """Panels by the name of their quality metric; a panel needs two rows with both numbers."""
    found: dict[str, list[Plot]] = {}
    for name in view.headlines:
        for resource in RESOURCES:
            plot = _plot(view, resource, name, WIDTH, HEIGHT)
            if plot is not None:
                found.setdefault(name, []).append(plot)
    return found


def answer_plot(view: TaskView) -> Plot | None:
    """The figure beside the answer: the first headline metric against parameters, large; None without two models."""
    named = (_plot(view, "parameters", name, ANSWER_WIDTH, ANSWER_HEIGHT) for name in view.headlines)
    return next((plot for plot in named if plot is not None), None)


def _values(view: TaskView, resource: str, name: str) -> list[_Value]:
    found = []
    for row in view.rows:
        x = view.value(CellKey(row.id, resource))
        if x is None:
            x = number_or_none(row.resources, resource)
        key = CellKey(row.id, name)
        y = view.value(key)
        if y is not None and row.kind != "control" and (x is None or x > 0):
            cell = view.cells[key]
            found.append(_Value(row, x, y, number_or_none(cell, "low"), number_or_none(cell, "high")))
    return found


def _levels(view: TaskView, name: str, drawn: Sequence[LeaderboardRow]) -> list[tuple[str, float]]:
    """Rows of people and of the majority label that have no place on the x axis: name and value."""
    found = []
    for row in view.rows:
        if row.kind == "reference" and (row.is_person or row.is_majority) and row not in drawn:
            values = (view.value(CellKey(row.id, name, references=each)) for each in ("all", *HELD_OUT))
            value = next((value for value in values if value is not None), None)
            if value is not None:
                found.append((f"{row.label}{' ‡' if row.is_person else ''}", value))
    return found


def _plot(view: TaskView, resource: str, name: str, width: int, height: int) -> Plot | None:
    x_info, y_info = view.info(resource), view.info(name)
    values = _values(view, resource, name)
    known = [value.x for value in values if value.x is not None]
    unknown = [value for value in values if value.x is None and value.row.kind == "model"]
    has_unknown = resource == "parameters" and bool(unknown and known)
    if len(known) + has_unknown < 2:
        return None
    values = [value for value in values if value.x is not None or (has_unknown and value in unknown)]
    levels = _levels(view, name, [value.row for value in values])
    right = width - (round(UNKNOWN * width) if has_unknown else RIGHT)
    smallest, largest = min(known), max(known)
    least = LEAST.get(resource, 0.0)
    cut = smallest < least < largest
    first = round(math.log10(least)) if cut else math.floor(math.log10(smallest) - 0.05)
    last = max(first + 1, math.ceil(math.log10(largest) + 0.05))
    y_values = [end for v in values for end in (v.y, v.low, v.high) if end is not None] + [y for _, y in levels]
    y_marks = linear_marks(min(y_values), max(y_values))

    def at_x(value: float | None) -> float:
        if value is None:
            return round((right + 22 + width) / 2, 1)
        return round(LEFT + (max(math.log10(value), first) - first) / (last - first) * (right - LEFT), 1)

    def at_y(value: float) -> float:
        share = (value - y_marks[0]) / (y_marks[-1] - y_marks[0])
        return round(height - BOTTOM - share * (height - TOP - BOTTOM), 1)

    step = max(1, math.ceil((last - first) / 6))
    x_ticks = tuple(
        Tick(at_x(10.0**e), f"≤ {_power(e)}" if cut and e == first else _power(e)) for e in range(first, last + 1, step)
    )
    y_ticks = tuple(Tick(at_y(mark), shown(y_info, mark).removesuffix(".0")) for mark in y_marks)
    placed: list[tuple[float, float, float]] = []
    drawn = []
    for label, value_there in sorted(levels, key=lambda level: -level[1]):
        # a line's name stands at its left end, above it, or below it if another name is there
        y = at_y(value_there)
        is_taken = any(abs(y - 4 - other) < LABEL_HEIGHT for _, _, other in placed)
        label_y = round(y + 12 if is_taken else y - 4, 1)
        placed.append((LEFT, LEFT + 4 + _LETTER_WIDTH * len(label), label_y))
        drawn.append(Level(y, label, label_y))
    placed.append((LEFT, width, height - BOTTOM + 4.0))  # the axis, which would strike a name through
    placed.extend((at_x(v.x) - MARK_RADIUS, at_x(v.x) + MARK_RADIUS, at_y(v.y) + 4) for v in values)
    points = []
    for value in sorted(values, key=lambda v: (v.y, v.row.label)):
        label = value.row.label if len(value.row.label) <= 24 else value.row.label[:23] + "…"
        x, y = at_x(value.x), at_y(value.y)
        place = free_place(x, y, label, placed, right=width if value.x is None else right + 6, top=TOP)
        top, bottom = (None if end is None else at_y(end) for end in (value.high, value.low))
        said = "not published" if value.x is None else shown(x_info, value.x)
        description = f"{value.row.label}: {y_info.label} {shown(y_info, value.y)}, {x_info.label} {said}"
        points.append(Point(x, y, top, bottom, label, *place, description, value.row.kind == "model"))
    return Plot(x_info, y_info, x_ticks, y_ticks, tuple(points), tuple(drawn), width, height, right, has_unknown)


def free_place(
    x: float,
    y: float,
    label: str,
    placed: list[tuple[float, float, float]],
    *,
    right: float,
    top: float,
    left: float = 0.0,
) -> tuple[float, float, str]:
    """Where a mark's label stands: the nearest place beside the mark that is free; x, y and text anchor.

    Args:
        x: of the mark, pixels.
        y: of the mark, pixels.
        label: its width is estimated.
        placed: start, end and y of what is in the way; this label is added.
        right: labels end before it.
        top: labels stay below it.
        left: labels begin after it.
    """
    width = _LETTER_WIDTH * len(label)
    beside = [(start, anchor) for start, anchor in ((x + 8, "start"), (x - 8 - width, "end"))
              if start >= left and start + width <= right] or [(x + 8, "start")]  # fmt: skip
    heights = [y + 4 + sign * LABEL_HEIGHT * step for step in range(len(placed) + 1) for sign in (-1, 1)]
    places = [(start, height, anchor) for height in heights if height >= top - 2 for start, anchor in beside]
    free = (
        place
        for place in places
        if not any(
            abs(place[1] - y_there) < LABEL_HEIGHT and place[0] < end and begin < place[0] + width
            for begin, end, y_there in placed
        )
    )
    start, label_y, anchor = next(free, places[0])
    placed.append((start, start + width, label_y))
    return round(start if anchor == "start" else start + width, 1), round(label_y, 1), anchor


def linear_marks(low: float, high: float) -> list[float]:
    """Three to seven round marks that enclose `low` … `high`."""
    span = (high - low) or abs(high) or 1.0
    raw = span / 4
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * m for m in (1, 2, 2.5, 5, 10) if size * m >= raw)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [step * i for i in range(first, max(last, first + 1) + 1)]


_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def _power(exponent: int) -> str:
    if exponent < -3:
        return "10⁻" + str(-exponent).translate(_SUPERSCRIPTS)
    if exponent < 0:
        return f"{10.0**exponent:.{-exponent}f}"
    letter = ("", " k", " M", " B", " T")[min(exponent // 3, 4)]
    return f"{10 ** (exponent - 3 * min(exponent // 3, 4))}{letter}"

"""Quality against parameters, latency and cost: geometry of small scatter plots with a logarithmic x axis.

Only numbers and texts leave this module; the template draws them, so that every text is escaped in one place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.reports.numbers import MetricInfo, number_or_none, shown
from harness.reports.view import CellKey, LeaderboardRow, TaskView

WIDTH, HEIGHT = 380, 250
LEFT, RIGHT, TOP, BOTTOM = 44, 20, 14, 40
LABEL_HEIGHT = 13
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
class Plot:
    """One panel."""

    x_info: MetricInfo
    y_info: MetricInfo
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class _Value:
    row: LeaderboardRow
    x: float
    y: float
    low: float | None
    high: float | None


def plots(view: TaskView) -> dict[str, list[Plot]]:
    """Panels by the name of their quality metric; a panel needs two rows with both numbers."""
    found: dict[str, list[Plot]] = {}
    for name in view.headlines:
        for resource in RESOURCES:
            values = _values(view, resource, name)
            if len(values) >= 2:
                found.setdefault(name, []).append(_plot(view.info(resource), view.info(name), values))
    return found


def _values(view: TaskView, resource: str, name: str) -> list[_Value]:
    found = []
    for row in view.rows:
        x = view.value(CellKey(row.id, resource))
        if x is None:
            x = number_or_none(row.resources, resource)
        y = view.value(CellKey(row.id, name))
        if x is not None and x > 0 and y is not None and row.kind != "control":
            cell = view.cells[CellKey(row.id, name)]
            found.append(_Value(row, x, y, number_or_none(cell, "low"), number_or_none(cell, "high")))
    return found


def _plot(x_info: MetricInfo, y_info: MetricInfo, values: Sequence[_Value]) -> Plot:
    smallest, largest = min(r.x for r in values), max(r.x for r in values)
    least = LEAST.get(x_info.name, 0.0)
    cut = smallest < least < largest
    first = round(math.log10(least)) if cut else math.floor(math.log10(smallest) - 0.05)
    last = max(first + 1, math.ceil(math.log10(largest) + 0.05))
    y_values = [y_end for r in values for y_end in (r.y, r.low, r.high) if y_end is not None]
    y_marks = linear_marks(min(y_values), max(y_values))

    def at_x(value: float) -> float:
        return round(LEFT + (max(math.log10(value), first) - first) / (last - first) * (WIDTH - LEFT - RIGHT), 1)

    def at_y(value: float) -> float:
        share = (value - y_marks[0]) / (y_marks[-1] - y_marks[0])
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    step = max(1, math.ceil((last - first) / 6))
    x_ticks = tuple(
        Tick(at_x(10.0**e), f"≤ {_power(e)}" if cut and e == first else _power(e)) for e in range(first, last + 1, step)
    )
    y_ticks = tuple(Tick(at_y(mark), _short(shown(y_info, mark))) for mark in y_marks)
    placed: list[tuple[float, float, float]] = []
    points = tuple(
        _point(
            r,
            at_x(r.x),
            at_y(r.y),
            None if r.low is None or r.high is None else (at_y(r.high), at_y(r.low)),
            placed,
            x_info,
            y_info,
        )
        for r in sorted(values, key=lambda r: (r.y, r.row.label))
    )
    return Plot(x_info, y_info, x_ticks, y_ticks, points)


def _point(
    value: _Value,
    x: float,
    y: float,
    ends: tuple[float, float] | None,
    placed: list[tuple[float, float, float]],
    x_info: MetricInfo,
    y_info: MetricInfo,
) -> Point:
    label = value.row.label if len(value.row.label) <= 24 else value.row.label[:23] + "…"
    label_x, label_y, anchor = free_place(x, y, label, placed, right=WIDTH, top=TOP)
    says = f"{value.row.label}: {y_info.label} {shown(y_info, value.y)}, {x_info.label} {shown(x_info, value.x)}"
    top, bottom = ends if ends is not None else (None, None)
    return Point(x, y, top, bottom, label, label_x, label_y, anchor, says, value.row.kind == "model")


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
    start, label_y, anchor = next((p for p in places if _is_free(p[0], width, p[1], placed)), places[0])
    placed.append((start, start + width, label_y))
    return round(start if anchor == "start" else start + width, 1), round(label_y, 1), anchor


def _is_free(start: float, width: float, y: float, placed: Sequence[tuple[float, float, float]]) -> bool:
    return not any(
        abs(y - other_y) < LABEL_HEIGHT and start < end and other < start + width for other, end, other_y in placed
    )


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


def _short(text: str) -> str:
    return text.removesuffix(".0")

"""Where people and rows stand between unpleasant and pleasant, and between calm and excited, for each emotion.

Two sources, each drawn if it exists: mean ratings (tasks whose images people rated), and the words of explanations,
as `planes` in results.json holds them; a lexicon may measure valence alone. In the figures a hollow mark stands for
people, a full one for the row, and a line joins them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor
from statistics import fmean

from harness.reports.numbers import FEW, MINUS, number_or_none
from harness.reports.scatter import Tick, free_place, linear_marks
from harness.reports.view import LeaderboardRow, TaskView
from harness.types import Answer, Example, Outcome

STRIP_WIDTH, STRIP_LEFT, STRIP_RIGHT, LINE = 620, 128, 24, 24
PLANE_SIDE, PLANE_LEFT, PLANE_BOTTOM, MARGIN = 400, 58, 42, 14


@dataclass(frozen=True, slots=True)
class Position:
    """A mean over `n` texts or images; `arousal` is None if only valence is known."""

    valence: float
    arousal: float | None
    n: int

    @property
    def is_few(self) -> bool:
        """Too few to read anything from."""
        return self.n < FEW


@dataclass(frozen=True, slots=True)
class Shift:
    """One emotion: where people are, and where the row is."""

    emotion: str
    people: Position | None
    row: Position | None

    @property
    def positions(self) -> list[Position]:
        """Those that are known."""
        return [position for position in (self.people, self.row) if position is not None]


@dataclass(frozen=True, slots=True)
class Affect:
    """One row beside people, by the words of explanations and by ratings; empty if there are none.

    Attributes:
        lexicon: name of the words' lexicon.
    """

    row: LeaderboardRow
    lexicon: str
    words: tuple[Shift, ...]
    ratings: tuple[Shift, ...]

    @property
    def has_arousal(self) -> bool:
        """Whether the lexicon measures arousal."""
        return all(position.arousal is not None for shift in self.words for position in shift.positions)


def affects(
    view: TaskView, examples: Sequence[Example], outcomes: Mapping[LeaderboardRow, Mapping[str, Outcome]]
) -> list[Affect]:
    """Every row that wrote explanations or gave ratings, controls apart."""
    found = []
    for row, answers in outcomes.items():
        if row.kind == "control":
            continue
        # by words: from the references of the row's own run to the row
        places: dict[str | None, dict[str, Position]] = {None: {}, row.id.model: {}}
        lexicon = ""
        for record in view.run_of(row).entries("planes", view.name):
            valence = number_or_none(record, "valence")
            if record["model"] in places and record.get("control") is None and valence is not None:
                lexicon = str(record["lexicon"])
                position = Position(valence, number_or_none(record, "arousal"), int(record["n"]))
                places[record["model"]][record["emotion"]] = position
        words = _shifts(view.emotions, places[None], places[row.id.model])
        # by ratings: of people and row on the same images, by the dominant human emotion
        people: dict[str, list[Mapping[str, float]]] = {}
        own: dict[str, list[Mapping[str, float]]] = {}
        for example in examples:
            answer, emotion = answers.get(example.id), example.dominant_emotion
            rated = (answer.ratings or {}) if isinstance(answer, Answer) else {}
            if emotion and {"valence", "arousal"} <= example.ratings.keys() & rated.keys():
                people.setdefault(emotion, []).append(example.ratings)
                own.setdefault(emotion, []).append(rated)
        means = (
            {
                emotion: Position(fmean(r["valence"] for r in given), fmean(r["arousal"] for r in given), len(given))
                for emotion, given in side.items()
            }
            for side in (people, own)
        )
        ratings = _shifts(view.emotions, *means)
        if words or ratings:
            found.append(Affect(row, lexicon, words, ratings))
    return found


def _shifts(emotions: Sequence[str], people: Mapping[str, Position], own: Mapping[str, Position]) -> tuple[Shift, ...]:
    """Shifts in the order of the labels; none at all when one side is silent throughout."""
    if not people or not own:
        return ()
    return tuple(Shift(e, people.get(e), own.get(e)) for e in emotions if e in people or e in own)


@dataclass(frozen=True, slots=True)
class Dumbbell:
    """One emotion as drawn: people's mark, the row's mark (either may be missing), and where its name stands."""

    emotion: str
    people: tuple[float, float] | None
    row: tuple[float, float] | None
    is_few: bool
    label: tuple[float, float]
    anchor: str
    description: str


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing of `width` × `height` pixels; `floor` is the y of its x axis, `left` and `right` the x of its ends."""

    width: int
    height: int
    left: float
    right: float
    floor: float
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    dumbbells: tuple[Dumbbell, ...]


def strip(shifts: Sequence[Shift]) -> Figure:
    """Valence alone: a line of the drawing for each emotion."""
    height = LINE * len(shifts) + 40
    right = STRIP_WIDTH - STRIP_RIGHT
    values = [p.valence for s in shifts for p in s.positions] + [0.0]
    at_x, ticks = _scale(linear_marks(min(values), max(values)), STRIP_LEFT, right)
    found = []
    for number, shift in enumerate(shifts):
        y = LINE * number + LINE / 2
        ends = [None if p is None else (at_x(p.valence), y) for p in (shift.people, shift.row)]
        found.append(_dumbbell(shift, ends[0], ends[1], (STRIP_LEFT - 10.0, y + 4), "end"))
    return Figure(STRIP_WIDTH, height, STRIP_LEFT, right, LINE * len(shifts) + 4.0, ticks, (), tuple(found))


def plane(shifts: Sequence[Shift]) -> Figure:
    """Valence from left to right, arousal upwards, one unit as long on both: else small shifts would look large."""
    right, bottom = PLANE_SIDE - MARGIN, PLANE_SIDE - PLANE_BOTTOM
    top = bottom - (right - PLANE_LEFT)
    positions = [position for shift in shifts for position in shift.positions]
    x_marks, y_marks = square_marks([p.valence for p in positions], [p.arousal or 0.0 for p in positions])
    at_x, x_ticks = _scale(x_marks, PLANE_LEFT, right)
    at_y, y_ticks = _scale(y_marks, bottom, top)
    ends = [
        [None if p is None else (at_x(p.valence), at_y(p.arousal or 0.0)) for p in (s.people, s.row)] for s in shifts
    ]
    # Marks are in the way of names, too.
    placed = [(end[0] - 6, end[0] + 6, end[1] + 4) for pair in ends for end in pair if end is not None]
    found = []
    for shift, (people, row) in zip(shifts, ends, strict=True):
        x, y = row or people or (0.0, 0.0)
        label_x, label_y, anchor = free_place(x, y, shift.emotion, placed, right=PLANE_SIDE, top=top, left=PLANE_LEFT)
        found.append(_dumbbell(shift, people, row, (label_x, label_y), anchor))
    return Figure(PLANE_SIDE, PLANE_SIDE, PLANE_LEFT, right, bottom, x_ticks, y_ticks, tuple(found))


def square_marks(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """Round marks that enclose the values of two axes: the same step and the same number on both."""
    wider = max((x, y), key=lambda values: max(values) - min(values))
    marks = linear_marks(min(wider), max(wider))
    step = marks[1] - marks[0]
    firsts, lasts = zip(*((floor(min(v) / step), ceil(max(v) / step)) for v in (x, y)), strict=True)
    count = max(last - first for first, last in zip(firsts, lasts, strict=True))
    starts = [first - (count - (last - first)) // 2 for first, last in zip(firsts, lasts, strict=True)]
    x_marks, y_marks = ([step * (start + i) for i in range(count + 1)] for start in starts)
    return x_marks, y_marks


def _scale(marks: Sequence[float], first: float, last: float) -> tuple[Callable[[float], float], tuple[Tick, ...]]:
    """A linear scale in pixels whose ends are the first and the last mark."""

    def at(value: float) -> float:
        return round(first + (value - marks[0]) / (marks[-1] - marks[0]) * (last - first), 1)

    return at, tuple(Tick(at(mark), f"{mark:.6g}".replace("-", MINUS)) for mark in marks)


def _dumbbell(
    shift: Shift,
    people: tuple[float, float] | None,
    row: tuple[float, float] | None,
    label: tuple[float, float],
    anchor: str,
) -> Dumbbell:
    is_few = any(position.is_few for position in shift.positions)
    description = f"{shift.emotion}: people {_described(shift.people)}; row {_described(shift.row)}"
    return Dumbbell(shift.emotion, people, row, is_few, label, anchor, description)


def _described(position: Position | None) -> str:
    if position is None:
        return "none"
    arousal = "" if position.arousal is None else f", arousal {position.arousal:.2f}"
    return f"valence {position.valence:.2f}{arousal}, n {position.n}".replace("-", MINUS)

"""Where people and rows stand between unpleasant and pleasant, and between calm and excited, for each emotion.

Two sources, each drawn where it exists: mean ratings (tasks whose pictures people rated), and the words of
explanations, as `planes` in results.json holds them; a lexicon may measure valence alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from harness.reports.emotions import FEW
from harness.reports.numerals import number_or_none
from harness.reports.task_view import Row, TaskView
from harness.types import Answer, Example, Outcome


@dataclass(frozen=True, slots=True)
class Position:
    """A mean over `n` texts or pictures; `arousal` is None where only valence is known."""

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
    """One row beside people, by the words of explanations and by ratings; empty where there are none.

    Attributes:
        lexicon: name of the words' lexicon.
    """

    row: Row
    lexicon: str
    words: tuple[Shift, ...]
    ratings: tuple[Shift, ...]

    @property
    def has_arousal(self) -> bool:
        """Whether the lexicon measures arousal."""
        return all(position.arousal is not None for shift in self.words for position in shift.positions)


def affects(view: TaskView, examples: Sequence[Example], outcomes: Mapping[Row, Mapping[str, Outcome]]) -> list[Affect]:
    """Every row that wrote explanations or gave ratings, controls apart."""
    by_id = {example.id: example for example in examples}
    found = []
    for row, answers in outcomes.items():
        if row.kind != "control":
            said = [(by_id[i], o) for i, o in answers.items() if isinstance(o, Answer) and i in by_id]
            found.append(Affect(row, *_words(view, row), _ratings(view.emotions, said)))
    return [affect for affect in found if affect.words or affect.ratings]


def _words(view: TaskView, row: Row) -> tuple[str, tuple[Shift, ...]]:
    """The lexicon, and the shifts from the references to the row, of the row's own run."""
    run = next(run for run in view.runs if run.index == row.id.run)
    places: dict[str | None, dict[str, Position]] = {None: {}, row.id.model: {}}
    lexicon = ""
    for record in run.entries("planes", view.name):
        valence = number_or_none(record, "valence")
        if record["model"] in places and record.get("control") is None and valence is not None:
            lexicon = str(record["lexicon"])
            position = Position(valence, number_or_none(record, "arousal"), int(record["n"]))
            places[record["model"]][record["emotion"]] = position
    return lexicon, _shifts(view.emotions, places[None], places[row.id.model])


def _shifts(emotions: Sequence[str], people: Mapping[str, Position], own: Mapping[str, Position]) -> tuple[Shift, ...]:
    """Shifts in the order of the labels; none at all when one side is silent throughout."""
    if not people or not own:
        return ()
    return tuple(Shift(e, people.get(e), own.get(e)) for e in emotions if e in people or e in own)


def _ratings(emotions: Sequence[str], said: Sequence[tuple[Example, Answer]]) -> tuple[Shift, ...]:
    """Ratings by the dominant human emotion, of people and row on the same pictures."""
    both: dict[str, list[tuple[Mapping[str, float], Mapping[str, float]]]] = {}
    for example, answer in said:
        if example.dominant_emotion and _has_plane(example.ratings) and _has_plane(answer.ratings):
            both.setdefault(example.dominant_emotion, []).append((example.ratings, answer.ratings or {}))
    return _shifts(
        emotions,
        {emotion: _mean([people for people, _ in pairs]) for emotion, pairs in both.items()},
        {emotion: _mean([own for _, own in pairs]) for emotion, pairs in both.items()},
    )


def _has_plane(ratings: Mapping[str, float] | None) -> bool:
    return ratings is not None and {"valence", "arousal"} <= ratings.keys()


def _mean(ratings: Sequence[Mapping[str, float]]) -> Position:
    valence, arousal = (fmean(rating[name] for rating in ratings) for name in ("valence", "arousal"))
    return Position(valence, arousal, len(ratings))

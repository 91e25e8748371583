"""Where people and rows stand between unpleasant and pleasant, and between calm and excited, for each emotion.

Two sources, each drawn where it exists: mean ratings on the valence–arousal plane (tasks whose pictures people
rated), and the mean valence of the words of explanations (any task with explanations).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from harness.reports.emotions import FEW
from harness.reports.task_view import Row, TaskView
from harness.reports.valence import text_valence
from harness.types import Answer, Example, Outcome


@dataclass(frozen=True, slots=True)
class Position:
    """A mean over `n` texts or paintings; `arousal` is None where only valence is known."""

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
    """One row beside people: shifts in the valence of words, and on the plane of ratings (empty without them)."""

    row: Row
    words: tuple[Shift, ...]
    plane: tuple[Shift, ...]


def affects(view: TaskView, examples: Sequence[Example], outcomes: Mapping[Row, Mapping[str, Outcome]]) -> list[Affect]:
    """Every row that wrote explanations or gave ratings, controls apart."""
    people = _word_valences((a.emotion, a.explanation) for example in examples for a in example.annotations)
    by_id = {example.id: example for example in examples}
    found = []
    for row, answers in outcomes.items():
        if row.kind != "control":
            said = [(by_id[i], o) for i, o in answers.items() if isinstance(o, Answer) and i in by_id]
            own = _word_valences((answer.emotion, answer.explanation) for _, answer in said)
            found.append(Affect(row, _shifts(view.emotions, people, own), _plane(view.emotions, said)))
    return [affect for affect in found if affect.words or affect.plane]


def _shifts(emotions: Sequence[str], people: Mapping[str, Position], own: Mapping[str, Position]) -> tuple[Shift, ...]:
    """Shifts in the order of the labels; none at all when one side is silent throughout."""
    if not people or not own:
        return ()
    return tuple(Shift(e, people.get(e), own.get(e)) for e in emotions if e in people or e in own)


def _word_valences(texts: Iterable[tuple[str, str]]) -> dict[str, Position]:
    found: dict[str, list[float]] = {}
    for emotion, text in texts:
        valence = text_valence(text)
        if valence is not None:
            found.setdefault(emotion, []).append(valence)
    return {emotion: Position(fmean(values), None, len(values)) for emotion, values in found.items()}


def _plane(emotions: Sequence[str], said: Sequence[tuple[Example, Answer]]) -> tuple[Shift, ...]:
    """Ratings by the dominant human emotion, of people and row on the same paintings."""
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

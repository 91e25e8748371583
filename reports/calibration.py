"""Reliability diagrams: how often a row is right among the answers that it is equally sure of.

Confidence is the probability that a row gives to its own answer; an answer is right when it is the emotion of more
than half of the annotators. Fifteen equal bins, as in Guo et al. 2017 (On calibration of modern neural networks).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.reports.numerals import wilson
from harness.reports.task_view import Row, TaskView
from harness.types import Answer, Example, Outcome

BINS = 15
SIDE, LEFT, TOP, BOTTOM = 220, 44, 10, 88
"""Pixels: the square of the diagram, its margins; the bars of the shares stand in the lower margin."""

_BARS = 34


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers of similar confidence: means of confidence and correctness (0..1), Wilson's interval of the latter."""

    n: int
    confidence: float
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Mark:
    """A bin as drawn, in pixels; `bar` is the height of its share of all answers."""

    x: float
    y: float
    top: float
    bottom: float
    left: float
    bar: float
    says: str


@dataclass(frozen=True, slots=True)
class Calibration:
    """One row's diagram, with overall values in 0..1.

    Attributes:
        n: answers drawn: those whose painting has a dominant emotion.
        error: expected calibration error.
        confidence, accuracy: means.
        contradicted: share of all answers with probabilities whose own label is not the likeliest by them.
    """

    row: Row
    n: int
    error: float
    confidence: float
    accuracy: float
    contradicted: float
    bins: tuple[tuple[int, Bin], ...]

    @property
    def marks(self) -> list[Mark]:
        """The bins in pixels."""
        largest = max(found.n for _, found in self.bins)
        return [_mark(slot, found, largest) for slot, found in self.bins]


def at_x(share: float) -> float:
    """Pixels from the left of a share of 0..1."""
    return round(LEFT + share * SIDE, 1)


def at_y(share: float) -> float:
    """Pixels from the top of a share of 0..1."""
    return round(TOP + (1 - share) * SIDE, 1)


def calibrations(
    view: TaskView, examples: Sequence[Example], outcomes: Mapping[Row, Mapping[str, Outcome]]
) -> list[Calibration]:
    """A diagram for every row that gives probabilities between 0 and 1, people and controls apart."""
    dominant = {example.id: example.dominant_emotion for example in examples}
    # people would be judged by votes that are their own
    judged = {row: answers for row, answers in outcomes.items() if row.kind != "control" and not row.is_person}
    found = (_calibration(row, dominant, answers) for row, answers in judged.items())
    return [diagram for diagram in found if diagram is not None]


def _calibration(row: Row, dominant: Mapping[str, str | None], outcomes: Mapping[str, Outcome]) -> Calibration | None:
    judged = [
        (_confidence(outcome), outcome.emotion == dominant[example_id])
        for example_id, outcome in outcomes.items()
        if isinstance(outcome, Answer) and outcome.emotion_probs and dominant.get(example_id) is not None
    ]
    # Labels alone, written as probabilities, are no statement of confidence.
    if all(confidence in (0.0, 1.0) for confidence, _ in judged):
        return None
    slots: dict[int, list[tuple[float, bool]]] = {}
    for confidence, right in judged:
        slots.setdefault(min(int(confidence * BINS), BINS - 1), []).append((confidence, right))
    bins = tuple((slot, _bin(slots[slot])) for slot in sorted(slots))
    error = sum(b.n * abs(b.accuracy - b.confidence) for _, b in bins) / len(judged)
    overall = _bin(judged)
    contradicted = [_is_contradicted(o) for o in outcomes.values() if isinstance(o, Answer) and o.emotion_probs]
    share = sum(contradicted) / len(contradicted)
    return Calibration(row, len(judged), error, overall.confidence, overall.accuracy, share, bins)


def _confidence(answer: Answer) -> float:
    probabilities = answer.emotion_probs or {}
    return probabilities.get(answer.emotion, 0.0) / sum(probabilities.values())


def _is_contradicted(answer: Answer) -> bool:
    probabilities = answer.emotion_probs or {}
    return probabilities.get(answer.emotion, 0.0) < max(probabilities.values())


def _bin(judged: Sequence[tuple[float, bool]]) -> Bin:
    n, right = len(judged), sum(is_right for _, is_right in judged)
    return Bin(n, sum(confidence for confidence, _ in judged) / n, right / n, *wilson(right / n, n))


def _mark(slot: int, found: Bin, largest: int) -> Mark:
    says = f"confidence {100 * found.confidence:.0f} percent, right {100 * found.accuracy:.0f} percent of {found.n}"
    return Mark(
        at_x(found.confidence), at_y(found.accuracy), at_y(found.high), at_y(found.low),
        at_x(slot / BINS), round(_BARS * found.n / largest, 1), says,
    )  # fmt: skip

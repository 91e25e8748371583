"""What rows answer: confusion matrices, label distributions beside people's, and how far confidence can be believed.

Calibration is computed when a run is scored (`calibration` in results.json, by the rule of `ece_shares`); here it is
drawn, as in Guo et al. 2017 (On calibration of modern neural networks).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.reports.breakdowns import heat_step
from harness.reports.view import LeaderboardRow, TaskView
from harness.types import Answer, Example, Outcome

NO_ANSWER = "no answer"


@dataclass(frozen=True, slots=True)
class ConfusionCell:
    """Images of one dominant emotion that got one answer.

    Attributes:
        percent: of the images of that dominant emotion, None when there are none.
        step: heat step by that share, None for an empty cell.
    """

    count: int
    percent: str | None
    step: int | None
    is_diagonal: bool


@dataclass(frozen=True, slots=True)
class Confusion:
    """One row's matrix; `columns` are the labels, then `no answer` if results.json counts it."""

    row: LeaderboardRow
    columns: tuple[str, ...]
    lines: tuple[tuple[str, int, tuple[ConfusionCell, ...]], ...]


@dataclass(frozen=True, slots=True)
class Bar:
    """How often people felt an emotion and how often a model answered it, as percent of images."""

    emotion: str
    human: float
    predicted: float


@dataclass(frozen=True, slots=True)
class Distribution:
    """A row's answers beside people's annotations; `unanswered` is the percent without a label."""

    row: LeaderboardRow
    bars: tuple[Bar, ...]
    unanswered: float

    @property
    def longest(self) -> float:
        """The largest percentage, for the scale of the bars."""
        return max((max(bar.human, bar.predicted) for bar in self.bars), default=0.0) or 100.0


def confusions(view: TaskView) -> list[Confusion]:
    """The matrices of results.json in the order of the rows."""
    found = []
    for run in view.runs:
        for entry in run.entries("confusion", view.name):
            row = view.row(run.index, entry["model"], entry.get("control"))
            if row is not None:
                found.append(_confusion(row, entry["labels"], entry["counts"]))
    order = {row.id: i for i, row in enumerate(view.rows)}
    return sorted(found, key=lambda c: order[c.row.id])


def _confusion(row: LeaderboardRow, labels: Sequence[str], counts: Sequence[Sequence[int]]) -> Confusion:
    width = max((len(line) for line in counts), default=len(labels))
    columns = tuple(labels) + ((NO_ANSWER,) if width > len(labels) else ())
    lines = []
    for i, (label, line) in enumerate(zip(labels, counts, strict=False)):
        total = sum(line)
        cells = tuple(_cell(int(number), total, i == j) for j, number in enumerate(line))
        lines.append((label, total, cells))
    return Confusion(row, columns, tuple(lines))


def _cell(number: int, total: int, is_diagonal: bool) -> ConfusionCell:
    if not number:
        return ConfusionCell(0, None, None, is_diagonal)
    return ConfusionCell(number, f"{100 * number / total:.0f}", heat_step(number / total, 0.0, 1.0), is_diagonal)


def distributions(
    view: TaskView, examples: Iterable[Example], outcomes: Mapping[LeaderboardRow, Mapping[str, Outcome]]
) -> list[Distribution]:
    """Label shares of every row over the images that it was asked about, beside the annotators' mean shares."""
    by_id = {example.id: example for example in examples}
    return [
        _distribution(view.emotions, row, by_id, answers)
        for row, answers in outcomes.items()
        if any(example_id in by_id for example_id in answers)
    ]


def _distribution(
    labels: Sequence[str], row: LeaderboardRow, examples: Mapping[str, Example], outcomes: Mapping[str, Outcome]
) -> Distribution:
    asked = [(examples[i], outcome) for i, outcome in outcomes.items() if i in examples]
    answered = Counter(outcome.emotion for _, outcome in asked if isinstance(outcome, Answer))
    scale = 100 / len(asked)
    bars = tuple(
        Bar(label, scale * sum(e.share(label) for e, _ in asked), scale * answered.get(label, 0)) for label in labels
    )
    return Distribution(row, bars, scale * (len(asked) - sum(answered[label] for label in labels)))


SIDE, LEFT, TOP, BOTTOM = 220, 44, 10, 88
"""Pixels: the square of a reliability diagram, its margins; the bars of the shares stand in the lower margin."""

_BARS = 34


@dataclass(frozen=True, slots=True)
class Mark:
    """A bin as drawn, in pixels; `bar` is the height of its share of all answers."""

    x: float
    y: float
    top: float
    bottom: float
    left: float
    width: float
    bar: float
    description: str


@dataclass(frozen=True, slots=True)
class Calibration:
    """One row's diagram, with overall values in 0..1.

    Attributes:
        n: answers drawn.
        error: expected calibration error.
        confidence: mean confidence.
        accuracy: mean share of annotators who chose the answer.
        contradicted: share of all answers with probabilities whose own label is not the likeliest by them.
    """

    row: LeaderboardRow
    n: int
    error: float
    confidence: float
    accuracy: float
    contradicted: float
    marks: tuple[Mark, ...]


def at_x(share: float) -> float:
    """Pixels from the left of a share of 0..1."""
    return round(LEFT + share * SIDE, 1)


def at_y(share: float) -> float:
    """Pixels from the top of a share of 0..1."""
    return round(TOP + (1 - share) * SIDE, 1)


def calibrations(view: TaskView) -> list[Calibration]:
    """A diagram for every row that results.json has one of, in the order of the rows."""
    found = []
    for run in view.runs:
        for record in run.entries("calibration", view.name):
            row = view.row(run.index, record["model"], record.get("control"))
            if row is not None and record["slots"]:
                shares = {key: float(record[key]) for key in ("error", "confidence", "accuracy", "contradicted")}
                found.append(Calibration(row, n=int(record["n"]), marks=_marks(record), **shares))
    return sorted(found, key=lambda diagram: view.rows.index(diagram.row))


def _marks(record: Mapping[str, Any]) -> tuple[Mark, ...]:
    bins = int(record["bins"])
    largest = max(slot["n"] for slot in record["slots"])
    return tuple(
        Mark(
            at_x(slot["confidence"]),
            at_y(slot["accuracy"]),
            at_y(slot["high"]),
            at_y(slot["low"]),
            at_x(slot["slot"] / bins),
            round(SIDE / bins - 2, 1),
            round(_BARS * slot["n"] / largest, 1),
            f"confidence {100 * slot['confidence']:.0f} percent, agreement {100 * slot['accuracy']:.0f} percent "
            f"of {slot['n']}",
        )
        for slot in record["slots"]
    )

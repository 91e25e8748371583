"""What rows answer: confusion matrices, label distributions beside people's, and how far confidence can be believed.

Calibration is computed when a run is scored (`calibration` in results.json, by the rule of `ece_shares`); here it is
drawn, as in Guo et al. 2017 (On calibration of modern neural networks).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

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
            if row is None:
                continue
            labels, counts = entry["labels"], entry["counts"]
            has_unanswered = max((len(line) for line in counts), default=0) > len(labels)
            lines = []
            for i, (label, line) in enumerate(zip(labels, counts, strict=False)):
                total = sum(line)
                cells = tuple(
                    ConfusionCell(n, f"{100 * n / total:.0f}", heat_step(n / total, 0.0, 1.0), i == j)
                    if n
                    else ConfusionCell(0, None, None, i == j)
                    for j, n in enumerate(map(int, line))
                )
                lines.append((label, total, cells))
            found.append(Confusion(row, (*labels, NO_ANSWER) if has_unanswered else tuple(labels), tuple(lines)))
    order = {row.id: i for i, row in enumerate(view.rows)}
    return sorted(found, key=lambda c: order[c.row.id])


def distributions(
    view: TaskView, examples: Iterable[Example], outcomes: Mapping[LeaderboardRow, Mapping[str, Outcome]]
) -> list[Distribution]:
    """Label shares of every row over the images that it was asked about, beside the annotators' mean shares."""
    by_id = {example.id: example for example in examples}
    found = []
    for row, answers in outcomes.items():
        asked = [(by_id[i], outcome) for i, outcome in answers.items() if i in by_id]
        if not asked:
            continue
        answered = Counter(outcome.emotion for _, outcome in asked if isinstance(outcome, Answer))
        scale = 100 / len(asked)
        bars = tuple(
            Bar(label, scale * sum(e.share(label) for e, _ in asked), scale * answered[label])
            for label in view.emotions
        )
        unanswered = scale * (len(asked) - sum(answered[label] for label in view.emotions))
        found.append(Distribution(row, bars, unanswered))
    return found


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
            if row is None or not record["slots"]:
                continue
            bins = int(record["bins"])
            largest = max(slot["n"] for slot in record["slots"])
            marks = tuple(
                Mark(
                    at_x(slot["confidence"]),
                    at_y(slot["accuracy"]),
                    at_y(slot["high"]),
                    at_y(slot["low"]),
                    at_x(slot["slot"] / bins),
                    round(SIDE / bins - 2, 1),
                    round(_BARS * slot["n"] / largest, 1),
                    f"confidence {100 * slot['confidence']:.0f} percent, "
                    f"agreement {100 * slot['accuracy']:.0f} percent of {slot['n']}",
                )
                for slot in record["slots"]
            )
            shares = {key: float(record[key]) for key in ("error", "confidence", "accuracy", "contradicted")}
            found.append(Calibration(row, n=int(record["n"]), marks=marks, **shares))
    return sorted(found, key=lambda diagram: view.rows.index(diagram.row))

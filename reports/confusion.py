"""Confusion matrices (human dominant emotion × answered label) and label distributions beside people's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.reports.emotions import heat_step
from harness.reports.task_view import Row, TaskView
from harness.types import Answer, Example, Outcome

NO_ANSWER = "no answer"


@dataclass(frozen=True, slots=True)
class ConfusionCell:
    """Pictures of one dominant emotion that got one answer.

    Attributes:
        percent: of the pictures of that dominant emotion, None when there are none.
        step: heat step by that share, None for an empty cell.
    """

    count: int
    percent: str | None
    step: int | None
    is_diagonal: bool


@dataclass(frozen=True, slots=True)
class Confusion:
    """One row's matrix; `columns` are the labels, then `no answer` where results.json counts it."""

    row: Row
    columns: tuple[str, ...]
    lines: tuple[tuple[str, int, tuple[ConfusionCell, ...]], ...]


@dataclass(frozen=True, slots=True)
class Bar:
    """How often people felt an emotion and how often a model answered it, as percent of pictures."""

    emotion: str
    human: float
    predicted: float


@dataclass(frozen=True, slots=True)
class Distribution:
    """A row's answers beside people's annotations; `unanswered` is the percent without a label."""

    row: Row
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


def _confusion(row: Row, labels: Sequence[str], counts: Sequence[Sequence[int]]) -> Confusion:
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
    view: TaskView, examples: Iterable[Example], outcomes: Mapping[Row, Mapping[str, Outcome]]
) -> list[Distribution]:
    """Label shares of every row over the pictures that it was asked about, beside the annotators' mean shares."""
    by_id = {example.id: example for example in examples}
    return [
        _distribution(view.emotions, row, by_id, answers)
        for row, answers in outcomes.items()
        if any(example_id in by_id for example_id in answers)
    ]


def _distribution(
    labels: Sequence[str], row: Row, examples: Mapping[str, Example], outcomes: Mapping[str, Outcome]
) -> Distribution:
    asked = [(examples[i], outcome) for i, outcome in outcomes.items() if i in examples]
    answered = Counter(outcome.emotion for _, outcome in asked if isinstance(outcome, Answer))
    scale = 100 / len(asked)
    bars = tuple(
        Bar(label, scale * sum(e.share(label) for e, _ in asked), scale * answered.get(label, 0)) for label in labels
    )
    return Distribution(row, bars, scale * (len(asked) - sum(answered[label] for label in labels)))

"""From outcomes to the sheets that are scored: one per model and set of references."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from harness.store import RowKey
from harness.tasks.metrics.base import Row
from harness.types import Annotation, Answer, Example, Failed, Outcome, Task, UserError

References: TypeAlias = Literal["all", "same_emotion", "leave_one_out"]

_SUM_TOLERANCE = 0.01
_MISSING = Failed("missing", "no outcome was recorded for this painting")


@dataclass(frozen=True)
class Sheet:
    """The rows of one model against one set of references, in the order of the examples.

    Attributes:
        key: model and control.
        references: which references.
        rows: one per painting that has such references.
        is_main: True for the sheet that stands for the model (`leave_one_out` where it answers held-out annotations,
            `all` otherwise).
    """

    key: RowKey
    references: References
    rows: tuple[Row, ...]
    is_main: bool

    def annotated(self, emotion: str) -> tuple[Row, ...]:
        """Rows of paintings with at least one annotation of `emotion`, with those references only."""
        return tuple(
            dataclasses.replace(row, references=tuple(a for a in row.references if a.emotion == emotion))
            for row in self.rows
            if row.histogram.get(emotion, 0) > 0
        )


def checked_outcomes(
    task: Task, examples: Sequence[Example], key: RowKey, found: Mapping[str, Outcome]
) -> list[Outcome]:
    """The outcome of each example, `Failed("missing")` where there is none.

    Raises:
        UserError: repeated example ids, outcomes of unknown ids, labels or probabilities outside the task's.
    """
    repeated = [id_ for id_, count in Counter(e.id for e in examples).items() if count > 1]
    if repeated:
        raise UserError(f"task {task.name}: example ids must be unique; repeated: {_listed(repeated)}")
    unknown = found.keys() - {e.id for e in examples}
    if unknown:
        raise UserError(f"{key.stem}: {len(unknown)} outcomes of ids that task {task.name} lacks: {_listed(unknown)}")
    outcomes = [found.get(e.id, _MISSING) for e in examples]
    for example, outcome in zip(examples, outcomes, strict=True):
        if isinstance(outcome, Answer):
            _check_answer(task, f"{key.stem}, painting {example.id}", example, outcome)
    return outcomes


def _check_answer(task: Task, where: str, example: Example, answer: Answer) -> None:
    if answer.emotion not in task.emotions:
        raise UserError(f"{where}: emotion {answer.emotion!r} is not one of {', '.join(task.emotions)}")
    if answer.held_out is not None and not 0 <= answer.held_out < len(example.annotations):
        raise UserError(f"{where}: held_out {answer.held_out} of {len(example.annotations)} annotations")
    if answer.emotion_probs is not None:
        strange = answer.emotion_probs.keys() - set(task.emotions)
        if strange:
            raise UserError(f"{where}: emotion_probs names {_listed(strange)}, not labels of task {task.name}")
        total = sum(answer.emotion_probs.values())
        if abs(total - 1) > _SUM_TOLERANCE:
            raise UserError(f"{where}: emotion_probs sum to {total:.4g}, expected 1")


def _listed(ids: Iterable[str]) -> str:
    names = sorted(ids)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def sheets(task: Task, examples: Sequence[Example], outcomes: Mapping[RowKey, Sequence[Outcome]]) -> list[Sheet]:
    """Every sheet to score, in the order of the models.

    Raises:
        UserError: two rows hold out different annotations of the same painting.
    """
    people = {key: held_out(examples, found) for key, found in outcomes.items()}
    withheld = _agreed({key: indexes for key, indexes in people.items() if indexes})
    found: list[Sheet] = []
    for key, answers in outcomes.items():
        pairs = list(zip(examples, answers, strict=True))
        if not people[key]:
            found.append(Sheet(key, "all", tuple(_row(e, o, e.annotations) for e, o in pairs), True))
            if key.control is None:
                found.append(Sheet(key, "same_emotion", tuple(_same_emotion(e, o) for e, o in pairs), False))
        if withheld and key.control is None:
            rows = tuple(_without(e, o, withheld[e.id]) for e, o in pairs if e.id in withheld)
            found.append(Sheet(key, "leave_one_out", rows, bool(people[key])))
    return found


def held_out(examples: Sequence[Example], outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Painting id -> index of the annotation that answers, for rows that answer with annotations."""
    return {
        example.id: outcome.held_out
        for example, outcome in zip(examples, outcomes, strict=True)
        if isinstance(outcome, Answer) and outcome.held_out is not None
    }


def _agreed(people: Mapping[RowKey, Mapping[str, int]]) -> dict[str, int]:
    agreed: dict[str, int] = {}
    for key, indexes in people.items():
        for id_, index in indexes.items():
            if agreed.setdefault(id_, index) != index:
                raise UserError(
                    f"{key.stem}: holds out annotation {index} of painting {id_}, another row {agreed[id_]}; "
                    "score rows that hold out different annotations in separate runs"
                )
    return agreed


def _row(example: Example, outcome: Outcome, references: tuple[Annotation, ...]) -> Row:
    return Row(example, outcome, references, example.emotion_histogram)


def _same_emotion(example: Example, outcome: Outcome) -> Row:
    emotion = outcome.emotion if isinstance(outcome, Answer) else None
    return _row(example, outcome, tuple(a for a in example.annotations if a.emotion == emotion))


def _without(example: Example, outcome: Outcome, index: int) -> Row:
    """The row without one annotation, neither among the references nor in the histogram."""
    kept = example.annotations[:index] + example.annotations[index + 1 :]
    counts = Counter(example.emotion_histogram)
    counts[example.annotations[index].emotion] -= 1
    return Row(example, outcome, kept, {emotion: count for emotion, count in counts.items() if count > 0})

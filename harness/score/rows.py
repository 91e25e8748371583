"""From outcomes to the sheets that are scored: one per model and set of references."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from harness.store.run_folder import RowKey
from harness.tasks.metrics.base import Row
from harness.types import Annotation, Answer, Example, Failed, Outcome, Task, UserError

References: TypeAlias = Literal["all", "same_emotion", "leave_one_out", "leave_half_out"]

_SUM_TOLERANCE = 0.01
_MISSING = Failed("missing", "no outcome was recorded for this painting")


@dataclass(frozen=True)
class Sheet:
    """The rows of one model against one set of references, in the order of the examples.

    Attributes:
        key: model and control.
        references: which references.
        rows: one per painting that has such references.
        is_main: True for the sheet that stands for the model: `leave_one_out` where it answers with a held-out
            annotation (`human`), `leave_half_out` where it answers with half of them (`crowd`), `all` otherwise.
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
    if answer.emotion and answer.emotion not in task.emotions:
        raise UserError(f"{where}: emotion {answer.emotion!r} is not one of {', '.join(task.emotions)}")
    if not all(0 <= index < len(example.annotations) for index in _indexes(answer)):
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
        UserError: two rows of one kind hold out different annotations of the same painting.
    """
    kinds = {key: person_kind(found) for key, found in outcomes.items()}
    withheld = {
        kind: _agreed(examples, {key: outcomes[key] for key, found in kinds.items() if found == kind})
        for kind in dict.fromkeys(kind for kind in kinds.values() if kind is not None)
    }
    found: list[Sheet] = []
    for key, answers in outcomes.items():
        pairs = list(zip(examples, answers, strict=True))
        if kinds[key] is None:
            found.append(Sheet(key, "all", tuple(_row(e, o, e.annotations) for e, o in pairs), True))
            if key.control is None:
                found.append(Sheet(key, "same_emotion", tuple(_same_emotion(e, o) for e, o in pairs), False))
        for kind, indexes in withheld.items():
            if key.control is None and kinds[key] in (None, kind):
                rows = tuple(_without(e, o, indexes[e.id]) for e, o in pairs if e.id in indexes)
                found.append(Sheet(key, kind, rows, kinds[key] == kind))
    return found


def person_kind(outcomes: Sequence[Outcome]) -> Literal["leave_one_out", "leave_half_out"] | None:
    """Which references are left for a row that answers with annotations; None for a model."""
    given = [o.held_out for o in outcomes if isinstance(o, Answer) and o.held_out is not None]
    if not given:
        return None
    return "leave_half_out" if any(isinstance(indexes, tuple) for indexes in given) else "leave_one_out"


def _indexes(outcome: Outcome) -> tuple[int, ...]:
    """Indexes of the annotations that answer, in ascending order; empty for a model."""
    if not isinstance(outcome, Answer) or outcome.held_out is None:
        return ()
    return tuple(sorted(outcome.held_out)) if isinstance(outcome.held_out, tuple) else (outcome.held_out,)


def _agreed(examples: Sequence[Example], people: Mapping[RowKey, Sequence[Outcome]]) -> dict[str, tuple[int, ...]]:
    """Painting id -> held-out annotations, which must be the same for all rows."""
    agreed: dict[str, tuple[int, ...]] = {}
    for key, outcomes in people.items():
        for example, outcome in zip(examples, outcomes, strict=True):
            indexes = _indexes(outcome)
            if indexes and agreed.setdefault(example.id, indexes) != indexes:
                raise UserError(
                    f"{key.stem}: holds out annotations {indexes} of painting {example.id}, another row "
                    f"{agreed[example.id]}; score rows that hold out different annotations in separate runs"
                )
    return agreed


def _row(example: Example, outcome: Outcome, references: tuple[Annotation, ...]) -> Row:
    return Row(example, outcome, references, example.emotion_histogram)


def _same_emotion(example: Example, outcome: Outcome) -> Row:
    emotion = outcome.emotion if isinstance(outcome, Answer) else None
    return _row(example, outcome, tuple(a for a in example.annotations if a.emotion == emotion))


def _without(example: Example, outcome: Outcome, indexes: Sequence[int]) -> Row:
    """The row without some annotations, neither among the references nor in the histogram."""
    kept = tuple(a for index, a in enumerate(example.annotations) if index not in indexes)
    counts = Counter(example.emotion_histogram)
    counts.subtract(example.annotations[index].emotion for index in indexes)
    return Row(example, outcome, kept, {emotion: count for emotion, count in counts.items() if count > 0})

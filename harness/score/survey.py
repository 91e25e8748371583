"""The first reading of a task's rows: outcomes are checked, and it is learnt what each row can be scored against.

Nothing is kept of single examples but which annotations people hold out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from harness.tasks.metrics import languages
from harness.tasks.metrics.base import ScoredExample, traits
from harness.types import Answer, Example, Failed, Outcome, Refusal, RowKey, Task, Unparsed, UserError

References: TypeAlias = Literal["all", "same_emotion", "leave_one_out", "leave_half_out"]
Outcomes: TypeAlias = Mapping[RowKey, Mapping[str, Outcome]]

MISSING = Failed("missing", "no outcome was recorded for this example")
"""The outcome of an example without one."""

_SUM_TOLERANCE = 0.01


@dataclass
class RowSurvey:
    """What the first reading learns of one row of the leaderboard."""

    counts: Counter[type[Outcome]] = field(default_factory=Counter)
    traits: set[str] = field(default_factory=set)
    languages: Counter[str] = field(default_factory=Counter)
    held_out: dict[str, tuple[int, ...]] = field(default_factory=dict)
    truncated: int = 0

    def add(self, example: Example, outcome: Outcome) -> None:
        """Take note of one outcome."""
        self.counts[type(outcome)] += 1
        self.traits.update(traits(outcome))
        if isinstance(outcome, Answer):
            self.truncated += outcome.truncated
            language = languages.of_example(example.meta, outcome.explanation)
            self.languages[language] += 1
            self.traits.add(f"language:{language}")
            if indexes := _held_out(outcome):
                self.held_out[example.id] = indexes
                self.traits.add("half" if isinstance(outcome.held_out, tuple) else "one")

    @property
    def kind(self) -> Literal["leave_one_out", "leave_half_out"] | None:
        """Which references are left for a row that answers with annotations; None for a model."""
        if not self.held_out:
            return None
        return "leave_half_out" if "half" in self.traits else "leave_one_out"

    def coverage(self, task: Task, key: RowKey) -> dict[str, Any]:
        """How many examples were answered (in which languages), refused, unparsed, failed, cut off by the limit."""
        return {
            "task": task.name,
            "model": key.model,
            "control": key.control,
            "examples": self.counts.total(),
            "answered": self.counts[Answer],
            "refused": self.counts[Refusal],
            "unparsed": self.counts[Unparsed],
            "failed": self.counts[Failed],
            "truncated": self.truncated,
            "languages": dict(sorted(self.languages.items())),
        }


def survey(task: Task, examples: Iterable[Example], rows: Outcomes) -> dict[RowKey, RowSurvey]:
    """What is known of each row after reading everything once.

    Raises:
        UserError: repeated example ids, outcomes of unknown ids, labels or probabilities outside the task's.
    """
    found = {key: RowSurvey() for key in rows}
    ids: Counter[str] = Counter()
    for example in examples:
        ids[example.id] += 1
        for key, outcomes in rows.items():
            outcome = outcomes.get(example.id, MISSING)
            if isinstance(outcome, Answer):
                _check_answer(task, key, example, outcome)
            found[key].add(example, outcome)
    if len(ids) < ids.total():
        repeated = _listed(id_ for id_, count in ids.items() if count > 1)
        raise UserError(f"task {task.name}: example ids must be unique; repeated: {repeated}")
    for key, outcomes in rows.items():
        unknown = outcomes.keys() - ids.keys()
        if unknown:
            known = f"{len(unknown)} outcomes of ids that task {task.name} lacks"
            raise UserError(f"{key.stem}: {known}: {_listed(unknown)}")
    return found


def _check_answer(task: Task, key: RowKey, example: Example, answer: Answer) -> None:
    where = f"{key.stem}, example {example.id}"
    if answer.emotion and answer.emotion not in task.emotions:
        raise UserError(f"{where}: emotion {answer.emotion!r} is not one of {', '.join(task.emotions)}")
    if not all(0 <= index < len(example.annotations) for index in _held_out(answer)):
        raise UserError(f"{where}: held_out {answer.held_out} of {len(example.annotations)} annotations")
    if answer.emotion_probs is not None:
        strange = answer.emotion_probs.keys() - set(task.emotions)
        if strange:
            raise UserError(f"{where}: emotion_probs names {_listed(strange)}, not labels of task {task.name}")
        total = sum(answer.emotion_probs.values())
        # each may have been rounded to two decimals
        if abs(total - 1) > max(_SUM_TOLERANCE, 0.005 * len(answer.emotion_probs)):
            raise UserError(f"{where}: emotion_probs sum to {total:.4g}, expected 1")


def _listed(ids: Iterable[str]) -> str:
    names = sorted(ids)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _held_out(answer: Answer) -> tuple[int, ...]:
    """Indexes of the annotations that answer, in ascending order; empty for a model."""
    if answer.held_out is None:
        return ()
    return tuple(sorted(answer.held_out)) if isinstance(answer.held_out, tuple) else (answer.held_out,)


# ------------------------------------------------------------------------------------- reference sets


@dataclass(frozen=True)
class ReferenceSet:
    """One model against one set of references.

    Attributes:
        key: model and control.
        references: which references.
        is_main: True for the set that stands for the model: `leave_one_out` if it answers with a held-out annotation
            (`human`), `leave_half_out` if it answers with half of them (`crowd`), `all` otherwise.
        withheld: example id -> indexes of the annotations that are left out, for `leave_one_out` and `leave_half_out`.
    """

    key: RowKey
    references: References
    is_main: bool
    withheld: Mapping[str, tuple[int, ...]] = field(default_factory=dict, repr=False, compare=False)

    def scored(self, example: Example, outcome: Outcome) -> ScoredExample | None:
        """The example as it is scored; None if it has no such references."""
        if self.references == "all":
            return ScoredExample(example, outcome, example.annotations, example.emotion_histogram)
        if self.references == "same_emotion":
            emotion = outcome.emotion if isinstance(outcome, Answer) else None
            same = tuple(a for a in example.annotations if a.emotion == emotion)
            return ScoredExample(example, outcome, same, example.emotion_histogram)
        if example.id not in self.withheld:
            return None
        # neither among the references nor in the histogram
        left_out = self.withheld[example.id]
        kept = tuple(a for index, a in enumerate(example.annotations) if index not in left_out)
        counts = Counter(example.emotion_histogram)
        counts.subtract(example.annotations[index].emotion for index in left_out)
        return ScoredExample(example, outcome, kept, {emotion: count for emotion, count in counts.items() if count > 0})


def reference_sets(rows: Mapping[RowKey, RowSurvey]) -> list[ReferenceSet]:
    """Every set to score, in the order of the models.

    Raises:
        UserError: two rows of one kind hold out different annotations of the same example.
    """
    withheld: dict[References, dict[str, tuple[int, ...]]] = {}
    for key, row in rows.items():
        agreed = withheld.setdefault(row.kind, {}) if row.kind is not None else {}
        for example_id, indexes in row.held_out.items():
            if agreed.setdefault(example_id, indexes) != indexes:
                raise UserError(
                    f"{key.stem}: holds out annotations {indexes} of example {example_id}, another row "
                    f"{agreed[example_id]}; score rows that hold out different annotations in separate runs"
                )
    found: list[ReferenceSet] = []
    for key, row in rows.items():
        if row.kind is None:
            found.append(ReferenceSet(key, "all", is_main=True))
            if key.control is None:
                found.append(ReferenceSet(key, "same_emotion", is_main=False))
        for kind, indexes_of in withheld.items():
            if key.control is None and row.kind in (None, kind):
                found.append(ReferenceSet(key, kind, row.kind == kind, indexes_of))
    return found


class ReferenceTexts:
    """The reference texts of each example, read when iterated over."""

    def __init__(self, examples: Iterable[Example]) -> None:
        self._examples = examples

    def __iter__(self) -> Iterator[list[str]]:
        return ([a.explanation for a in example.annotations] for example in self._examples)

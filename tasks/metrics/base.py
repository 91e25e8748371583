"""What every metric is: statistics per example, and a value of their sums.

The idea is sacrebleu's (`metrics/base.py`): once a metric is split into a vector of *sufficient statistics* per
example and a function of the summed vectors, the overall value, the value of any subset (an emotion, an art style),
a bootstrap replicate (weighted sums) and a paired test all come from the same two functions.
"""

from __future__ import annotations

import hashlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from harness.errors import Unavailable as Unavailable
from harness.types import Annotation, Answer, Example, Outcome, Task

FloatArray: TypeAlias = npt.NDArray[np.float64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
Family: TypeAlias = Literal["label", "probability", "rating", "text", "affect", "style", "cost"]
Style: TypeAlias = Literal["plain", "percent", "si", "count", "money"]
View: TypeAlias = Literal["annotated", "reference", "predicted", "slice"]

EVERY_VIEW: frozenset[View] = frozenset({"annotated", "reference", "predicted", "slice"})

EXPLAINS = (("explanation", "the model gives labels without explanations"),)
"""What every metric of explanations requires of a model."""


def traits(outcome: Outcome) -> Iterator[str]:
    """What an outcome shows that a model gives; metrics require some of it.

    `answer`, `label`, `explanation` (not empty), `probabilities`, `doubt` (they are not all 0 or 1),
    `rating:<dimension>`, `latency`, `tokens`, `cost`. Scoring adds `language:<code>` of explanations.
    """
    if isinstance(outcome, Answer):
        yield "answer"
        if outcome.emotion:
            yield "label"
        if outcome.explanation:
            yield "explanation"
        if outcome.emotion_probs is not None and (total := sum(outcome.emotion_probs.values())) > 0:
            yield "probabilities"
            if max(outcome.emotion_probs.values()) != total:
                yield "doubt"
        for dimension in outcome.ratings or ():
            yield f"rating:{dimension}"
    usage = outcome.usage
    if usage.latency_s is not None and not usage.cached:
        yield "latency"
    if usage.prompt_tokens is not None and usage.completion_tokens is not None:
        yield "tokens"
    if usage.cost_usd is not None:
        yield "cost"


@dataclass(frozen=True, slots=True)
class ScoredExample:
    """One example as it is scored for one model.

    Attributes:
        example: the artwork (its own annotations and histogram are *not* what is scored against).
        outcome: what the model made of it.
        references: annotations scored against: all, some, or all but a held-out one.
        histogram: annotators per emotion, without a held-out annotation.
    """

    example: Example
    outcome: Outcome
    references: tuple[Annotation, ...]
    histogram: Mapping[str, int]

    @property
    def emotion(self) -> str | None:
        """The answered label, or None for anything but an answer with a label."""
        return (self.outcome.emotion or None) if isinstance(self.outcome, Answer) else None

    @property
    def explanation(self) -> str | None:
        """The answered explanation (possibly empty), or None for anything but an answer."""
        return self.outcome.explanation if isinstance(self.outcome, Answer) else None

    def share(self, emotion: str) -> float:
        """Fraction of the annotators in `histogram` who chose `emotion`, 0..1 (0 when there are none)."""
        total = sum(self.histogram.values())
        return self.histogram.get(emotion, 0) / total if total else 0.0


def answered(rows: Sequence[ScoredExample]) -> BoolArray:
    """Which scored examples are answers, (n,) bool."""
    return np.array([row.explanation is not None for row in rows], dtype=bool)


# ------------------------------------------------------------------------------------------ dominance


def majority(histogram: Mapping[str, int]) -> str | None:
    """The emotion chosen by *more than half* of the annotators (SEVLM `utils/data_utils.py`), else None."""
    total = sum(histogram.values())
    return next((emotion for emotion, count in histogram.items() if 2 * count > total), None)


def half_without_tie(histogram: Mapping[str, int]) -> str | None:
    """The emotion chosen by *at least half* of the annotators and more often than any other, else None.

    Source: ArtEmis `artemis/evaluation/emotion_alignment.py`.
    """
    total, most = sum(histogram.values()), max(histogram.values(), default=0)
    leaders = [emotion for emotion, count in histogram.items() if count == most]
    return leaders[0] if len(leaders) == 1 and 2 * most >= total > 0 else None


def most_without_tie(histogram: Mapping[str, int]) -> str | None:
    """The emotion chosen more often than any other, else None."""
    most = max(histogram.values(), default=0)
    leaders = [emotion for emotion, count in histogram.items() if count == most > 0]
    return leaders[0] if len(leaders) == 1 else None


class DominanceRule(NamedTuple):
    """A dominance rule and its name in signatures."""

    name: str
    emotion: Callable[[Mapping[str, int]], str | None]


DOMINANCE_RULES = {
    "coco-ptb": DominanceRule(">half", majority),
    "artemis-plain": DominanceRule(">=half", half_without_tie),
    "majority": DominanceRule(">half", majority),
    "half": DominanceRule(">=half", half_without_tie),
    "plurality": DominanceRule("most", most_without_tie),
}


def dominance_rule(task: Task) -> DominanceRule:
    """The rule that the card names under `dominance`, else that of its protocol.

    Raises:
        KeyError: unknown rule or protocol.
    """
    return DOMINANCE_RULES[task.dominance or task.protocol]


# -------------------------------------------------------------------------------------------- context

R = TypeVar("R")


@dataclass(frozen=True)
class Context:
    """What metrics may need besides the scored examples.

    Attributes:
        task: label set, polarity, protocol.
        resources: caption engine, text-emotion classifier, lexicon, encoder: whatever metrics ask for by its class.
        train_explanations: explanations of the training split in file order, None if it is not available.
        preprocessing: the reader's text preprocessing, for signatures (`none`, `deep-net`, ...).
    """

    task: Task
    resources: tuple[object, ...] = ()
    train_explanations: tuple[str, ...] | None = None
    preprocessing: str = "none"

    def find(self, kind: type[R]) -> R | None:
        """The resource of a class, None if there is none."""
        return next((resource for resource in self.resources if isinstance(resource, kind)), None)

    def dominant(self, histogram: Mapping[str, int]) -> str | None:
        """The dominant emotion by the task's rule; see `dominance_rule`."""
        return dominance_rule(self.task).emotion(histogram)


# ----------------------------------------------------------------------------------------- statistics


class Statistics(NamedTuple):
    """Sufficient statistics of n examples.

    Attributes:
        values: (n, k) float64; rows that do not count are zero.
        eligible: (n,) bool, which examples count; their number is the cell's n.
    """

    values: FloatArray
    eligible: BoolArray


def statistics_of(columns: Sequence[Sequence[float] | FloatArray], eligible: Sequence[bool] | BoolArray) -> Statistics:
    """Stack k columns of n numbers (as given) into `Statistics`, zeroing the rows that do not count."""
    mask = np.asarray(eligible, dtype=bool)
    values = np.column_stack([np.asarray(column, dtype=np.float64) for column in columns])  # (n, k)
    return Statistics(np.where(mask[:, None], values, 0.0), mask)


class Latest(Generic[R]):
    """What was last computed of a block of rows, which the next metric asks for again."""

    def __init__(self) -> None:
        self._found: tuple[Sequence[ScoredExample], R] | None = None

    def of(self, rows: Sequence[ScoredExample], compute: Callable[[Sequence[ScoredExample]], R]) -> R:
        """What `compute` makes of these very rows."""
        if self._found is None or self._found[0] is not rows:
            self._found = rows, compute(rows)
        return self._found[1]

    def clear(self) -> None:
        """Drop it."""
        self._found = None


def mean_statistics(scores: Sequence[float] | FloatArray, eligible: Sequence[bool] | BoolArray) -> Statistics:
    """Statistics of a plain mean: (n, 2) of the score and 1."""
    return statistics_of([scores, np.ones(len(eligible))], eligible)


def ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Element-wise quotient, NaN where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator != 0)


class Metric(ABC):
    """Name, direction and signature of a metric; subclass `AdditiveMetric` or `SetMetric`.

    Class attributes:
        name: registry name.
        label: column heading in reports; the name itself if empty.
        description: one sentence for people who read a report.
        group: the group of columns in which reports show it, such as `label` or `text-more`.
        style: how a value is written: `percent` multiplies by 100, `si` writes 186 M, `count` an integer, `money` US$.
        decimals: digits after the point (`plain`, `percent`).
        family: what it measures.
        higher_is_better: direction, or None where neither is better.
        bounds: smallest and largest possible value (None = unbounded).
        proportion: True where each example counts 0 or 1, so that a Wilson interval applies.
        protocol_dependent: True where the task's protocol changes the value.
        requires: what a model's answers must hold at all (see `traits`), each with the reason shown if none does.
        statistics_name: metrics of one name have the same statistics, which are computed once; the metric's own name if
            empty.
        reference_texts: True where the explanations of `ScoredExample.references` are scored against.
        views: conditionings in which the metric means something, besides the overall value.
        source: paper or file that the formula comes from.
        warning: what a reader must know before believing the value; stands above every table that shows it.
        version: raised whenever a change moves values.
    """

    name: ClassVar[str]
    label: ClassVar[str] = ""
    description: ClassVar[str] = ""
    group: ClassVar[str] = "other"
    style: ClassVar[Style] = "plain"
    decimals: ClassVar[int] = 3
    family: ClassVar[Family]
    higher_is_better: ClassVar[bool | None]
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    proportion: ClassVar[bool] = False
    protocol_dependent: ClassVar[bool] = False
    requires: ClassVar[tuple[tuple[str, str], ...]] = ()
    statistics_name: ClassVar[str] = ""
    reference_texts: ClassVar[bool] = False
    views: ClassVar[frozenset[View]] = frozenset()
    source: ClassVar[str] = ""
    warning: ClassVar[str] = ""
    version: ClassVar[str] = "1"

    def __init__(self, context: Context) -> None:
        self.context = context

    @property
    def shared(self) -> str:
        """What its statistics are called: metrics of one name have the same."""
        return self.statistics_name or self.name

    @classmethod
    def variant(cls, argument: str) -> type[Metric]:
        """The member of a family of metrics that a registry target `module:Class:argument` names.

        Raises:
            NotImplementedError: the class is no family.
        """
        raise NotImplementedError(f"{cls.__name__} has no variants, {argument!r} was asked for")

    @classmethod
    def member(cls, **attributes: Any) -> type[Metric]:
        """A subclass with these class attributes: one metric of a family."""
        return type(cls.__name__, (cls,), {"__doc__": cls.__doc__, "__module__": cls.__module__, **attributes})

    @classmethod
    def record(cls) -> dict[str, Any]:
        """What reports need to know of the metric: the entry of `metrics` in results.json."""
        return {
            "label": cls.label or cls.name,
            "group": cls.group,
            "higher_is_better": cls.higher_is_better,
            "style": cls.style,
            "decimals": cls.decimals,
            "range": list(cls.bounds),
            "description": cls.description,
            "formula": " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split()),
            "source": cls.source,
            **({"warning": cls.warning} if cls.warning else {}),
        }

    @classmethod
    def applies(cls, task: Task) -> bool:
        """Whether the metric means something for the task; by default, explanations are scored where it has them."""
        return task.explanations or cls.family in ("label", "probability", "cost")

    def missing(self) -> str | None:
        """Why the metric cannot be computed here for any model (no program, no lexicon); None if it can.

        Such a metric has one cell per model, which says so, and no others.
        """
        return None

    def lacking(self, found: Collection[str]) -> str | None:
        """Why the metric cannot be computed for a model whose outcomes have these `traits`; None if it can.

        A model without any answer lacks nothing: no example counts for it.
        """
        if "answer" not in found and self.family != "cost":
            return None
        if self.family == "label" and "label" not in found:
            return "the model gives explanations without labels"
        return next((reason for trait, reason in self.requires if trait not in found), None)

    def prepare(self, rows: Sequence[ScoredExample]) -> None:
        """Receive a block of every model's scored examples before they are scored one by one.

        What is costly can be computed together here.
        """

    def fields(self) -> dict[str, str]:
        """Choices of this metric that its signature must name, such as `{"df": "split"}`."""
        return {}

    def signature(self, references: str) -> str:
        """The reproducibility record, such as `bleu_4|protocol:coco-ptb|tok:ptb3|refs:all|pre:none|version:...`.

        Args:
            references: which references were scored against (`all`, `emotion`, `same_emotion`, `leave_one_out`).
        """
        fields: dict[str, str] = {}
        if self.protocol_dependent:
            fields["protocol"] = self.context.task.protocol
        fields |= self.fields()
        if self.family != "cost":
            fields |= {"refs": references, "pre": self.context.preprocessing}
        fields["version"] = self.version
        return "|".join([self.name, *(f"{key}:{value}" for key, value in fields.items())])

    def for_emotion(self, emotion: str) -> Metric:
        """The metric to report for examples with an annotation of `emotion`; itself unless that needs a weight."""
        del emotion
        return self


class AdditiveMetric(Metric):
    """A metric whose value is a function of summed per-example statistics."""

    @abstractmethod
    def statistics(self, rows: Sequence[ScoredExample]) -> Statistics:
        """Statistics of each row; a row's numbers depend on that row alone.

        Raises:
            Unavailable: the metric cannot be computed for these rows.
        """

    @abstractmethod
    def value(self, sums: FloatArray) -> FloatArray:
        """Values (...) of summed statistics (..., k); NaN where nothing was summed."""

    def over(self, total: FloatArray) -> AdditiveMetric:
        """The metric to evaluate on resamples of rows that sum to `total` (k,); itself unless the sum fixes something.

        An average over the classes that occur must keep its classes when a resample happens to miss one.
        """
        del total
        return self


class MeanMetric(AdditiveMetric):
    """An additive metric that is the plain mean of a score per eligible example (columns: score, 1)."""

    def value(self, sums: FloatArray) -> FloatArray:
        """The mean (...) of sums (..., 2)."""
        return ratio(sums[..., 0], sums[..., 1])


class Features(NamedTuple):
    """What a `SetMetric` keeps of n examples: `values` (n,) of any type, and which count, `eligible` (n,) bool."""

    values: npt.NDArray[Any]
    eligible: BoolArray


class SetMetric(Metric):
    """A metric of a whole set of examples (distinct counts, percentiles): no intervals, no tests."""

    @abstractmethod
    def features(self, rows: Sequence[ScoredExample]) -> Features:
        """What the value needs of each example; an example's features depend on that example alone.

        Raises:
            Unavailable: the metric cannot be computed for these.
        """

    @abstractmethod
    def value(self, features: npt.NDArray[Any]) -> float:
        """The value over the features (n,) of eligible examples (at least one)."""


def objects(values: Sequence[object]) -> npt.NDArray[Any]:
    """A one-dimensional array of arbitrary objects."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def encoder_label(name: str) -> str:
    """A hub id as it is; a folder by its name and the hash of its weights, so that no machine's path is recorded."""
    folder = Path(name)
    if not folder.is_dir():
        return name
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")]):
        digest.update(path.read_bytes())
    return f"{folder.name}@{digest.hexdigest()[:8]}"

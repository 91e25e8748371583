"""What every metric is: statistics per painting, and a value of their sums.

The idea is sacrebleu's (`metrics/base.py`): once a metric is split into a row of *sufficient statistics* per
painting and a function of the summed rows, the overall value, the value of any subset (an emotion, an art style),
a bootstrap replicate (weighted sums) and a paired test all come from the same two functions.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from harness.tasks.metrics.dominance import dominance_rule
from harness.types import Annotation, Answer, Example, Outcome, Task

if TYPE_CHECKING:
    from harness.tasks.metrics.caption_engine import CaptionEngine
    from harness.tasks.metrics.emotion_reader import EmotionReader
    from harness.tasks.metrics.similarity import TextSimilarity
    from harness.tasks.metrics.word_affect import WordAffect

FloatArray: TypeAlias = npt.NDArray[np.float64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
Family: TypeAlias = Literal["label", "probability", "rating", "text", "affect", "style", "cost"]
Style: TypeAlias = Literal["plain", "percent", "si", "count", "money"]
View: TypeAlias = Literal["annotated", "reference", "predicted", "slice"]

EVERY_VIEW: frozenset[View] = frozenset({"annotated", "reference", "predicted", "slice"})


class Unavailable(Exception):
    """A metric cannot be computed for these rows; the message is the reason shown in its cell."""


@dataclass(frozen=True, slots=True)
class Row:
    """One painting as it is scored for one model.

    Attributes:
        example: the painting (its own annotations and histogram are *not* what is scored against).
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
        """The answered label, or None for anything but an answer."""
        return self.outcome.emotion if isinstance(self.outcome, Answer) else None

    @property
    def explanation(self) -> str | None:
        """The answered explanation (possibly empty), or None for anything but an answer."""
        return self.outcome.explanation if isinstance(self.outcome, Answer) else None

    def share(self, emotion: str) -> float:
        """Fraction of the annotators in `histogram` who chose `emotion`, 0..1 (0 when there are none)."""
        total = sum(self.histogram.values())
        return self.histogram.get(emotion, 0) / total if total else 0.0


@dataclass(frozen=True)
class Context:
    """What metrics may need besides the rows.

    Attributes:
        task: label set, polarity, protocol.
        captions: tokenisation and caption scorers of the task's protocol.
        train_explanations: explanations of the training split in file order, None where it is not at hand.
        preprocessing: the reader's text preprocessing, for signatures (`none`, `deep-net`, ...).
        reader: reads emotions from texts, None where no classifier may be used.
        lexicon: valence, arousal and dominance of words, None where there is no lexicon.
        similarity: the encoder of BERTScore, None where none was chosen.
    """

    task: Task
    captions: CaptionEngine
    train_explanations: tuple[str, ...] | None = None
    preprocessing: str = "none"
    reader: EmotionReader | None = None
    lexicon: WordAffect | None = None
    similarity: TextSimilarity | None = None

    def dominant(self, histogram: Mapping[str, int]) -> str | None:
        """The dominant emotion by the protocol's rule; see `dominance.dominance_rule`."""
        return dominance_rule(self.task.protocol).emotion(histogram)


class Statistics(NamedTuple):
    """Sufficient statistics of n paintings.

    Attributes:
        values: (n, k) float64; rows that do not count are zero.
        eligible: (n,) bool, which paintings count; their number is the cell's n.
    """

    values: FloatArray
    eligible: BoolArray


def statistics_of(columns: Sequence[Sequence[float] | FloatArray], eligible: Sequence[bool] | BoolArray) -> Statistics:
    """Stack k columns of n numbers (as given) into `Statistics`, zeroing the rows that do not count."""
    mask = np.asarray(eligible, dtype=bool)
    values = np.column_stack([np.asarray(column, dtype=np.float64) for column in columns])  # (n, k)
    return Statistics(np.where(mask[:, None], values, 0.0), mask)


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
        proportion: True where each painting counts 0 or 1, so that a Wilson interval applies.
        protocol_dependent: True where the task's protocol changes the value.
        reference_texts: True where the explanations of `Row.references` are scored against.
        views: conditionings in which the metric means something, besides the overall value.
        source: paper or file that the formula comes from.
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
    reference_texts: ClassVar[bool] = False
    views: ClassVar[frozenset[View]] = frozenset()
    source: ClassVar[str] = ""
    version: ClassVar[str] = "1"

    def __init__(self, context: Context) -> None:
        self.context = context

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
        }

    @classmethod
    def applies(cls, task: Task) -> bool:
        """Whether the metric means something for the task; by default, explanations are scored where it has them."""
        return task.explanations or cls.family in ("label", "probability", "cost")

    def missing(self) -> str | None:
        """Why the metric cannot be had here for any rows (a program, a lexicon); None where it can.

        Such a metric has one cell per model, which says so, and no others.
        """
        return None

    def prepare(self, rows: Sequence[Row]) -> None:
        """Receive every row of every model before the first is scored, to compute together what is costly."""

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
        """The metric to report for paintings with an annotation of `emotion`; itself unless that needs a weight."""
        del emotion
        return self


class AdditiveMetric(Metric):
    """A metric whose value is a function of summed per-painting statistics."""

    @abstractmethod
    def statistics(self, rows: Sequence[Row]) -> Statistics:
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
    """An additive metric that is the plain mean of a score per eligible painting (columns: score, 1)."""

    def value(self, sums: FloatArray) -> FloatArray:
        """The mean (...) of sums (..., 2)."""
        return ratio(sums[..., 0], sums[..., 1])


class SetMetric(Metric):
    """A metric of a whole set of rows (distinct counts, percentiles): no intervals, no tests."""

    @abstractmethod
    def eligible(self, rows: Sequence[Row]) -> BoolArray:
        """Which rows count, (n,) bool.

        Raises:
            Unavailable: the metric cannot be computed for these rows.
        """

    @abstractmethod
    def value(self, rows: Sequence[Row]) -> float:
        """The value over eligible rows (at least one)."""

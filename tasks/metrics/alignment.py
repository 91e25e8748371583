"""Does the explanation speak of an emotion: the humans' (alignment), or the one that the model itself named?

A text-to-emotion classifier, trained on the task's training utterances, reads the explanation alone. It errs itself:
its accuracy on test utterances stands in each signature and bounds what these numbers can say. Over answered paintings;
an empty explanation speaks of nothing and counts as wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NoReturn

import numpy as np

from harness.tasks.metrics.base import (
    EVERY_VIEW,
    AdditiveMetric,
    BoolArray,
    Context,
    FloatArray,
    MeanMetric,
    Metric,
    Row,
    Statistics,
    Unavailable,
    View,
    mean_statistics,
    statistics_of,
)
from harness.tasks.metrics.captions import explained
from harness.tasks.metrics.dominance import dominance_rule
from harness.tasks.metrics.emotion_reader import EmotionReader
from harness.tasks.metrics.probabilities import FLOOR, annotator_distributions


class _Read(AdditiveMetric):
    """What every metric of the classifier's reading shares."""

    family = "affect"
    higher_is_better: ClassVar[bool | None] = True

    def read(self, rows: Sequence[Row]) -> tuple[FloatArray, BoolArray]:
        """Probabilities (n, L) in the order of the task's labels, and which rows hold an explanation's answer (n,).

        Raises:
            Unavailable: there is no classifier, or the model gives no explanations.
        """
        answered = explained(rows)
        texts = [row.explanation or "" for row in rows]
        return self._reader().probabilities(texts, self.context.task.emotions), answered

    def labels(self, rows: Sequence[Row]) -> tuple[list[str | None], BoolArray]:
        """The likeliest label of each row's explanation, None for an empty one, and which rows are answers (n,)."""
        probabilities, answered = self.read(rows)
        likeliest = probabilities.argmax(axis=1)
        names = self.context.task.emotions
        return [names[i] if row.explanation else None for i, row in zip(likeliest, rows, strict=True)], answered

    def fields(self) -> dict[str, str]:
        """The classifier."""
        return self._reader().fields()

    def missing(self) -> str | None:
        """Why there is no classifier."""
        return self._reader().missing()

    def _reader(self) -> EmotionReader:
        return self.context.reader or _NONE


def _no_classifier() -> NoReturn:
    raise Unavailable("no text-emotion classifier is at hand")


_NONE = EmotionReader(_no_classifier)


class EmotionalAlignment(MeanMetric, _Read):
    """Share of explanations in which the classifier reads the emotion that dominates the annotations.

    Over answered paintings with a dominant emotion by the protocol's rule. Range 0..1, higher is better.
    """

    name = "emotional_alignment"
    label = "Emotional alignment"
    description = "A text classifier reads the human dominant emotion from the explanation alone."
    group = "affect"
    style = "percent"
    decimals = 1
    proportion = True
    protocol_dependent = True
    views = EVERY_VIEW
    source = "ArtEmis artemis/evaluation/emotion_alignment.py; SEVLM single_caption_per_image.py"

    def statistics(self, rows: Sequence[Row]) -> Statistics:
        """(n, 2): read rightly, 1."""
        read, answered = self.labels(rows)
        dominant = [self.context.dominant(row.histogram) for row in rows]
        right = [float(found == wanted) for found, wanted in zip(read, dominant, strict=True)]
        return mean_statistics(right, answered & np.array([d is not None for d in dominant], dtype=bool))

    def fields(self) -> dict[str, str]:
        """The dominance rule and the classifier."""
        return {"dominance": dominance_rule(self.context.task.protocol).name, **super().fields()}

    def for_emotion(self, emotion: str) -> Metric:
        """Among paintings with an annotation of `emotion`: `AlignmentRecall`."""
        return AlignmentRecall(self.context, emotion)


class AlignmentRecall(MeanMetric, _Read):
    """How often the classifier reads one emotion where people felt it, each painting weighted by their share.

    Formula: sum_i s_i [read_i = e] / sum_i s_i. Range 0..1, higher is better. It is what `emotional_alignment` means in
    the `annotated` view, where a painting belongs to several emotions.
    """

    name = "emotional_alignment"

    def __init__(self, context: Context, emotion: str) -> None:
        super().__init__(context)
        self.emotion = emotion

    def statistics(self, rows: Sequence[Row]) -> Statistics:
        """(n, 2): share where the emotion is read, share."""
        read, answered = self.labels(rows)
        shares = np.array([row.share(self.emotion) for row in rows])
        found = np.array([label == self.emotion for label in read], dtype=np.float64)
        return statistics_of([shares * found, shares], answered & (shares > 0))

    def fields(self) -> dict[str, str]:
        """Named so that it cannot be taken for plain alignment."""
        return {"view": "annotated-recall", "weight": "share", **super().fields()}


class Consistency(MeanMetric, _Read):
    """Share of explanations in which the classifier reads the label that the model itself answered.

    Over answered paintings. Range 0..1, higher is better; says nothing about whether people agree.
    """

    name = "consistency"
    label = "Consistency"
    description = "A text classifier reads the model's own answered label from its explanation."
    group = "affect"
    style = "percent"
    decimals = 1
    proportion = True
    views: ClassVar[frozenset[View]] = frozenset({"reference", "predicted", "slice"})
    source = "this harness"

    def statistics(self, rows: Sequence[Row]) -> Statistics:
        """(n, 2): read as answered, 1."""
        _, same, answered = self.readings(rows)
        return mean_statistics(same.astype(np.float64), answered)

    def readings(self, rows: Sequence[Row]) -> tuple[list[str | None], BoolArray, BoolArray]:
        """The label read from each explanation, whether it is the answered one (n,), and which rows count (n,).

        Raises:
            Unavailable: there is no classifier, or the model gives no explanations.
        """
        read, answered = self.labels(rows)
        same = [label is not None and label == row.emotion for label, row in zip(read, rows, strict=True)]
        return read, np.array(same, dtype=bool), answered


class AlignmentCrossEntropy(MeanMetric, _Read):
    """Mean of -sum_e q_e ln p_e: annotators' shares q, the classifier's reading p of the explanation, in nats.

    Over all answered paintings. Range 0..inf, lower is better. An empty explanation is read as the classifier reads
    nothing at all, which is close to the training split's shares.
    """

    name = "ea_cross_entropy"
    label = "Alignment cross-entropy"
    description = "Cross-entropy of that text classifier against the annotators' distribution."
    group = "vad"
    higher_is_better = False
    bounds = (0.0, None)
    views: ClassVar[frozenset[View]] = frozenset({"reference", "predicted", "slice"})
    source = "SEVLM single_caption_per_image.py, Emo-Alignment-XENT"

    def statistics(self, rows: Sequence[Row]) -> Statistics:
        """(n, 2): cross-entropy, 1."""
        probabilities, answered = self.read(rows)
        observed = annotator_distributions(rows, self.context.task.emotions)
        entropies = -(observed * np.log(np.maximum(probabilities, FLOOR))).sum(axis=1)
        return mean_statistics(entropies, answered & observed.any(axis=1))

    def fields(self) -> dict[str, str]:
        """Unit and classifier."""
        return {"log": "e", **super().fields()}

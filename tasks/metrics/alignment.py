"""Does the explanation speak of an emotion: the humans' (alignment), or the one that the model itself named?

A text-to-emotion classifier, trained on the task's training utterances, reads the explanation alone. It errs itself:
its accuracy on test utterances stands in each signature and bounds what these numbers can say. Over answered examples;
an empty explanation speaks of nothing and counts as wrong.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NoReturn, Protocol

import numpy as np

from harness.tasks.metrics.base import (
    EVERY_VIEW,
    EXPLAINS,
    AdditiveMetric,
    BoolArray,
    Context,
    FloatArray,
    MeanMetric,
    Metric,
    ScoredExample,
    Statistics,
    Unavailable,
    View,
    answered,
    dominance_rule,
    mean_statistics,
    statistics_of,
)
from harness.tasks.metrics.probabilities import FLOOR, annotator_distributions


class Classifier(Protocol):
    """What is needed of a classifier; see `harness.tasks.text_emotion.checkpoint.TrainedClassifier`.

    Attributes:
        labels: the emotions, in the order of the columns of `probabilities`.
        record: `kind`, `sha256`, `test_accuracy` (0..1 or None), `test_utterances`.
    """

    @property
    def labels(self) -> tuple[str, ...]: ...  # noqa: D102

    @property
    def record(self) -> Mapping[str, Any]: ...  # noqa: D102

    def probabilities(self, texts: Sequence[str]) -> FloatArray: ...  # noqa: D102


class EmotionReader:
    """Reads emotions from texts.

    Args:
        obtain: loads or trains the classifier; raises `Unavailable` where there can be none.
    """

    def __init__(self, obtain: Callable[[], Classifier]) -> None:
        self._obtain = obtain
        self._classifier: Classifier | None = None
        self._reason: str | None = None
        self._known: dict[str, FloatArray] = {}
        self._lock = threading.Lock()

    def classifier(self) -> Classifier:
        """The classifier, obtained once; if another thread is at it, it is waited for.

        Raises:
            Unavailable: there is none; also when asked again.
        """
        with self._lock:
            if self._reason is not None:
                raise Unavailable(self._reason)
            if self._classifier is None:
                try:
                    self._classifier = self._obtain()
                except Unavailable as reason:
                    self._reason = str(reason)
                    raise
            return self._classifier

    def missing(self) -> str | None:
        """Why there is no classifier; None where there is one (it is obtained now)."""
        try:
            self.classifier()
        except Unavailable as reason:
            return str(reason)
        return None

    @property
    def record(self) -> Mapping[str, Any] | None:
        """What is known of the classifier; None where none was asked for or had."""
        return None if self._classifier is None else self._classifier.record

    def probabilities(self, texts: Sequence[str], labels: Sequence[str]) -> FloatArray:
        """Probabilities (n, L) in the order of `labels`.

        Raises:
            Unavailable: there is no classifier, or it knows other labels.
        """
        classifier = self.classifier()
        if set(classifier.labels) != set(labels):
            raise Unavailable(f"the text-emotion classifier knows other labels: {', '.join(classifier.labels)}")
        new = list(dict.fromkeys(text for text in texts if text not in self._known))
        self._known.update(zip(new, classifier.probabilities(new), strict=True))
        order = [classifier.labels.index(label) for label in labels]
        return np.array([self._known[text] for text in texts]).reshape(len(texts), len(labels))[:, order]

    def forget(self) -> None:
        """Drop what is kept of texts seen so far."""
        self._known.clear()

    def fields(self) -> dict[str, str]:
        """For signatures: kind and fingerprint, and the share of test utterances that the classifier reads rightly."""
        try:
            record = self.classifier().record
        except Unavailable:
            return {"clf": "none"}
        found = {"clf": f"{record['kind']}-{record['sha256'][:8]}"}
        if record["test_accuracy"] is not None:
            found["clf_acc"] = f"{record['test_accuracy']:.4f}(n={record['test_utterances']})"
        return found


class _Read(AdditiveMetric):
    """What every metric of the classifier's reading shares."""

    family = "affect"
    requires = EXPLAINS
    higher_is_better: ClassVar[bool | None] = True

    def read(self, rows: Sequence[ScoredExample]) -> tuple[FloatArray, BoolArray]:
        """Probabilities (n, L) in the order of the task's labels, and which rows hold an explanation's answer (n,).

        Raises:
            Unavailable: there is no classifier.
        """
        texts = [row.explanation or "" for row in rows]
        return self._reader().probabilities(texts, self.context.task.emotions), answered(rows)

    def labels(self, rows: Sequence[ScoredExample]) -> tuple[list[str | None], BoolArray]:
        """The likeliest label of each row's explanation, None for an empty one, and which rows are answers (n,)."""
        probabilities, explained = self.read(rows)
        likeliest = probabilities.argmax(axis=1)
        names = self.context.task.emotions
        return [names[i] if row.explanation else None for i, row in zip(likeliest, rows, strict=True)], explained

    def fields(self) -> dict[str, str]:
        """The classifier."""
        return self._reader().fields()

    def missing(self) -> str | None:
        """Why there is no classifier."""
        return self._reader().missing()

    def _reader(self) -> EmotionReader:
        return self.context.find(EmotionReader) or _NONE


def _no_classifier() -> NoReturn:
    raise Unavailable("no text-emotion classifier is available")


_NONE = EmotionReader(_no_classifier)


class EmotionalAlignment(MeanMetric, _Read):
    """Share of explanations in which the classifier reads the emotion that dominates the annotations.

    Over answered examples with a dominant emotion by the protocol's rule. Range 0..1, higher is better.
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

    def statistics(self, rows: Sequence[ScoredExample]) -> Statistics:
        """(n, 2): read rightly, 1."""
        read, explained = self.labels(rows)
        dominant = [self.context.dominant(row.histogram) for row in rows]
        right = [float(found == wanted) for found, wanted in zip(read, dominant, strict=True)]
        return mean_statistics(right, explained & np.array([d is not None for d in dominant], dtype=bool))

    def fields(self) -> dict[str, str]:
        """The dominance rule and the classifier."""
        return {"dominance": dominance_rule(self.context.task).name, **super().fields()}

    def for_emotion(self, emotion: str) -> Metric:
        """Among examples with an annotation of `emotion`: `AlignmentRecall`."""
        return AlignmentRecall(self.context, emotion)


class AlignmentRecall(MeanMetric, _Read):
    """How often the classifier reads one emotion where people felt it, each example weighted by their share.

    Formula: sum_i s_i [read_i = e] / sum_i s_i. Range 0..1, higher is better. It is what `emotional_alignment` means in
    the `annotated` view, where an example belongs to several emotions.
    """

    name = "emotional_alignment"

    def __init__(self, context: Context, emotion: str) -> None:
        super().__init__(context)
        self.emotion = emotion

    def statistics(self, rows: Sequence[ScoredExample]) -> Statistics:
        """(n, 2): share where the emotion is read, share."""
        read, explained = self.labels(rows)
        shares = np.array([row.share(self.emotion) for row in rows])
        found = np.array([label == self.emotion for label in read], dtype=np.float64)
        return statistics_of([shares * found, shares], explained & (shares > 0))

    def fields(self) -> dict[str, str]:
        """Named so that it cannot be taken for plain alignment."""
        return {"view": "annotated-recall", "weight": "share", **super().fields()}


class Consistency(MeanMetric, _Read):
    """Share of explanations in which the classifier reads the label that the model itself answered.

    Over answered examples. Range 0..1, higher is better; says nothing about whether people agree.
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

    def statistics(self, rows: Sequence[ScoredExample]) -> Statistics:
        """(n, 2): read as answered, 1."""
        _, same, explained = self.readings(rows)
        return mean_statistics(same.astype(np.float64), explained)

    def readings(self, rows: Sequence[ScoredExample]) -> tuple[list[str | None], BoolArray, BoolArray]:
        """The label read from each explanation, whether it is the answered one (n,), and which rows count (n,).

        Raises:
            Unavailable: there is no classifier.
        """
        read, explained = self.labels(rows)
        same = [label is not None and label == row.emotion for label, row in zip(read, rows, strict=True)]
        return read, np.array(same, dtype=bool), explained


class AlignmentCrossEntropy(MeanMetric, _Read):
    """Mean of -sum_e q_e ln p_e: annotators' shares q, the classifier's reading p of the explanation, in nats.

    Over all answered examples. Range 0..inf, lower is better. An empty explanation is read as the classifier reads
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

    def statistics(self, rows: Sequence[ScoredExample]) -> Statistics:
        """(n, 2): cross-entropy, 1."""
        probabilities, explained = self.read(rows)
        observed = annotator_distributions(rows, self.context.task.emotions)
        entropies = -(observed * np.log(np.maximum(probabilities, FLOOR))).sum(axis=1)
        return mean_statistics(entropies, explained & observed.any(axis=1))

    def fields(self) -> dict[str, str]:
        """Unit and classifier."""
        return {"log": "e", **super().fields()}


READERS = (EmotionalAlignment, Consistency, AlignmentCrossEntropy)
"""The metrics that ask the classifier."""

"""The text-to-emotion classifier as metrics use it: obtained when first asked for, each distinct text read once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from harness.tasks.metrics.base import FloatArray, Unavailable


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

    def classifier(self) -> Classifier:
        """The classifier, obtained once.

        Raises:
            Unavailable: there is none; also when asked again.
        """
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

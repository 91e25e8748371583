"""What every text-to-emotion classifier is, and how one is kept in a folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from harness.types import Annotation
from harness.yaml_file import Settings

FloatArray: TypeAlias = npt.NDArray[np.float64]


class TextClassifier(ABC):
    """Reads an emotion from a text.

    Attributes:
        labels: the emotions, in the order of the columns of `probabilities`.
    """

    kind: ClassVar[str]
    settings_model: ClassVar[type[Settings]]
    labels: tuple[str, ...]

    @classmethod
    @abstractmethod
    def fit(
        cls,
        labels: Sequence[str],
        train: Sequence[Annotation],
        val: Sequence[Annotation],
        settings: Mapping[str, Any],
        seed: int,
        device: str | None,
    ) -> Self:
        """Train on utterances.

        Args:
            labels: the label set; utterances have no other labels.
            train: what is learned from.
            val: what the best epoch is chosen by, if there are epochs; may be empty.
            settings: those of `settings_model`.
            seed: of initialisation and order.
            device: `cpu`, `cuda`, ... or None for cuda if there is one.

        Raises:
            UserError: a setting cannot be used.
        """

    @abstractmethod
    def probabilities(self, texts: Sequence[str]) -> FloatArray:
        """Probabilities (n, L) of the labels; each row sums to 1."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the weights into an existing folder."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, labels: Sequence[str], settings: Mapping[str, Any]) -> Self:
        """Read what `save` wrote."""


def accuracy(classifier: TextClassifier, utterances: Sequence[Annotation]) -> float | None:
    """Share of utterances whose likeliest label is the one that their writer chose, 0..1; None without utterances."""
    if not utterances:
        return None
    likeliest = classifier.probabilities([u.explanation for u in utterances]).argmax(axis=1)
    right = sum(classifier.labels[i] == u.emotion for i, u in zip(likeliest.tolist(), utterances, strict=True))
    return float(right) / len(utterances)


def softmax(logits: FloatArray) -> FloatArray:
    """Row-wise softmax (n, L)."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: FloatArray = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities

"""Training data in this library's own terms: a picture and what people said about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sevlm.errors import SEVLMError


@dataclass(frozen=True)
class TrainingExample:
    """One picture with its captions.

    Attributes:
        id: unique within the training.
        image_path: the picture file.
        captions: (emotion, explanation) per annotation, in file order; never empty.
        histogram: annotators per emotion, counted before any text filter; None counts the captions.
        vad: people's mean valence, arousal and dominance before the picture, each in -1..1, 0 where it was not asked
            for; the VAD head learns it from captions without explanation, whose words tell it nothing.
    """

    id: str
    image_path: Path
    captions: tuple[tuple[str, str], ...]
    histogram: Mapping[str, int] | None = None
    vad: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        """Refuse a picture that nobody described."""
        if not self.captions:
            raise SEVLMError(f"training example {self.id!r} has no caption")

    @property
    def emotions(self) -> frozenset[str]:
        """The emotions that its captions name."""
        return frozenset(emotion for emotion, _ in self.captions)

    @property
    def is_unexplained(self) -> bool:
        """Whether no caption says why."""
        return not any(explanation for _, explanation in self.captions)

    @property
    def counts(self) -> Mapping[str, int]:
        """Annotators per emotion."""
        return self.histogram if self.histogram is not None else Counter(emotion for emotion, _ in self.captions)

    @property
    def dominant_emotion(self) -> str | None:
        """The emotion of strictly more than half of the annotators, else None."""
        counts = self.counts
        total = sum(counts.values())
        return next((emotion for emotion, count in counts.items() if 2 * count > total), None)

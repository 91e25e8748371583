"""Valence, arousal and dominance of texts, as means over the words that a lexicon knows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.tasks.metrics.base import FloatArray
from harness.types import VAD_DIMENSIONS

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


@dataclass(frozen=True)
class WordAffect:
    """A lexicon's words and their affect.

    Attributes:
        name: of the lexicon, for signatures.
        fingerprint: hash of its content, for signatures.
        dimensions: what it measures: an ordered subset of `VAD_DIMENSIONS`.
        entries: lower-case word -> one value in -1..1 for each of `dimensions`.
    """

    name: str
    fingerprint: str
    dimensions: tuple[str, ...]
    entries: Mapping[str, Sequence[float]]
    _known: dict[str, tuple[FloatArray, float]] = field(default_factory=dict, repr=False, compare=False)

    def means(self, text: str) -> FloatArray:
        """Mean over the known words of each of `VAD_DIMENSIONS`, (3,) in -1..1; NaN where nothing is known or measured.

        Words are looked up one by one, in lower case, as they stand: neither negation nor phrases are seen.
        """
        return self._read(text)[0]

    def coverage(self, text: str) -> float:
        """Share of the text's words that have an entry, 0..1; NaN for a text without words."""
        return self._read(text)[1]

    def _read(self, text: str) -> tuple[FloatArray, float]:
        if text not in self._known:
            words = _WORD.findall(text.lower().replace("’", "'"))
            found = [self.entries[word] for word in words if word in self.entries]
            means = np.full(len(VAD_DIMENSIONS), np.nan)
            if found:
                means[[VAD_DIMENSIONS.index(name) for name in self.dimensions]] = np.mean(found, axis=0)
            self._known[text] = means, len(found) / len(words) if words else float("nan")
        return self._known[text]

"""Emotion labels that say what all annotators of a picture chose, instead of one of them.

A caption's emotion is one person's, and pairs are drawn with two different emotions, so that rare emotions are shown
more often than people choose them. With soft labels each token of the emotion, and the "because" after it, is scored
against the share of annotators whose emotion goes on with it, given the tokens before, and counts
`config.emotion_weight` times. Explanations stay as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

import torch

from sevlm.config import SEVLMConfig
from sevlm.losses import SoftLabels
from sevlm.tokenization import IGNORE_INDEX, EncodedCaption, Tokenizer, encode_label

SoftToken: TypeAlias = tuple[int, int, float]
"""Position in the caption, token, share of annotators times weight."""


class EmotionLabels:
    """Soft labels of captions, remembered by emotion and histogram."""

    def __init__(self, tokenizer: Tokenizer, config: SEVLMConfig) -> None:
        self._length, self._weight = config.max_length, config.emotion_weight
        self._ids = lru_cache(maxsize=None)(
            lambda emotion: _label_ids(encode_label(tokenizer, config, emotion))  # few emotions
        )
        self._soft = lru_cache(maxsize=100_000)(self._compute)

    def __call__(self, emotion: str, histogram: Mapping[str, int]) -> tuple[SoftToken, ...]:
        """Soft tokens of a caption that names `emotion`; with weight 1, a position whose token is certain has none."""
        return self._soft(emotion, tuple(sorted(histogram.items())))

    def _compute(self, emotion: str, histogram: tuple[tuple[str, int], ...]) -> tuple[SoftToken, ...]:
        start, own = self._ids(emotion)
        found: list[SoftToken] = []
        for index in range(min(len(own), self._length - start)):
            shares: Counter[int] = Counter()
            for other, count in histogram:
                ids = self._ids(other)[1]
                if count and ids[:index] == own[:index]:
                    shares[ids[index]] += count
            if len(shares) > 1 or (shares and self._weight != 1):
                scale = self._weight / shares.total()
                found += [(start + index, token, scale * count) for token, count in sorted(shares.items())]
        return tuple(found)


def stack_soft(rows: Sequence[Sequence[SoftToken]]) -> SoftLabels | None:
    """The soft labels of a batch; None where no row has any."""
    entries = [(row, *entry) for row, soft in enumerate(rows) for entry in soft]
    if not entries:
        return None
    row, position, token, share = zip(*entries, strict=True)
    return SoftLabels(torch.tensor(row), torch.tensor(position), torch.tensor(token), torch.tensor(share))


def _label_ids(encoded: EncodedCaption) -> tuple[int, tuple[int, ...]]:
    """First position of the emotion, and the ids of the emotion and "because"."""
    start = sum(label == IGNORE_INDEX for label in encoded.labels)
    return start, encoded.input_ids[start:]

"""How much of an explanation can be found, in order, in a training explanation.

The official code compares 800 sampled captions with 25,000 sampled training utterances: twenty million longest common
subsequences. Here one caption is compared with all utterances at once, bit-parallel, so that it takes seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from harness.tasks.metrics.base import BoolArray, Row, SetMetric, Unavailable
from harness.tasks.metrics.captions import explained, tokeniser_name
from harness.tasks.metrics.style import words_of

WORD_BITS = 64
SEED = 2021


class Corpus:
    """Tokenised texts, ready to be compared with many captions.

    Args:
        texts: words of each text.
    """

    def __init__(self, texts: Sequence[Sequence[str]]) -> None:
        self._ids: dict[str, int] = {}
        coded = [[self._ids.setdefault(word, len(self._ids)) for word in text] for text in texts]
        # longest first, so that the texts that still have a word at position t are the first ones
        self._order = sorted(range(len(coded)), key=lambda i: -len(coded[i]))
        longest = len(coded[self._order[0]]) if coded else 0
        self._columns = [
            np.array([coded[i][t] for i in self._order if len(coded[i]) > t], dtype=np.intp) for t in range(longest)
        ]

    def lcs_lengths(self, caption: Sequence[str]) -> npt.NDArray[np.int64]:
        """Length in words of the longest common subsequence of a caption with every text, (texts,) in their order.

        Bit i of a text's state is 0 where the subsequence grows at word i of the caption; each word of the text
        updates the state by one addition (Crochemore et al. 2001), carried over 64-bit blocks for long captions.
        """
        blocks = -(-len(caption) // WORD_BITS)
        masks = np.zeros((blocks, len(self._ids) + 1), dtype=np.uint64)
        for position, word in enumerate(caption):
            block, bit = divmod(position, WORD_BITS)
            masks[block, self._ids.get(word, -1)] |= np.uint64(1 << bit)
        masks[:, -1] = 0  # words that no text holds
        state = np.full((blocks, len(self._order)), np.iinfo(np.uint64).max, dtype=np.uint64)
        for column in self._columns:
            _advance(state[:, : len(column)], masks[:, column])
        lengths = np.empty(len(self._order), dtype=np.int64)
        lengths[self._order] = _zero_bits(state)
        return lengths


def _advance(state: npt.NDArray[np.uint64], mask: npt.NDArray[np.uint64]) -> None:
    """Update states (blocks, n) in place by the match masks (blocks, n) of one word of each text."""
    overflow: npt.NDArray[np.bool_] | None = None
    for block, matches in zip(state, mask, strict=True):
        shared = block & matches
        total = block + shared
        wrapped = total < shared
        if overflow is not None:
            total += overflow
            wrapped |= overflow & (total == 0)
        block[:] = total | (block ^ shared)
        overflow = wrapped


def _zero_bits(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Number of zero bits (n,) over the blocks (blocks, n)."""
    as_bytes = np.ascontiguousarray(~state).view(np.uint8).reshape(*state.shape, 8)  # (blocks, n, 8)
    counts: npt.NDArray[np.int64] = np.unpackbits(as_bytes, axis=-1).sum(axis=(0, 2), dtype=np.int64)
    return counts


class LCSNovelty(SetMetric):
    """Mean, in words, of the longest common subsequence with the nearest training explanation; lower is more novel.

    Over at most 800 explanations and 25,000 training explanations, drawn with the official seed (training texts
    first). Range 0..inf. It grows with the length of the explanations: read it beside `mean_length`.
    """

    name = "lcs_novelty"
    label = "LCS, words"
    description = "Mean longest common subsequence with the nearest training explanation; grows with length."
    group = "variety"
    decimals = 1
    family = "style"
    higher_is_better = False
    bounds = (0.0, None)
    protocol_dependent = True
    source = "ArtEmis artemis/evaluation/longest_common_subseq.py, max-LCS of apply_basic_evaluations"
    utterances: ClassVar[int] = 25_000
    captions: ClassVar[int] = 800

    def eligible(self, rows: Sequence[Row]) -> BoolArray:
        """Answers."""
        if not self.context.train_explanations:
            raise Unavailable("the training split is not at hand")
        return explained(rows)

    def value(self, rows: Sequence[Row]) -> float:
        """Mean over sampled rows of the largest common subsequence."""
        return float(np.mean([found.max() for found in self.lengths(rows)]))

    def lengths(self, rows: Sequence[Row]) -> list[npt.NDArray[np.int64]]:
        """For each sampled row, the common subsequences with every sampled training explanation, in words."""
        generator = np.random.RandomState(SEED)
        self._draw(generator, len(self.context.train_explanations or ()), self.utterances)
        words = words_of(rows, self.context.captions)
        chosen = self._draw(generator, len(rows), self.captions)
        return [self._corpus.lcs_lengths(words[i]) for i in chosen]

    def fields(self) -> dict[str, str]:
        """Tokenisation and sampling."""
        tokeniser = tokeniser_name(self.context.task.protocol)
        return {"tok": tokeniser, "sample": f"{self.captions}x{self.utterances}", "seed": str(SEED)}

    @cached_property
    def _corpus(self) -> Corpus:
        texts = self.context.train_explanations or ()
        chosen = self._draw(np.random.RandomState(SEED), len(texts), self.utterances)
        sample, engine = [texts[i] for i in chosen], self.context.captions
        engine.prepare(sample)
        return Corpus([engine.tokens(text).split() for text in sample])

    @staticmethod
    def _draw(generator: np.random.RandomState, available: int, wanted: int) -> npt.NDArray[np.int64]:
        """Indexes without replacement, as `pandas.Series.sample` draws them."""
        return generator.choice(available, size=min(wanted, available), replace=False)

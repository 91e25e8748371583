"""Metrics of the explanations alone: variety, length, similes, copying, novelty. Over answered examples.

`lcs_novelty`: the official code compares 800 sampled captions with 25,000 sampled training utterances, twenty million
longest common subsequences. Here one caption is compared with all utterances at once, bit-parallel: seconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from harness.tasks.metrics.base import (
    EXPLAINS,
    Features,
    MeanMetric,
    Metric,
    ScoredExample,
    SetMetric,
    Statistics,
    Style,
    Unavailable,
    View,
    answered,
    mean_statistics,
    objects,
)
from harness.tasks.metrics.caption_engine import CaptionEngine, engine_of
from harness.tasks.metrics.java import one_line

_VIEWS: frozenset[View] = frozenset({"reference", "predicted", "slice"})

SIMILE_MARKERS = (
    "could be", "appears to be", "appear to be", "reminds me", "remind me", "seems like", "looks like", "look like",
    "is like", "are like", "think of", "resembles", "resembling",
)  # fmt: skip
"""Substrings that ArtEmis takes for a simile or metaphor (`artemis/evaluation/metaphors.py`)."""


def fold(text: str) -> str:
    """A text for verbatim comparison: one line, single blanks, lower case."""
    return one_line(text).lower()


def explanations(rows: Sequence[ScoredExample]) -> list[str]:
    """The explanations of answered rows, empty text for the others, in row order."""
    return [row.explanation or "" for row in rows]


def words_of(rows: Sequence[ScoredExample], captions: CaptionEngine) -> list[list[str]]:
    """The protocol's tokens of each explanation, none for an unanswered example.

    Raises:
        Unavailable: the protocol's tokeniser cannot run.
    """
    texts = explanations(rows)
    captions.prepare(texts)
    return [captions.tokens(text).split() for text in texts]


class WordIds:
    """Words as numbers, so that the words of many explanations take little memory."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}

    def of(self, words: Sequence[str]) -> npt.NDArray[np.int32]:
        """Numbers (n,) of n words; equal words have equal numbers."""
        ids = self._ids
        return np.array([ids.setdefault(word, len(ids)) for word in words], dtype=np.int32)


class WordsMetric(SetMetric):
    """A metric of the words of all explanations together, on the protocol's tokens."""

    statistics_name = "words"
    family = "style"
    group = "variety"
    requires = EXPLAINS
    protocol_dependent = True

    def features(self, rows: Sequence[ScoredExample]) -> Features:
        """The numbers of each explanation's words, an array (words,) each."""
        ids = self._word_ids()
        words = words_of(rows, engine_of(self))
        return Features(objects([ids.of(found) for found in words]), answered(rows))

    def _word_ids(self) -> WordIds:
        found = self.context.find(WordIds)
        if found is None:
            raise Unavailable("the context holds no WordIds")
        return found

    def fields(self) -> dict[str, str]:
        """Tokenisation."""
        return {"tok": engine_of(self).tokeniser_name()}


class Unique(SetMetric):
    """Distinct explanations / explanations (white space normalised). Range 0..1, higher is better.

    A set of fewer examples has a higher value by itself, so compare equal n only.
    """

    name = "unique"
    label = "Unique"
    description = "Distinct explanations among all explanations."
    group = "variety"
    style = "percent"
    decimals = 1
    family = "style"
    requires = EXPLAINS
    higher_is_better = True
    views = _VIEWS
    source = "SEVLM-code artEmisX_test.py; ArtEmis evaluation notebook"

    def features(self, rows: Sequence[ScoredExample]) -> Features:
        """A 64-bit hash of each explanation."""
        hashes = [hashlib.blake2b(one_line(text).encode(), digest_size=8).digest() for text in explanations(rows)]
        return Features(np.frombuffer(b"".join(hashes), dtype=np.uint64), answered(rows))

    def value(self, features: npt.NDArray[Any]) -> float:
        """Distinct share."""
        return len(np.unique(features)) / len(features)


class Distinct(WordsMetric):
    """Distinct n-grams / n-grams over all explanations together, on the protocol's tokens.

    A family over n, 1 or 2. Range 0..1, higher is better; falls with the number of explanations by itself.

        >>> from harness.metrics import distinct
        >>> distinct(["the sea", "the sea is calm"], n=1, protocol="artemis-plain")  # 4 distinct words of 6
        0.6666666666666666
    """

    style: ClassVar[Style] = "percent"
    decimals = 1
    higher_is_better = True
    views = _VIEWS
    source = "Li et al. 2016, a diversity-promoting objective function"
    order: ClassVar[int]

    @classmethod
    def variant(cls, order: str) -> type[Metric]:
        """Distinct n-grams of n = `order`."""
        said = {"1": "Distinct words among all words.", "2": "Distinct word pairs among all word pairs."}[order]
        return cls.member(
            name=f"distinct_{order}", order=int(order), label=f"Distinct-{order}", description=said,
        )  # fmt: skip

    def value(self, features: npt.NDArray[Any]) -> float:
        """Distinct share, NaN if there is no n-gram at all."""
        words = [text.astype(np.int64) for text in features]
        grams = np.concatenate(words if self.order == 1 else [text[:-1] << 32 | text[1:] for text in words])
        return len(np.unique(grams)) / len(grams) if len(grams) else float("nan")


class Metaphor(MeanMetric):
    """Share of explanations that hold one of 13 markers of comparison, case-sensitive. Range 0..1, no direction.

    Plain substrings, as in ArtEmis: `is like` also matches `this is likely`.
    """

    name = "metaphor"
    label = "Similes"
    description = "Explanations that hold a phrase of comparison such as “reminds me of”."
    group = "variety"
    style = "percent"
    decimals = 1
    family = "style"
    requires = EXPLAINS
    higher_is_better = None
    proportion = True
    views = _VIEWS
    source = "artemis/evaluation/metaphors.py"

    def statistics(self, rows: Sequence[ScoredExample]) -> Statistics:
        """(n, 2): holds a marker, 1."""
        found = [any(marker in text for marker in SIMILE_MARKERS) for text in explanations(rows)]
        return mean_statistics(np.array(found, dtype=np.float64), answered(rows))


class Copied(MeanMetric):
    """Share of explanations that stand word for word in the training split. Range 0..1, lower is better.

    White space and case are ignored.
    """

    name = "copied"
    label = "Copied"
    description = "Explanations found word for word in the training split."
    group = "variety"
    style = "percent"
    decimals = 1
    family = "style"
    requires = EXPLAINS
    higher_is_better = False
    proportion = True
    views = _VIEWS
    source = "this harness"

    def statistics(self, rows: Sequence[ScoredExample]) -> Statistics:
        """(n, 2): copied, 1."""
        if self.context.train_explanations is None:
            raise Unavailable("the training split is not available")
        copied = [fold(text) in self._known for text in explanations(rows)]
        return mean_statistics(np.array(copied, dtype=np.float64), answered(rows))

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(fold(text) for text in self.context.train_explanations or ())


class MeanLength(MeanMetric):
    """Mean number of the protocol's tokens per explanation. Range 0..inf, no direction."""

    name = "mean_length"
    label = "Mean length"
    description = "Words per explanation."
    group = "variety"
    decimals = 1
    family = "style"
    requires = EXPLAINS
    higher_is_better = None
    bounds = (0.0, None)
    protocol_dependent = True
    views = _VIEWS
    source = "this harness"

    def statistics(self, rows: Sequence[ScoredExample]) -> Statistics:
        """(n, 2): tokens, 1."""
        explained = answered(rows)
        lengths = [len(words) for words in words_of(rows, engine_of(self))]
        return mean_statistics(np.array(lengths, dtype=np.float64), explained)

    def fields(self) -> dict[str, str]:
        """Tokenisation."""
        return {"tok": engine_of(self).tokeniser_name()}


# ------------------------------------------------------------------------------------------- novelty

WORD_BITS = 64
SEED = 2021


class Corpus:
    """Tokenised texts, ready to be compared with many captions.

    Args:
        texts: words of each text, or their numbers.
    """

    def __init__(self, texts: Sequence[Sequence[Hashable]]) -> None:
        self._ids: dict[Hashable, int] = {}
        coded = [[self._ids.setdefault(word, len(self._ids)) for word in text] for text in texts]
        # longest first, so that the texts that still have a word at position t are the first ones
        self._order = sorted(range(len(coded)), key=lambda i: -len(coded[i]))
        longest = len(coded[self._order[0]]) if coded else 0
        self._columns = [
            np.array([coded[i][t] for i in self._order if len(coded[i]) > t], dtype=np.intp) for t in range(longest)
        ]

    def lcs_lengths(self, caption: Sequence[Hashable]) -> npt.NDArray[np.int64]:
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
        zeros = np.ascontiguousarray(~state).view(np.uint8).reshape(*state.shape, 8)  # (blocks, texts, 8 bytes)
        lengths[self._order] = np.unpackbits(zeros, axis=-1).sum(axis=(0, 2), dtype=np.int64)
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


class LCSNovelty(WordsMetric):
    """Mean, in words, of the longest common subsequence with the nearest training explanation; lower is more novel.

    Over at most 800 explanations and 25,000 training explanations, drawn with the official seed (training texts
    first). Range 0..inf. It grows with the length of the explanations: read it beside `mean_length`.
    """

    name = "lcs_novelty"
    label = "LCS, words"
    description = "Mean longest common subsequence with the nearest training explanation; grows with length."
    decimals = 1
    higher_is_better = False
    bounds = (0.0, None)
    source = "ArtEmis artemis/evaluation/longest_common_subseq.py, max-LCS of apply_basic_evaluations"
    utterances: ClassVar[int] = 25_000
    captions: ClassVar[int] = 800

    def value(self, features: npt.NDArray[Any]) -> float:
        """Mean over sampled explanations of the largest common subsequence.

        Raises:
            Unavailable: there is no training split. (Other metrics of words share the features.)
        """
        if not self.context.train_explanations:
            raise Unavailable("the training split is not available")
        return float(np.mean([found.max() for found in self.lengths(features)]))

    def lengths(self, features: npt.NDArray[Any]) -> list[npt.NDArray[np.int64]]:
        """For each sampled explanation, the common subsequences with every sampled training explanation, in words."""
        generator = np.random.RandomState(SEED)
        self._draw(generator, len(self.context.train_explanations or ()), self.utterances)
        chosen = self._draw(generator, len(features), self.captions)
        return [self._corpus.lcs_lengths(features[i].tolist()) for i in chosen]

    def fields(self) -> dict[str, str]:
        """Tokenisation and sampling."""
        return super().fields() | {"sample": f"{self.captions}x{self.utterances}", "seed": str(SEED)}

    @cached_property
    def _corpus(self) -> Corpus:
        texts = self.context.train_explanations or ()
        chosen = self._draw(np.random.RandomState(SEED), len(texts), self.utterances)
        sample, engine = [texts[i] for i in chosen], engine_of(self)
        engine.prepare(sample)
        return Corpus([self._word_ids().of(engine.tokens(text).split()).tolist() for text in sample])

    @staticmethod
    def _draw(generator: np.random.RandomState, available: int, wanted: int) -> npt.NDArray[np.int64]:
        """Indexes without replacement, as `pandas.Series.sample` draws them."""
        return generator.choice(available, size=min(wanted, available), replace=False)

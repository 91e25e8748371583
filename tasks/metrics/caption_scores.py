"""BLEU counts, ROUGE-L and CIDEr-D of tokenised texts: pycocoevalcap's numbers to the last digit, many times faster.

pycocoevalcap counts the n-grams of a text again for every pair it stands in; here once. Everything is integers until
the last step, and the last step adds in pycocoevalcap's order, so that not a bit differs.

As a program (`python -m harness.tasks.metrics.caption_scores`) it scores blocks for another process: pickled
`DocumentFrequencies`, then pickled lists of pairs on stdin, pickled arrays on stdout.
"""

from __future__ import annotations

import gc
import math
import pickle
import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

ORDER = 4
COLUMNS = 12
"""Of `score_pairs`: ten BLEU counts, ROUGE-L, CIDEr-D."""

_SORTED_AT_ONCE = 100_000
_NO_LEVEL = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
_SIGMA = 6.0
_BETA = 1.2

Ngram: TypeAlias = tuple[str, ...]
Pair: TypeAlias = tuple[str, tuple[str, ...]]
"""A candidate and its references, tokens joined by blanks."""


class DocumentFrequencies:
    """In how many images each n-gram of one to four words occurs among the references.

    Only those of two images and more are kept: an n-gram of one image and one of none weigh the same, log max(1, df).
    They are kept as sorted numbers, order by order: an n-gram's number is its prefix's rank and its last word's id.
    """

    def __init__(self) -> None:
        self.images = 0
        self._ids: dict[str, int] = {}
        self._words, self._lengths, self._image_of = array("i"), array("i"), array("i")
        self._levels: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []

    def add(self, references: Iterable[str]) -> None:
        """Count an image's tokenised references."""
        ids = self._ids
        for text in references:
            words = text.split()
            self._words.extend([ids.setdefault(word, len(ids)) for word in words])
            self._lengths.append(len(words))
            self._image_of.append(self.images)
        self.images += 1

    def close(self) -> None:
        """Count; nothing is added afterwards."""
        lengths, words = np.array(self._lengths), np.array(self._words)  # int32, as everything that is as long as words
        image, room = np.repeat(np.array(self._image_of), lengths), _room(lengths).astype(np.int32)
        self._words, self._lengths, self._image_of = array("i"), array("i"), array("i")
        # of every n-gram that may occur in two images: where it begins, and the rank of all its words but the last
        places, prefix = np.arange(len(words), dtype=np.int32), np.zeros(len(words), dtype=np.int32)
        for order in range(1, ORDER + 1):
            last = words[places + (order - 1)]
            found: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = [_NO_LEVEL]
            ranks, ranked = np.full(len(places), -1, dtype=np.int32), 0
            for part in _in_order(last if order == 1 else prefix):
                distinct, own = np.unique(prefix[part].astype(np.int64) << 32 | last[part], return_inverse=True)
                pairs = own * self.images + image[places[part]]
                pairs.sort()
                pairs = pairs[np.diff(pairs, prepend=-1) > 0]  # an image counts an n-gram once
                counts = np.bincount(pairs // max(self.images, 1), minlength=len(distinct))
                common = counts > 1
                found.append((distinct[common], counts[common]))
                ranks[part] = np.where(common, ranked + np.cumsum(common) - 1, -1)[own]
                ranked += int(common.sum())
            keys, frequencies = zip(*found, strict=True)
            self._levels.append((np.concatenate(keys), np.concatenate(frequencies)))
            # an n-gram of two images has a prefix of two images
            kept = (ranks >= 0) & (room[places] > order)
            places, prefix = places[kept], ranks[kept]

    def of(self, texts: Sequence[Sequence[str]]) -> list[npt.NDArray[np.int64]]:
        """For each order, the frequency of the n-gram that begins at each word of all texts, 0 if it is below 2."""
        lengths = np.array([len(text) for text in texts], dtype=np.int64)
        words = np.array([self._ids.get(word, -1) for text in texts for word in text], dtype=np.int64)
        room, found = _room(lengths), []
        places, prefix = np.arange(len(words)), np.zeros(len(words), dtype=np.int64)
        for order, (known, counts) in enumerate(self._levels, start=1):
            frequencies = np.zeros(len(words), dtype=np.int64)
            last = words[places + order - 1]
            keys = prefix << 32 | np.maximum(last, 0)
            ranks = np.searchsorted(known, keys)
            hit = (last >= 0) & (ranks < len(known))
            hit[hit] = known[ranks[hit]] == keys[hit]
            frequencies[places[hit]] = counts[ranks[hit]]
            found.append(frequencies)
            hit &= room[places] > order
            places, prefix = places[hit], ranks[hit]
        return found


def _in_order(values: npt.NDArray[np.int32]) -> Iterator[npt.NDArray[np.int64]]:
    """Indexes of values 0, 1, ... in parts, smaller values first and equal ones together: sorting takes memory."""
    before = np.cumsum(np.bincount(values))
    start = 0
    while start < len(before):
        held = before[start - 1] if start else 0
        end = max(start + 1, int(np.searchsorted(before, held + _SORTED_AT_ONCE, side="right")))
        yield np.flatnonzero((values >= start) & (values < end))
        start = end


def _room(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """For each word of texts of these lengths, how many words its text has from there on."""
    ends = np.repeat(np.cumsum(lengths), lengths)
    return ends - np.arange(len(ends))


class _Text:
    """A tokenised text: the TF-IDF weights of its n-grams in pycocoevalcap's order, and which of them are repeated.

    Args:
        words: of the text.
        idf: for each order, what each n-gram weighs if it occurs once.
        norms: lengths of the weights of each order if none is repeated.
    """

    __slots__ = ("_masks", "bigrams", "length", "norms", "repeated", "weights", "words")

    def __init__(self, words: list[str], idf: Sequence[Sequence[float]], norms: list[float]) -> None:
        self.length = len(words)
        self.words = words or [""]  # an empty text has one empty word for ROUGE
        self.bigrams = max(0, len(words) - 1)
        self._masks: dict[str, int] = {}
        self.repeated: dict[Ngram, int] = {}
        following = [words[i:] for i in range(ORDER)]
        ngrams = [ngram for order in range(1, ORDER + 1) for ngram in zip(*following[:order], strict=False)]
        self.weights: dict[Ngram, float] = dict(zip(ngrams, chain.from_iterable(idf), strict=True))
        self.norms = norms
        if len(self.weights) < len(ngrams):
            self.repeated = {ngram: count for ngram, count in Counter(ngrams).items() if count > 1}
            self.weights |= {ngram: count * self.weights[ngram] for ngram, count in self.repeated.items()}
            squares = [0.0] * ORDER
            for ngram, weight in self.weights.items():
                squares[len(ngram) - 1] += math.pow(weight, 2)
            self.norms = [math.sqrt(square) for square in squares]

    def lcs(self, other: _Text) -> int:
        """Length in words of the longest common subsequence, bit-parallel (Hyyrö 2004)."""
        masks = self._masks
        if not masks:
            for i, word in enumerate(self.words):
                masks[word] = masks.get(word, 0) | 1 << i
        full = (1 << len(self.words)) - 1
        state = full
        for word in other.words:
            if word in masks:
                matches = state & masks[word]
                state = (state + matches | state - matches) & full
        return len(self.words) - state.bit_count()

    def cider(self, reference: _Text, shared: Sequence[Ngram], penalties: dict[int, float]) -> float:
        """CIDEr-D against one reference, given the n-grams of both in the candidate's order."""
        values = [0.0] * ORDER
        for ngram in shared:
            other = reference.weights[ngram]
            values[len(ngram) - 1] += min(self.weights[ngram], other) * other
        gap = self.bigrams - reference.bigrams
        if gap not in penalties:
            penalties[gap] = math.e ** (-(float(gap) ** 2) / (2 * _SIGMA**2))
        total = 0.0
        for value, own, norm in zip(values, self.norms, reference.norms, strict=True):
            if own != 0 and norm != 0:
                value /= own * norm
            total += value * penalties[gap]
        return total / ORDER * 10.0


def _cooked(texts: Sequence[str], frequencies: DocumentFrequencies) -> dict[str, _Text]:
    """Every text with the weights of its n-grams."""
    words = [text.split() for text in texts]
    lengths = np.array([len(text) for text in words], dtype=np.int64)
    text_of, room = np.repeat(np.arange(len(texts)), lengths), _room(lengths)
    everything = float(np.log(float(max(frequencies.images, 1))))
    idf, norms = [], []
    for order, counts in enumerate(frequencies.of(words), start=1):
        weights, squares = (np.zeros(int(counts.max(initial=0)) + 1) for _ in range(2))
        for count in np.flatnonzero(np.bincount(counts)).tolist():
            weights[count] = everything - float(np.log(max(1.0, float(count))))
            squares[count] = math.pow(weights[count], 2)
        whole = room >= order
        idf.append(weights[counts].tolist())
        # bincount adds one after the other, as pycocoevalcap does
        norms.append(np.sqrt(np.bincount(text_of[whole], squares[counts[whole]], len(texts))))
    ends = np.cumsum(lengths).tolist()
    return {
        text: _Text(own, [idf[i][end - len(own) : max(end - len(own), end - i)] for i in range(ORDER)], norm)
        for text, own, end, norm in zip(texts, words, ends, np.transpose(norms).tolist(), strict=True)
    }


def score_pairs(pairs: Sequence[Pair], frequencies: DocumentFrequencies) -> npt.NDArray[np.float64]:
    """BLEU counts, ROUGE-L and CIDEr-D of pairs, (n, 12).

    Columns: candidate length, closest reference length, 4 guessed and 4 correct n-gram counts, ROUGE-L, CIDEr-D.
    """
    texts = dict.fromkeys(text for candidate, references in pairs for text in (candidate, *references))
    cooked = _cooked(list(texts), frequencies)
    penalties: dict[int, float] = {}
    known: dict[tuple[str, str], tuple[int, float, list[Ngram]]] = {}
    rows = []
    for candidate, references in pairs:
        own = cooked[candidate]
        for reference in references:
            if (candidate, reference) not in known:
                other = cooked[reference]
                shared = [ngram for ngram in own.weights if ngram in other.weights]
                known[candidate, reference] = own.lcs(other), own.cider(other, shared, penalties), shared
        rows.append(_row(own, [cooked[r] for r in references], [known[candidate, r] for r in references]))
    return np.array(rows, dtype=np.float64).reshape(len(rows), COLUMNS)


def _row(own: _Text, others: Sequence[_Text], pairs: Sequence[tuple[int, float, list[Ngram]]]) -> list[float]:
    closest = min((abs(other.length - own.length), other.length) for other in others)[1]
    most: dict[Ngram, int] = {}
    for other, (_, _, shared) in zip(others, pairs, strict=True):
        for ngram in shared:
            most[ngram] = max(most.get(ngram, 0), other.repeated.get(ngram, 1))
    correct = [0] * ORDER
    for ngram, count in most.items():
        correct[len(ngram) - 1] += min(count, own.repeated.get(ngram, 1))
    guessed = [max(0, own.length - order) for order in range(ORDER)]
    precision = max(lcs for lcs, _, _ in pairs) / float(len(own.words))
    recall = max(lcs / float(len(other.words)) for (lcs, _, _), other in zip(pairs, others, strict=True))
    rouge = (
        ((1 + _BETA**2) * precision * recall) / float(recall + _BETA**2 * precision) if precision and recall else 0.0
    )
    cider = float(np.mean([value for _, value, _ in pairs]))
    return [own.length, closest, *guessed, *correct, rouge, cider]


def main() -> None:
    """Score blocks until stdin ends."""
    gc.disable()  # millions of tuples and no cycle among them
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    frequencies: DocumentFrequencies = pickle.load(source)
    while True:
        try:
            pairs: list[Pair] = pickle.load(source)
        except EOFError:
            return
        pickle.dump(score_pairs(pairs, frequencies), sink)
        sink.flush()


if __name__ == "__main__":
    main()

"""BLEU counts, ROUGE-L and CIDEr-D of tokenised texts: pycocoevalcap's numbers to the last digit, many times faster.

pycocoevalcap counts the n-grams of a text again for every pair it stands in; here once. Everything is integers until
the last step, and the last step adds in pycocoevalcap's order, so that not a bit differs.

As a program (`python -m harness.tasks.metrics.caption_scores`) it scores blocks for another process: pickled
`DocumentFrequencies`, then pickled lists of pairs on stdin, pickled arrays on stdout.
"""

from __future__ import annotations

import math
import pickle
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

ORDER = 4
COLUMNS = 12
"""Of `score_pairs`: ten BLEU counts, ROUGE-L, CIDEr-D."""

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
        self._texts: list[npt.NDArray[np.int32]] = []
        self._image_of: list[int] = []
        self._levels: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []

    def add(self, references: Iterable[str]) -> None:
        """Count an image's tokenised references."""
        ids = self._ids
        for text in references:
            self._texts.append(np.array([ids.setdefault(word, len(ids)) for word in text.split()], dtype=np.int32))
            self._image_of.append(self.images)
        self.images += 1

    def close(self) -> None:
        """Count; nothing is added afterwards."""
        lengths = [len(text) for text in self._texts]
        words = np.concatenate([*self._texts, np.zeros(0, np.int32)])
        image = np.repeat(np.array(self._image_of, dtype=np.int64), lengths)
        self._texts, self._image_of = [], []
        places, prefix = np.arange(len(words)), np.zeros(len(words), dtype=np.int64)
        for order in range(1, ORDER + 1):
            keys = prefix << 32 | words[places + order - 1]
            distinct, ranks = np.unique(keys, return_inverse=True)
            pairs = np.unique(ranks * self.images + image[places])  # an image counts an n-gram once
            counts = np.bincount(pairs // max(self.images, 1), minlength=len(distinct))
            common = counts > 1
            self._levels.append((distinct[common], counts[common]))
            # an n-gram of two images has a prefix of two images
            kept = common[ranks] & (_room(lengths)[places] > order)
            places, prefix = places[kept], np.cumsum(common)[ranks[kept]] - 1

    def of(self, texts: Sequence[Sequence[str]]) -> list[list[int]]:
        """For each order, the frequency of the n-gram that begins at each word of all texts, 0 if it is below 2."""
        lengths = [len(text) for text in texts]
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
            found.append(frequencies.tolist())
            hit &= room[places] > order
            places, prefix = places[hit], ranks[hit]
        return found


def _room(lengths: Sequence[int]) -> npt.NDArray[np.int64]:
    """For each word of texts of these lengths, how many words its text has from there on."""
    ends = np.repeat(np.cumsum(np.array(lengths, dtype=np.int64)), lengths)
    return ends - np.arange(len(ends))


class _Text:
    """A tokenised text: its n-grams, in pycocoevalcap's order, with their counts and TF-IDF weights."""

    __slots__ = ("bigrams", "counts", "length", "masks", "norms", "weights", "words")

    def __init__(self, words: list[str], begin: int, frequencies: list[list[int]], logs: Mapping[int, float]) -> None:
        self.length = len(words)
        self.words = words or [""]  # an empty text has one empty word for ROUGE
        self.bigrams = max(0, len(words) - 1)
        counts: dict[Ngram, int] = {}
        idf: list[float] = []
        everything = logs[-1]
        for order in range(1, ORDER + 1):
            known = frequencies[order - 1] if frequencies else None
            for i in range(len(words) - order + 1):
                ngram = tuple(words[i : i + order])
                if ngram in counts:
                    counts[ngram] += 1
                else:
                    counts[ngram] = 1
                    idf.append(everything - logs[known[begin + i]] if known else everything)
        self.counts = counts
        self.weights = {ngram: count * weight for (ngram, count), weight in zip(counts.items(), idf, strict=True)}
        norms = [0.0] * ORDER
        for ngram, weight in self.weights.items():
            norms[len(ngram) - 1] += math.pow(weight, 2)
        self.norms = [math.sqrt(norm) for norm in norms]
        self.masks: dict[str, int] = {}
        for i, word in enumerate(self.words):
            self.masks[word] = self.masks.get(word, 0) | 1 << i

    def lcs(self, other: _Text) -> int:
        """Length in words of the longest common subsequence, bit-parallel (Hyyrö 2004)."""
        full = (1 << len(self.words)) - 1
        state = full
        for word in other.words:
            matches = state & self.masks.get(word, 0)
            state = (state + matches | state - matches) & full
        return len(self.words) - state.bit_count()

    def cider(self, reference: _Text, penalties: dict[int, float]) -> float:
        """CIDEr-D against one reference."""
        values = [0.0] * ORDER
        theirs = reference.weights
        for ngram, weight in self.weights.items():
            if ngram in theirs:
                other = theirs[ngram]
                values[len(ngram) - 1] += min(weight, other) * other
        gap = self.bigrams - reference.bigrams
        if gap not in penalties:
            penalties[gap] = math.e ** (-(float(gap) ** 2) / (2 * _SIGMA**2))
        total = 0.0
        for value, own, norm in zip(values, self.norms, reference.norms, strict=True):
            if own != 0 and norm != 0:
                value /= own * norm
            total += value * penalties[gap]
        return total / ORDER * 10.0


def score_pairs(pairs: Sequence[Pair], frequencies: DocumentFrequencies) -> npt.NDArray[np.float64]:
    """BLEU counts, ROUGE-L and CIDEr-D of pairs, (n, 12).

    Columns: candidate length, closest reference length, 4 guessed and 4 correct n-gram counts, ROUGE-L, CIDEr-D.
    """
    texts = dict.fromkeys(text for candidate, references in pairs for text in (candidate, *references))
    words = [text.split() for text in texts]
    begins = np.cumsum([0, *map(len, words)]).tolist()
    found = frequencies.of(words)
    counts = {count for level in found for count in level}
    logs = {count: float(np.log(max(1.0, float(count)))) for count in counts | {0}}
    logs[-1] = float(np.log(float(max(frequencies.images, 1))))
    cooked = {text: _Text(w, b, found, logs) for text, w, b in zip(texts, words, begins, strict=False)}
    penalties: dict[int, float] = {}
    known: dict[tuple[str, str], tuple[int, float, list[tuple[Ngram, int]]]] = {}
    rows = np.empty((len(pairs), COLUMNS))
    for i, (candidate, references) in enumerate(pairs):
        own = cooked[candidate]
        for reference in references:
            if (candidate, reference) not in known:
                other = cooked[reference]
                shared = [(ngram, other.counts[ngram]) for ngram in own.counts if ngram in other.counts]
                known[candidate, reference] = own.lcs(other), own.cider(other, penalties), shared
        rows[i] = _row(own, [cooked[r] for r in references], [known[candidate, r] for r in references])
    return rows


def _row(
    own: _Text, others: Sequence[_Text], pairs: Sequence[tuple[int, float, list[tuple[Ngram, int]]]]
) -> list[float]:
    closest = min((abs(other.length - own.length), other.length) for other in others)[1]
    most: dict[Ngram, int] = {}
    for _, _, shared in pairs:
        for ngram, count in shared:
            if count > most.get(ngram, 0):
                most[ngram] = count
    correct = [0] * ORDER
    for ngram, count in most.items():
        correct[len(ngram) - 1] += min(count, own.counts[ngram])
    guessed = [max(0, own.length - order) for order in range(ORDER)]
    precision = max(lcs / float(len(own.words)) for lcs, _, _ in pairs)
    recall = max(lcs / float(len(other.words)) for (lcs, _, _), other in zip(pairs, others, strict=True))
    rouge = (
        ((1 + _BETA**2) * precision * recall) / float(recall + _BETA**2 * precision) if precision and recall else 0.0
    )
    cider = float(np.mean([value for _, value, _ in pairs]))
    return [own.length, closest, *guessed, *correct, rouge, cider]


def main() -> None:
    """Score blocks until stdin ends."""
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

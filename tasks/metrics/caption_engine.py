"""Caption statistics of one protocol: pycocoevalcap's own functions behind safe inputs and caches.

Two published protocols, never mixed:

- `coco-ptb` (SEVLM, COCO): PTB tokens, corpus METEOR.
- `artemis-plain` (ArtEmis): strings as given, split at white space; METEOR as the mean of per-image scores.

Every number of a painting depends on that painting's texts alone, except the CIDEr document frequencies, which are
counted once over the references of the whole split and frozen.
"""

from __future__ import annotations

import importlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from operator import itemgetter
from typing import Any

import numpy as np

from harness.tasks.metrics import meteor
from harness.tasks.metrics.base import FloatArray
from harness.tasks.metrics.caption_store import CaptionStore
from harness.tasks.metrics.java import MeteorProcess, jar_hashes, one_line, ptb_tokenise

BLEU_ORDER = 4

_PAIRS_AT_ONCE = 10_000
"""METEOR pairs that are kept together: what a killed process loses at most."""


@cache
def _coco(module: str) -> Any:
    """A module of pycocoevalcap (it has no types), imported when first used."""
    return importlib.import_module(f"pycocoevalcap.{module}")


class CaptionEngine:
    """Tokenises texts and scores candidates against references.

    Candidates and references are raw texts everywhere; each distinct text is tokenised once and each distinct
    (candidate, reference) pair is scored once.

    Args:
        protocol: `coco-ptb` or `artemis-plain`.
        process: the METEOR process to ask (the caller closes it).
        split_references: references of every painting of the split, for CIDEr's document frequencies.
        store: what the Java programs said before; None keeps nothing beyond this engine.
    """

    def __init__(
        self,
        protocol: str,
        process: MeteorProcess,
        split_references: Sequence[Sequence[str]],
        store: CaptionStore | None = None,
    ) -> None:
        self.protocol = protocol
        self._process = process
        self._store = store
        self._split_references = split_references
        self._tokens: dict[str, str] = {}
        self._bleu: dict[tuple[str, tuple[str, ...]], FloatArray] = {}
        self._rouge: dict[tuple[str, tuple[str, ...]], float] = {}
        self._cider: dict[tuple[str, str], float] = {}
        self._meteor: dict[tuple[str, str], tuple[float, FloatArray]] = {}
        self._frequencies: defaultdict[tuple[str, ...], float] | None = None

    def prepare(self, texts: Iterable[str], *, meteor_follows: bool = False) -> None:
        """Tokenise texts in one go; later calls find them ready.

        Args:
            texts: raw texts.
            meteor_follows: start METEOR in the background first, unless all texts were seen before.

        Raises:
            Unavailable: a text is new and there is no Java runtime, or the tokeniser failed.
        """
        new = list(dict.fromkeys(text for text in texts if text not in self._tokens))
        if self._store is not None and self.protocol == "coco-ptb":
            self._tokens.update(self._store.tokens(jar_hashes()["ptb"], new))
            new = [text for text in new if text not in self._tokens]
        if meteor_follows and new:
            self._process.start()
        self._tokens.update(self._tokenised(new))

    def _tokenised(self, texts: Sequence[str]) -> dict[str, str]:
        if self.protocol != "coco-ptb":
            return {text: one_line(text) for text in texts}
        if not texts:
            return {}
        found = dict(zip(texts, ptb_tokenise(texts), strict=True))
        if self._store is not None:
            self._store.add_tokens(jar_hashes()["ptb"], found)
        return found

    def tokens(self, text: str) -> str:
        """The protocol's tokens of a text, joined by blanks.

        Raises:
            Unavailable: see `prepare`.
        """
        if text not in self._tokens:
            self.prepare([text])
        return self._tokens[text]

    def bleu(self, candidate: str, references: Sequence[str]) -> FloatArray:
        """BLEU counts (10,): candidate length, closest reference length, 4 guessed and 4 correct n-gram counts."""
        key = self._key(candidate, references)
        if key not in self._bleu:
            bleu = _coco("bleu.bleu_scorer")
            references = bleu.cook_refs(list(key[1]), n=BLEU_ORDER)
            counts = bleu.cook_test(key[0], references, eff="closest", n=BLEU_ORDER)
            row = [counts["testlen"], counts["reflen"], *counts["guess"], *counts["correct"]]
            self._bleu[key] = np.array(row, dtype=np.float64)
        return self._bleu[key]

    def rouge_l(self, candidate: str, references: Sequence[str]) -> float:
        """ROUGE-L as COCO computes it: best precision and best recall may come from different references."""
        key = self._key(candidate, references)
        if key not in self._rouge:
            scorer = _coco("rouge.rouge").Rouge()
            self._rouge[key] = float(scorer.calc_score([key[0]], list(key[1])))
        return self._rouge[key]

    def cider_d(self, candidates: Sequence[str], references: Sequence[Sequence[str]]) -> FloatArray:
        """CIDEr-D (n,) of candidates against their references: the mean over a painting's references, 0..10."""
        pairs = self._pairs(candidates, references)
        self._score_cider({pair for row in pairs for pair in row if pair not in self._cider})
        return np.array([np.mean([self._cider[pair] for pair in row]) for row in pairs], dtype=np.float64)

    def meteor(self, candidates: Sequence[str], references: Sequence[Sequence[str]]) -> FloatArray:
        """METEOR statistics (n, 23) of candidates with their best-scoring reference, ready to be summed.

        Raises:
            Unavailable: no Java runtime, or METEOR failed.
        """
        pairs = self._pairs(candidates, references)
        self._match(list(dict.fromkeys(pair for row in pairs for pair in row if pair not in self._meteor)))
        # max keeps the first of equals, as the jar does
        best = [max((self._meteor[pair] for pair in row), key=itemgetter(0))[1] for row in pairs]
        return np.array(best, dtype=np.float64).reshape(len(pairs), meteor.COLUMNS)

    def _match(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Fill in the statistics of pairs of tokenised texts."""
        known = self._store.matches(jar_hashes()["meteor"], pairs) if self._store is not None else {}
        new = [pair for pair in pairs if pair not in known]
        for start in range(0, len(new), _PAIRS_AT_ONCE):
            part = new[start : start + _PAIRS_AT_ONCE]
            statistics = self._process.statistics(part)
            if self._store is not None:
                self._store.add_matches(jar_hashes()["meteor"], part, statistics)
            known.update(zip(part, statistics, strict=True))
        if pairs:
            rows = meteor.additive(np.array([known[pair] for pair in pairs], dtype=np.float64))
            scores = np.nan_to_num(meteor.score(rows)).tolist()
            self._meteor.update(zip(pairs, zip(scores, rows, strict=True), strict=True))

    def _key(self, candidate: str, references: Sequence[str]) -> tuple[str, tuple[str, ...]]:
        return self.tokens(candidate), tuple(self.tokens(reference) for reference in references)

    def _pairs(self, candidates: Sequence[str], references: Sequence[Sequence[str]]) -> list[list[tuple[str, str]]]:
        return [
            [(self.tokens(candidate), self.tokens(reference)) for reference in refs]
            for candidate, refs in zip(candidates, references, strict=True)
        ]

    def _score_cider(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Score pairs with pycocoevalcap's scorer, whose document frequencies are set to the split's.

        The scorer takes log(number of its reference lists) as the log number of documents and stops at the shorter
        of its two lists, so its reference list is padded to the split's size and pairs come in blocks of that size.
        """
        cider = _coco("cider.cider_scorer")
        todo, documents = list(pairs), len(self._split_references)
        for start in range(0, len(todo), max(documents, 1)):
            block = todo[start : start + documents]
            scorer = cider.CiderScorer()
            scorer.document_frequency = self._document_frequencies()
            scorer.ctest = [cider.cook_test(candidate) for candidate, _ in block]
            scorer.crefs = [cider.cook_refs([reference]) for _, reference in block] + [[]] * (documents - len(block))
            self._cider.update(zip(block, map(float, scorer.compute_cider()), strict=True))

    def _document_frequencies(self) -> defaultdict[tuple[str, ...], float]:
        """In how many paintings of the split each n-gram occurs among the references (0 when absent)."""
        if self._frequencies is None:
            cider = _coco("cider.cider_scorer")
            self.prepare(text for refs in self._split_references for text in refs)
            scorer = cider.CiderScorer()
            scorer.crefs = [cider.cook_refs([self.tokens(text) for text in refs]) for refs in self._split_references]
            scorer.compute_doc_freq()
            self._frequencies = defaultdict(float, scorer.document_frequency)
        return self._frequencies

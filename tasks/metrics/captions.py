"""Metrics of the explanation against the annotators' explanations, computed by pycocoevalcap's own code.

Over answered paintings that have references; n says how many. An empty explanation of an answer scores 0; a model
that never explains has no such metric.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from typing import ClassVar

import numpy as np

from harness.tasks.metrics import meteor
from harness.tasks.metrics.base import (
    EVERY_VIEW,
    AdditiveMetric,
    BoolArray,
    FloatArray,
    Metric,
    Row,
    Statistics,
    Style,
    Unavailable,
    ratio,
)
from harness.tasks.metrics.caption_engine import BLEU_ORDER
from harness.tasks.metrics.java import jar_hashes

_TOKENISERS = {"coco-ptb": "ptb3", "artemis-plain": "space"}


def tokeniser_name(protocol: str) -> str:
    """What a signature calls the protocol's tokenisation."""
    return _TOKENISERS[protocol]


@cache
def _engine_version() -> str:
    return f"pycocoevalcap-{version('pycocoevalcap')}"


def explained(rows: Sequence[Row]) -> BoolArray:
    """Which rows are answers, (n,) bool.

    Raises:
        Unavailable: there are answers and none of them holds an explanation.
    """
    answered = np.array([row.explanation is not None for row in rows], dtype=bool)
    if answered.any() and not any(row.explanation for row in rows):
        raise Unavailable("the model gives labels without explanations")
    return answered


class _Caption(AdditiveMetric):
    """Eligibility and signature of every caption metric."""

    family = "text"
    group = "text"
    style: ClassVar[Style] = "percent"
    decimals = 1
    higher_is_better = True
    protocol_dependent = True
    reference_texts = True
    views = EVERY_VIEW
    tokenised: ClassVar[bool] = True
    """Whether the protocol's tokens are scored, or texts as they are."""

    def pairs(self, rows: Sequence[Row]) -> tuple[list[int], list[str], list[tuple[str, ...]]]:
        """Indexes of the rows that count, their candidates and their references, as raw texts."""
        counted = [i for i, answered in enumerate(explained(rows)) if answered and rows[i].references]
        candidates = [rows[i].explanation or "" for i in counted]
        references = [tuple(a.explanation for a in rows[i].references) for i in counted]
        if self.tokenised:
            self.context.captions.prepare([*candidates, *(text for refs in references for text in refs)])
        return counted, candidates, references

    def fields(self) -> dict[str, str]:
        """Tokenisation and engine."""
        return {"tok": tokeniser_name(self.context.task.protocol), "engine": _engine_version()}


def _spread(values: FloatArray, counted: Sequence[int], n: int) -> Statistics:
    """Statistics of n rows from the values (m, k) of the m counted ones."""
    table = np.zeros((n, values.shape[1]))
    table[list(counted)] = values
    eligible = np.zeros(n, dtype=bool)
    eligible[list(counted)] = True
    return Statistics(table, eligible)


class Bleu(_Caption):
    """Corpus BLEU from summed n-gram counts, with pycocoevalcap's smoothing constants and closest reference length.

    A family over the order n, 1 to 4. Range 0..1, higher is better.
    """

    source = "Papineni et al. 2002; pycocoevalcap bleu_scorer.py"
    order: ClassVar[int]

    @classmethod
    def variant(cls, order: str) -> type[Metric]:
        """BLEU of n-grams up to `order`."""
        said = f"Corpus BLEU-{order} of the explanation."
        group = "text" if order == "4" else "text-more"
        return cls.member(
            name=f"bleu_{order}", order=int(order), label=f"BLEU-{order}", description=said, group=group,
            __doc__=f"{said} Range 0..1, higher is better.\n\n{cls.__doc__}",
        )  # fmt: skip

    def statistics(self, rows: Sequence[Row]) -> Statistics:
        """(n, 10): candidate length, closest reference length, guessed and correct 1- to 4-grams."""
        counted, candidates, references = self.pairs(rows)
        counts = [self.context.captions.bleu(c, r) for c, r in zip(candidates, references, strict=True)]
        return _spread(np.array(counts).reshape(len(counted), 2 + 2 * BLEU_ORDER), counted, len(rows))

    def value(self, sums: FloatArray) -> FloatArray:
        """BLEU (...) of sums (..., 10)."""
        small, tiny = 1e-9, 1e-15
        candidate, reference = sums[..., 0], sums[..., 1]
        guessed, correct = sums[..., 2 : 2 + self.order], sums[..., 6 : 6 + self.order]
        precision = np.prod((correct + tiny) / (guessed + small), axis=-1) ** (1 / self.order)
        length_ratio = (candidate + tiny) / (reference + small)
        penalty = np.where(length_ratio < 1, np.exp(1 - 1 / length_ratio), 1.0)
        return np.where(reference > 0, precision * penalty, np.nan)


class MeanCaption(_Caption):
    """A caption metric that is the mean of per-painting scores."""

    def value(self, sums: FloatArray) -> FloatArray:
        """The mean (...) of sums (..., 2)."""
        return ratio(sums[..., 0], sums[..., 1])

    def statistics(self, rows: Sequence[Row]) -> Statistics:
        """(n, 2): score, 1."""
        counted, candidates, references = self.pairs(rows)
        scores = self.scores(candidates, references)
        ones = np.ones(len(counted))
        return _spread(np.column_stack([scores, ones]), counted, len(rows))

    @abstractmethod
    def scores(self, candidates: Sequence[str], references: Sequence[Sequence[str]]) -> FloatArray:
        """Scores (n,) of candidates against their references."""


class RougeL(MeanCaption):
    """Mean ROUGE-L (beta 1.2) as COCO computes it. Range 0..1, higher is better.

    Best precision and best recall may come from different references, so it differs from the rouge-score package.
    """

    name = "rouge_l"
    label = "ROUGE-L"
    description = "ROUGE-L of the explanation."
    source = "Lin 2004; pycocoevalcap rouge.py"

    def scores(self, candidates: Sequence[str], references: Sequence[Sequence[str]]) -> FloatArray:
        """ROUGE-L (n,)."""
        engine = self.context.captions
        return np.array([engine.rouge_l(c, r) for c, r in zip(candidates, references, strict=True)], dtype=np.float64)


class CiderD(MeanCaption):
    """Mean CIDEr-D (1- to 4-grams, sigma 6) on pycocoevalcap's own scale. Range 0..10, higher is better.

    Document frequencies are those of the full split's references, frozen; intervals are conditional on them.
    """

    name = "cider_d"
    label = "CIDEr-D"
    description = "CIDEr-D on pycocoevalcap's own scale of 0 to 10, document frequencies of the full split."
    style = "plain"
    decimals = 2
    bounds = (0.0, 10.0)
    source = "Vedantam et al. 2015; pycocoevalcap cider_scorer.py"

    def scores(self, candidates: Sequence[str], references: Sequence[Sequence[str]]) -> FloatArray:
        """CIDEr-D (n,)."""
        return self.context.captions.cider_d(candidates, references)

    def fields(self) -> dict[str, str]:
        """Also says where the document frequencies come from."""
        return super().fields() | {"df": "split"}


class Meteor(_Caption):
    """METEOR 1.5 (English ranking parameters) from the official jar's match statistics. Range 0..1, higher is better.

    Corpus-level under `coco-ptb` (a function of summed matches), mean of per-painting scores under `artemis-plain`.
    Its stems, synonyms and paraphrases are English: examples whose `meta` names another language do not count.
    """

    name = "meteor"
    label = "METEOR"
    description = "METEOR 1.5 of the explanation."
    source = "Denkowski & Lavie 2014; meteor-1.5.jar of pycocoevalcap"

    def pairs(self, rows: Sequence[Row]) -> tuple[list[int], list[str], list[tuple[str, ...]]]:
        """As for every caption metric, English rows only.

        Raises:
            Unavailable: there are answers and none of them is about an English example.
        """
        counted, candidates, references = super().pairs(rows)
        english = [i for i, row in enumerate(counted) if rows[row].example.meta.get("language", "english") == "english"]
        if counted and not english:
            raise Unavailable("METEOR is English, these explanations are not")
        return [counted[i] for i in english], [candidates[i] for i in english], [references[i] for i in english]

    def statistics(self, rows: Sequence[Row]) -> Statistics:
        """(n, 23) match statistics of the best reference, or (n, 2) score and 1 where the protocol takes a mean."""
        counted, candidates, references = self.pairs(rows)
        matches = self.context.captions.meteor(candidates, references)
        if self._corpus():
            return _spread(matches, counted, len(rows))
        scores = np.nan_to_num(meteor.score(matches))
        return _spread(np.column_stack([scores, np.ones(len(counted))]), counted, len(rows))

    def value(self, sums: FloatArray) -> FloatArray:
        """METEOR (...) of sums (..., 23) or (..., 2)."""
        return meteor.score(sums) if self._corpus() else ratio(sums[..., 0], sums[..., 1])

    def fields(self) -> dict[str, str]:
        """Also says which jar was asked and how paintings are combined."""
        aggregate = "corpus" if self._corpus() else "mean"
        return super().fields() | {"jar": jar_hashes()["meteor"][:8], "aggregate": aggregate}

    def _corpus(self) -> bool:
        return self.context.task.protocol == "coco-ptb"

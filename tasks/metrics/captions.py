"""Metrics of the explanation against the annotators' explanations, equal to pycocoevalcap's to the last digit.

Over answered examples that have references; n says how many. An empty explanation of an answer scores 0; a model
that never explains has no such metric.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from functools import cache
from importlib.metadata import version
from typing import ClassVar

import numpy as np

from harness.tasks.metrics import languages, meteor
from harness.tasks.metrics.base import (
    EVERY_VIEW,
    EXPLAINS,
    AdditiveMetric,
    FloatArray,
    Metric,
    ScoredExample,
    Statistics,
    Style,
    ratio,
)
from harness.tasks.metrics.caption_engine import CaptionEngine, engine_of
from harness.tasks.metrics.caption_scores import ORDER
from harness.tasks.metrics.java import jar_hashes

_ROUGE, _CIDER, _COUNT = 2 + 2 * ORDER, 3 + 2 * ORDER, 4 + 2 * ORDER
"""Columns of `_Ngrams`; the first are those of `CaptionEngine.scores`."""


@cache
def _engine_version() -> str:
    return f"pycocoevalcap-{version('pycocoevalcap')}"


class Caption(AdditiveMetric):
    """Eligibility and signature of every caption metric."""

    family = "text"
    group = "text"
    style: ClassVar[Style] = "percent"
    decimals = 1
    higher_is_better = True
    protocol_dependent = True
    reference_texts = True
    requires = EXPLAINS
    views = EVERY_VIEW

    def counted(self, rows: Sequence[ScoredExample]) -> list[int]:
        """Indexes of the examples that count: answered, with references."""
        return [i for i, row in enumerate(rows) if row.explanation is not None and row.references]

    def statistics(self, rows: Sequence[ScoredExample]) -> Statistics:
        """(n, k) of the metric's own columns."""
        counted = self.counted(rows)
        candidates = [rows[i].explanation or "" for i in counted]
        references = [tuple(a.explanation for a in rows[i].references) for i in counted]
        values = self.columns(candidates, references)
        table, eligible = np.zeros((len(rows), values.shape[1])), np.zeros(len(rows), dtype=bool)
        table[counted], eligible[counted] = values, True
        return Statistics(table, eligible)

    @abstractmethod
    def columns(self, candidates: Sequence[str], references: Sequence[Sequence[str]]) -> FloatArray:
        """Statistics (n, k) of candidates against their references, raw texts."""

    def fields(self) -> dict[str, str]:
        """Tokenisation and engine."""
        return {"tok": engine_of(self).tokeniser_name(), "engine": _engine_version()}


class _Ngrams(Caption):
    """A metric of shared n-grams, all of which are counted together; its own statistics are some of the columns."""

    used: ClassVar[Sequence[int]]

    def statistics(self, rows: Sequence[ScoredExample]) -> Statistics:
        """(n, k) of the metric's own columns."""
        values, eligible = engine_of(self).latest.of(rows, super().statistics)
        # in rows: sums over an array in columns are added in another order
        return Statistics(np.ascontiguousarray(values[:, self.used]), eligible)

    def columns(self, candidates: Sequence[str], references: Sequence[Sequence[str]]) -> FloatArray:
        """(n, 13): lengths of candidate and closest reference, guessed and correct n-grams, ROUGE-L, CIDEr-D, 1."""
        scores = engine_of(self).scores(candidates, references)
        return np.column_stack([scores, np.ones(len(candidates))])


class Bleu(_Ngrams):
    """BLEU = min(1, e^(1 - r/c)) (prod_k p_k)^(1/n), with p_k = correct / guessed k-grams of the whole corpus.

    c is the candidates' length, r the sum of the closest references' lengths; pycocoevalcap's smoothing constants.
    A family over the order n, 1 to 4. Range 0..1, higher is better.

        >>> from harness.metrics import bleu
        >>> round(bleu(["the sea is calm"], [["the sea is dark", "a calm sea"]], order=2, protocol="artemis-plain"), 4)
        0.8165

    where all four words and two of three pairs are found: (1 x 2/3)^(1/2).
    """

    source = "Papineni et al. 2002; pycocoevalcap bleu_scorer.py"
    statistics_name = "bleu"
    used = range(2 + 2 * ORDER)
    order: ClassVar[int]

    @classmethod
    def variant(cls, order: str) -> type[Metric]:
        """BLEU of n-grams up to `order`."""
        said = f"Corpus BLEU-{order} of the explanation."
        group = "text" if order == "4" else "text-more"
        return cls.member(
            name=f"bleu_{order}", order=int(order), label=f"BLEU-{order}", description=said, group=group,
        )  # fmt: skip

    def value(self, sums: FloatArray) -> FloatArray:
        """BLEU (...) of sums (..., 10)."""
        small, tiny = 1e-9, 1e-15
        candidate, reference = sums[..., 0], sums[..., 1]
        guessed, correct = sums[..., 2 : 2 + self.order], sums[..., 6 : 6 + self.order]
        precision = np.prod((correct + tiny) / (guessed + small), axis=-1) ** (1 / self.order)
        length_ratio = (candidate + tiny) / (reference + small)
        penalty = np.where(length_ratio < 1, np.exp(1 - 1 / length_ratio), 1.0)
        return np.where(reference > 0, precision * penalty, np.nan)


class MeanCaption(Caption):
    """A caption metric that is the mean of per-example scores."""

    def value(self, sums: FloatArray) -> FloatArray:
        """The mean (...) of sums (..., 2)."""
        return ratio(sums[..., 0], sums[..., 1])

    def columns(self, candidates: Sequence[str], references: Sequence[Sequence[str]]) -> FloatArray:
        """(n, 2): score, 1."""
        return np.column_stack([self.scores(candidates, references), np.ones(len(candidates))])

    @abstractmethod
    def scores(self, candidates: Sequence[str], references: Sequence[Sequence[str]]) -> FloatArray:
        """Scores (n,) of candidates against their references."""


class RougeL(_Ngrams):
    """ROUGE-L = (1 + b^2) P R / (R + b^2 P), b = 1.2, P and R the longest common subsequence by either length.

    The mean over examples, as COCO computes it: best precision and best recall may come from different references, so
    it differs from the rouge-score package. Range 0..1, higher is better.

        >>> from harness.metrics import rouge_l
        >>> round(rouge_l(["a b c d"], [["a b x d", "c d"]], protocol="artemis-plain"), 4)  # P 3/4, R 2/2
        0.8798
    """

    name = "rouge_l"
    label = "ROUGE-L"
    description = "ROUGE-L of the explanation."
    source = "Lin 2004; pycocoevalcap rouge.py"
    used = (_ROUGE, _COUNT)

    def value(self, sums: FloatArray) -> FloatArray:
        """Mean ROUGE-L (...) of sums (..., 2)."""
        return ratio(sums[..., 0], sums[..., 1])


class CiderD(_Ngrams):
    """CIDEr-D: 10 times the mean cosine of clipped TF-IDF vectors of 1- to 4-grams, e^(-(length gap)^2 / (2 6^2)).

    The mean over an example's references, then over examples; on pycocoevalcap's own scale. Document frequencies are
    those of the full split's references, frozen; intervals are conditional on them. Range 0..10, higher is better.

        >>> from harness.metrics import cider_d
        >>> cider_d(["the sea", "a wood"], [["the sea"], ["a wood"]], protocol="artemis-plain")  # no 3- and 4-grams
        5.0
    """

    name = "cider_d"
    label = "CIDEr-D"
    description = "CIDEr-D on pycocoevalcap's own scale of 0 to 10, document frequencies of the full split."
    style: ClassVar[Style] = "plain"
    decimals = 2
    bounds = (0.0, 10.0)
    source = "Vedantam et al. 2015; pycocoevalcap cider_scorer.py"
    used = (_CIDER, _COUNT)

    def missing(self) -> str | None:
        """As for every metric; and of a part of a split whose other examples are not available (`--limit`)."""
        engine = self.context.find(CaptionEngine)
        if engine is not None and not engine.is_whole_split:
            return "the document frequencies are those of the whole split, which is not available"
        return super().missing()

    def value(self, sums: FloatArray) -> FloatArray:
        """Mean CIDEr-D (...) of sums (..., 2)."""
        return ratio(sums[..., 0], sums[..., 1])

    def fields(self) -> dict[str, str]:
        """Also says where the document frequencies come from."""
        return super().fields() | {"df": "split"}


class Meteor(Caption):
    """METEOR 1.5 = F (1 - .6 f^.2), F = P R / (.85 P + .15 R), f chunks per matched word; English ranking parameters.

    From the official jar's match statistics; see `meteor.score`. Corpus-level under `coco-ptb` (a function of summed
    matches), mean of per-example scores under `artemis-plain`. Its stems, synonyms and paraphrases are English:
    examples in another language, by their `meta` or their script, do not count. Range 0..1, higher is better.
    """

    name = "meteor"
    label = "METEOR"
    description = "METEOR 1.5 of the explanation."
    source = "Denkowski & Lavie 2014; meteor-1.5.jar of pycocoevalcap"

    def counted(self, rows: Sequence[ScoredExample]) -> list[int]:
        """As for every caption metric, English examples only."""
        texts = {i: rows[i].references[0].explanation for i in super().counted(rows)}
        return [i for i, text in texts.items() if languages.of_example(rows[i].example.meta, text) == "en"]

    def lacking(self, found: Collection[str]) -> str | None:
        """Also: the model explains, and nothing of it in English."""
        others = sorted(trait.removeprefix("language:") for trait in found if trait.startswith("language:"))
        if others and "en" not in others:
            return languages.meteor_reason(others[0])
        return super().lacking(found)

    def columns(self, candidates: Sequence[str], references: Sequence[Sequence[str]]) -> FloatArray:
        """(n, 23) match statistics, or (n, 2) score and 1."""
        matches = engine_of(self).meteor(candidates, references)
        if self._corpus():
            return matches
        return np.column_stack([np.nan_to_num(meteor.score(matches)), np.ones(len(candidates))])

    def value(self, sums: FloatArray) -> FloatArray:
        """METEOR (...) of sums (..., 23) or (..., 2)."""
        return meteor.score(sums) if self._corpus() else ratio(sums[..., 0], sums[..., 1])

    def fields(self) -> dict[str, str]:
        """Also says which jar was asked and how examples are combined."""
        aggregate = "corpus" if self._corpus() else "mean"
        return super().fields() | {"jar": jar_hashes()["meteor"][:8], "aggregate": aggregate}

    def _corpus(self) -> bool:
        return self.context.task.protocol == "coco-ptb"

"""How far the words of an explanation are, in valence, arousal and dominance, from the words of the references.

Every text is the mean of its words' values in a lexicon, -1..1; an example's references are the mean of their texts.
Over answered examples where explanation and references hold words that the lexicon knows; n and `vad_coverage` say how
much that is. A lexicon that does not measure a dimension leaves its metrics unavailable.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from harness.tasks.metrics.base import (
    EVERY_VIEW,
    EXPLAINS,
    AdditiveMetric,
    BoolArray,
    FloatArray,
    Latest,
    MeanMetric,
    Metric,
    ScoredExample,
    Statistics,
    Unavailable,
    View,
    answered,
    mean_statistics,
    ratio,
    statistics_of,
)
from harness.tasks.metrics.ratings import moments
from harness.types import VAD_DIMENSIONS

_FEWEST_SUMMED_PAIRWISE = 8
"""NumPy adds fewer numbers one after the other."""

_UNKNOWN = (math.nan,) * len(VAD_DIMENSIONS)

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


@dataclass(frozen=True)
class WordAffect:
    """A lexicon's words and their affect.

    Attributes:
        name: of the lexicon, for signatures.
        fingerprint: gives the hash of its content, for signatures.
        dimensions: what it measures: an ordered subset of `VAD_DIMENSIONS`.
        entries: lower-case word -> one value in -1..1 for each of `dimensions`.
        latest: values of the latest block, for the next metric.
    """

    name: str
    fingerprint: Callable[[], str]
    dimensions: tuple[str, ...]
    entries: Mapping[str, Sequence[float]]
    latest: Latest[tuple[FloatArray, FloatArray]] = field(default_factory=Latest, repr=False, compare=False)
    _known: dict[str, tuple[tuple[float, ...], float]] = field(default_factory=dict, repr=False, compare=False)

    def means(self, text: str) -> tuple[float, ...]:
        """Mean over the known words of each of `VAD_DIMENSIONS` in -1..1; NaN where nothing is known or measured.

        Words are looked up one by one, in lower case, as they stand: neither negation nor phrases are seen.
        """
        return self._read(text)[0]

    def coverage(self, text: str) -> float:
        """Share of the text's words that have an entry, 0..1; NaN for a text without words."""
        return self._read(text)[1]

    def _read(self, text: str) -> tuple[tuple[float, ...], float]:
        if text not in self._known:
            words = _WORD.findall(text.lower().replace("’", "'"))
            found = [self.entries[word] for word in words if word in self.entries]
            few = len(found) < _FEWEST_SUMMED_PAIRWISE
            means = [_mean(values) for values in zip(*found, strict=True)] if few else np.mean(found, axis=0).tolist()
            by_name = dict(zip(self.dimensions, means, strict=False))
            triple = tuple(by_name.get(name, math.nan) for name in VAD_DIMENSIONS)
            self._known[text] = triple, len(found) / len(words) if words else math.nan
        return self._known[text]

    def forget(self) -> None:
        """Drop what is kept of texts seen so far."""
        self.latest.clear()
        self._known.clear()


class _Affect(AdditiveMetric):
    """What every metric of a lexicon shares; its variants are the initials of the dimensions."""

    group = "vad"
    family = "affect"
    requires = EXPLAINS
    reference_texts = True
    views = EVERY_VIEW
    dimension: ClassVar[str]
    kind: ClassVar[str]
    title: ClassVar[str]
    comparison: ClassVar[str]

    @classmethod
    def variant(cls, initial: str) -> type[Metric]:
        """The metric of the dimension that begins with `initial`."""
        (dimension,) = (name for name in VAD_DIMENSIONS if name[0] == initial)
        said = cls.comparison.format(dimension)
        return cls.member(
            name=f"{cls.kind}_{initial}",
            dimension=dimension,
            label=f"{dimension.capitalize()} {cls.title}",
            description=said,
        )

    def missing(self) -> str | None:
        """No lexicon, or one that does not measure the dimension."""
        lexicon = self.context.find(WordAffect)
        if lexicon is None:
            return "no lexicon is available; give one with --lexicon FILE"
        if self.dimension not in lexicon.dimensions:
            return f"the lexicon {lexicon.name} does not measure {self.dimension}; give another with --lexicon FILE"
        return None

    def lexicon(self) -> WordAffect:
        """The lexicon.

        Raises:
            Unavailable: there is none, or it does not measure the dimension.
        """
        lexicon, reason = self.context.find(WordAffect), self.missing()
        if lexicon is None or reason is not None:
            raise Unavailable(str(reason))
        return lexicon

    def fields(self) -> dict[str, str]:
        """The lexicon."""
        found = self.context.find(WordAffect)
        return {"lexicon": "none" if found is None else f"{found.name}-{found.fingerprint()[:8]}"}


def _mean(values: Sequence[float]) -> float:
    """NumPy's mean to the last digit, without its overhead for the few values that there usually are; NaN of none."""
    if len(values) >= _FEWEST_SUMMED_PAIRWISE:
        return float(np.mean(values))
    total = 0.0
    for value in values:
        total += value
    return total / len(values) if values else math.nan


class _Distance(_Affect):
    """A metric of the explanation's value beside the references' value."""

    def pairs(self, rows: Sequence[ScoredExample]) -> tuple[FloatArray, FloatArray, BoolArray]:
        """Values of the references and of the explanation (n,), and which rows have both (n,).

        Raises:
            Unavailable: no lexicon, or it does not measure the dimension.
        """
        column = VAD_DIMENSIONS.index(self.dimension)
        theirs, own = self.lexicon().latest.of(rows, self._both)
        x, y = theirs[:, column], own[:, column]
        both = answered(rows) & np.isfinite(x) & np.isfinite(y)
        return np.where(both, x, 0.0), np.where(both, y, 0.0), both

    def _both(self, rows: Sequence[ScoredExample]) -> tuple[FloatArray, FloatArray]:
        """Values of all dimensions of the references and of the explanation, each (n, 3)."""
        means = self.lexicon().means
        theirs = [
            [_mean([v for v in values if not math.isnan(v)]) for values in zip(*texts, strict=True)]
            for texts in ([means(a.explanation) for a in row.references] or [_UNKNOWN] for row in rows)
        ]
        own = [means(row.explanation or "") for row in rows]
        shape = len(rows), len(VAD_DIMENSIONS)
        return np.array(theirs).reshape(shape), np.array(own).reshape(shape)


class VADError(MeanMetric, _Distance):
    """Mean absolute difference of a dimension between explanation and references. Range 0..2, lower is better."""

    kind, title = "vad_error", "error"
    comparison = "Absolute difference in {} between explanation and references."
    higher_is_better = False
    bounds = (0.0, 2.0)
    source = "this harness"

    def statistics(self, rows: Sequence[ScoredExample]) -> Statistics:
        """(n, 2): absolute difference, 1."""
        theirs, own, both = self.pairs(rows)
        return mean_statistics(np.abs(own - theirs), both)


class VADConcordance(_Distance):
    """Concordance correlation of a dimension between explanation and references. Range -1..1, higher is better."""

    kind, title = "vad_ccc", "CCC"
    comparison = "Concordance correlation of {} between explanation and references."
    higher_is_better = True
    bounds: ClassVar[tuple[float | None, float | None]] = (-1.0, 1.0)
    source = "Lin 1989"

    def statistics(self, rows: Sequence[ScoredExample]) -> Statistics:
        """(n, 6): 1, x, y, x^2, y^2, xy with x the references and y the explanation."""
        x, y, both = self.pairs(rows)
        return statistics_of([np.ones(len(rows)), x, y, x * x, y * y, x * y], both)

    def value(self, sums: FloatArray) -> FloatArray:
        """CCC (...) of sums (..., 6)."""
        var_x, var_y, covariance, shift = moments(sums)
        return ratio(2 * covariance, var_x + var_y + shift**2)


class VADCoverage(MeanMetric, _Affect):
    """Mean share of an explanation's words that the lexicon knows. Range 0..1, neither direction is better."""

    name = "vad_coverage"
    label = "Words in lexicon"
    description = "Words of the explanation that the valence, arousal and dominance lexicon knows."
    style = "percent"
    decimals = 1
    dimension = "valence"
    higher_is_better = None
    reference_texts = False
    views: ClassVar[frozenset[View]] = frozenset({"predicted", "slice"})
    source = "this harness"

    def statistics(self, rows: Sequence[ScoredExample]) -> Statistics:
        """(n, 2): share, 1."""
        lexicon, explained = self.lexicon(), answered(rows)
        shares = np.array([lexicon.coverage(row.explanation or "") for row in rows])
        return mean_statistics(np.nan_to_num(shares), explained & np.isfinite(shares))

"""Metrics of the explanations alone: variety, length, similes, copying. Over answered paintings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np

from harness.tasks.metrics.base import (
    BoolArray,
    MeanMetric,
    Metric,
    Row,
    SetMetric,
    Statistics,
    Unavailable,
    View,
    mean_statistics,
)
from harness.tasks.metrics.caption_engine import CaptionEngine
from harness.tasks.metrics.captions import explained, tokeniser_name
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


def explanations(rows: Sequence[Row]) -> list[str]:
    """The explanations of answered rows, empty text for the others, in row order."""
    return [row.explanation or "" for row in rows]


def words_of(rows: Sequence[Row], captions: CaptionEngine) -> list[list[str]]:
    """The protocol's tokens of each row's explanation, none for an unanswered row.

    Raises:
        Unavailable: the protocol's tokeniser cannot run.
    """
    texts = explanations(rows)
    captions.prepare(texts)
    return [captions.tokens(text).split() for text in texts]


class Unique(SetMetric):
    """Distinct explanations / explanations (white space normalised). Range 0..1, higher is better.

    A set of fewer paintings has a higher value by itself, so compare equal n only.
    """

    name = "unique"
    label = "Unique"
    description = "Distinct explanations among all explanations."
    group = "variety"
    style = "percent"
    decimals = 1
    family = "style"
    higher_is_better = True
    views = _VIEWS
    source = "SEVLM-code artEmisX_test.py; ArtEmis evaluation notebook"

    def eligible(self, rows: Sequence[Row]) -> BoolArray:
        """Answers."""
        return explained(rows)

    def value(self, rows: Sequence[Row]) -> float:
        """Distinct share."""
        return len({one_line(text) for text in explanations(rows)}) / len(rows)


class Distinct(SetMetric):
    """Distinct n-grams / n-grams over all explanations together, on the protocol's tokens.

    A family over n, 1 or 2. Range 0..1, higher is better; falls with the number of explanations by itself.
    """

    group = "variety"
    style = "percent"
    decimals = 1
    family = "style"
    higher_is_better = True
    protocol_dependent = True
    views = _VIEWS
    source = "Li et al. 2016, a diversity-promoting objective function"
    order: ClassVar[int]

    @classmethod
    def variant(cls, order: str) -> type[Metric]:
        """Distinct n-grams of n = `order`."""
        said = {"1": "Distinct words among all words.", "2": "Distinct word pairs among all word pairs."}[order]
        return cls.member(
            name=f"distinct_{order}", order=int(order), label=f"Distinct-{order}", description=said,
            __doc__=f"{said}\n\n{cls.__doc__}",
        )  # fmt: skip

    def eligible(self, rows: Sequence[Row]) -> BoolArray:
        """Answers."""
        return explained(rows)

    def value(self, rows: Sequence[Row]) -> float:
        """Distinct share, NaN when there is no n-gram at all."""
        grams: list[tuple[str, ...]] = []
        for words in words_of(rows, self.context.captions):
            grams += zip(*(words[start:] for start in range(self.order)), strict=False)
        return len(set(grams)) / len(grams) if grams else float("nan")

    def fields(self) -> dict[str, str]:
        """Tokenisation."""
        return {"tok": tokeniser_name(self.context.task.protocol)}


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
    higher_is_better = None
    proportion = True
    views = _VIEWS
    source = "artemis/evaluation/metaphors.py"

    def statistics(self, rows: Sequence[Row]) -> Statistics:
        """(n, 2): holds a marker, 1."""
        found = [any(marker in text for marker in SIMILE_MARKERS) for text in explanations(rows)]
        return mean_statistics(np.array(found, dtype=np.float64), list(explained(rows)))


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
    higher_is_better = False
    proportion = True
    views = _VIEWS
    source = "this harness"

    def statistics(self, rows: Sequence[Row]) -> Statistics:
        """(n, 2): copied, 1."""
        if self.context.train_explanations is None:
            raise Unavailable("the training split is not at hand")
        copied = [fold(text) in self._known for text in explanations(rows)]
        return mean_statistics(np.array(copied, dtype=np.float64), list(explained(rows)))

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
    higher_is_better = None
    bounds = (0.0, None)
    protocol_dependent = True
    views = _VIEWS
    source = "this harness"

    def statistics(self, rows: Sequence[Row]) -> Statistics:
        """(n, 2): tokens, 1."""
        answered = explained(rows)
        lengths = [len(words) for words in words_of(rows, self.context.captions)]
        return mean_statistics(np.array(lengths, dtype=np.float64), list(answered))

    def fields(self) -> dict[str, str]:
        """Tokenisation."""
        return {"tok": tokeniser_name(self.context.task.protocol)}

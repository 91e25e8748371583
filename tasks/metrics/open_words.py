"""Labels that are words of people's own: right is a word of the same family as one that somebody used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from harness.tasks.metrics.base import MeanMetric, ScoredExample, Statistics, View, mean_statistics
from harness.tasks.readers.emotion_words import EMOTION_WORDS
from harness.types import Task


class WheelPrecision(MeanMetric):
    """Share of images whose answered word belongs to a family of words that people used; a non-answer counts 0.

    The families are those of `emotion_words`; a word outside them is a family of its own. Range 0..1, higher is better.
    """

    name = "wheel_precision"
    label = "Word precision"
    description = "Answers with a word, or a near synonym, that people used."
    family = "label"
    group = "label-more"
    style = "percent"
    decimals = 1
    higher_is_better = True
    proportion = True
    views: ClassVar[frozenset[View]] = frozenset({"predicted", "slice"})
    source = "after AffectGPT, EW metrics"

    @classmethod
    def applies(cls, task: Task) -> bool:
        """Where labels are people's own words."""
        return task.options.get("words") == "own"

    def statistics(self, rows: Sequence[ScoredExample]) -> Statistics:
        """(n, 2): score, 1."""
        people = [{_family(word) for word, count in row.histogram.items() if count > 0} for row in rows]
        found = [row.emotion is not None and _family(row.emotion) in own for row, own in zip(rows, people, strict=True)]
        return mean_statistics(
            [self.score(f, len(own)) for f, own in zip(found, people, strict=True)], [*map(bool, people)]
        )

    def score(self, found: bool, families: int) -> float:
        """The score of one image."""
        del families
        return float(found)


class WheelRecall(WheelPrecision):
    """Mean over images of [the answered word's family is one that people used] / the number of families they used.

    One word is answered, so that an image about which people use several families cannot reach 1. Range 0..1, higher is
    better.
    """

    name = "wheel_recall"
    label = "Word recall"
    description = "Share of the different words that people used which the answer covers."
    proportion = False

    def score(self, found: bool, families: int) -> float:
        """The score of one image."""
        return found / families if families else 0.0


def _family(word: str) -> str:
    plain = word.strip().casefold()
    return EMOTION_WORDS.get(plain, plain)

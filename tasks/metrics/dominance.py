"""Which emotion, if any, dominates an image's annotations: the two published rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple


def majority(histogram: Mapping[str, int]) -> str | None:
    """The emotion chosen by *more than half* of the annotators (SEVLM `utils/data_utils.py`), else None."""
    total = sum(histogram.values())
    return next((emotion for emotion, count in histogram.items() if 2 * count > total), None)


def half_without_tie(histogram: Mapping[str, int]) -> str | None:
    """The emotion chosen by *at least half* of the annotators and more often than any other, else None.

    Source: ArtEmis `artemis/evaluation/emotion_alignment.py`.
    """
    total, most = sum(histogram.values()), max(histogram.values(), default=0)
    leaders = [emotion for emotion, count in histogram.items() if count == most]
    return leaders[0] if len(leaders) == 1 and 2 * most >= total > 0 else None


class DominanceRule(NamedTuple):
    """A dominance rule and its name in signatures."""

    name: str
    emotion: Callable[[Mapping[str, int]], str | None]


_RULES = {
    "coco-ptb": DominanceRule(">half", majority),
    "artemis-plain": DominanceRule(">=half", half_without_tie),
}


def dominance_rule(protocol: str) -> DominanceRule:
    """The rule of a protocol: `coco-ptb` (SEVLM) or `artemis-plain` (ArtEmis).

    Raises:
        KeyError: unknown protocol.
    """
    return _RULES[protocol]

"""Telling statements about an image from others, for models that score texts instead of reading a prompt."""

from __future__ import annotations

from collections.abc import Sequence

from harness.types import Answer, Item, Usage

GREY = (128, 128, 128)
"""What an image without content looks like; how much likelier the image makes a text is measured against it."""


def answer_by_scores(item: Item, scores: Sequence[float], usage: Usage) -> Answer:
    """The label of the best statement; of a single one, `true` if the image speaks for it (a score above 0).

    Args:
        item: its `statements` are what was scored, its `labels` what is answered: one for each, or true and false.
        scores: how much the image speaks for each statement.
        usage: what it cost.
    """
    best = max(range(len(scores)), key=lambda i: scores[i])
    label = item.labels[best] if len(scores) > 1 else item.labels[0 if scores[0] > 0 else 1]
    raw = ", ".join(f"{score:+.4f}" for score in scores)
    return Answer(label, "", raw=f"scores of the statements: {raw}", usage=usage)

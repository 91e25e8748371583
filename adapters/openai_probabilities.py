"""Label probabilities from the log-probabilities that an endpoint lists for the tokens of its answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

DOUBTFUL = 0.02
"""Largest probability of tokens that begin several labels at once which is still left out of the count."""


def label_probabilities(
    tokens: Sequence[Mapping[str, Any]], emotion: str, labels: Sequence[str]
) -> dict[str, float] | None:
    """The share of each label at the place where the answer names its emotion.

    At that place the listed tokens are read as beginnings of labels. A label that no listed token begins gets an equal
    share of the probability that the list leaves over, but no more than the least listed one; all are then divided by
    their sum.

    Args:
        tokens: `choices[0].logprobs.content`: mappings with `token` and `top_logprobs` (each `token`, `logprob`).
        emotion: the label that was answered.
        labels: the task's labels.

    Returns:
        label -> probability (sums to 1), or None where the place is not found, or a token of some weight begins several
        labels, so that its probability cannot be divided among them.
    """
    place = _place(tokens, emotion)
    if place is None:
        return None
    index, before = place
    tops = tokens[index].get("top_logprobs") or ()
    listed = {
        str(top["token"]): math.exp(top["logprob"]) for top in tops if isinstance(top.get("logprob"), int | float)
    }
    found = _by_label(listed, before, labels)
    return None if found is None else _complete(found, listed, labels)


def _place(tokens: Sequence[Mapping[str, Any]], emotion: str) -> tuple[int, str] | None:
    """Index of the token in which the label begins, and what that token holds before it."""
    texts = [str(token.get("token")) for token in tokens]
    start = "".join(texts).lower().find(emotion.lower())
    if start < 0:
        return None
    for index, text in enumerate(texts):
        if start < len(text):
            return index, text[:start]
        start -= len(text)
    return None


def _by_label(listed: Mapping[str, float], before: str, labels: Sequence[str]) -> dict[str, float] | None:
    found: dict[str, float] = {}
    doubtful = 0.0
    for token, probability in listed.items():
        word = token.removeprefix(before).strip().lower() if token.startswith(before) else ""
        begun = [label for label in labels if word and (label.lower().startswith(word) or _continues(word, label))]
        if len(begun) == 1:
            found[begun[0]] = found.get(begun[0], 0.0) + probability
        elif begun:
            doubtful += probability
    return found if found and doubtful <= DOUBTFUL else None


def _continues(word: str, label: str) -> bool:
    """Whether a token holds a whole label and something after it, such as a closing quotation mark."""
    rest = word.removeprefix(label.lower())
    return rest != word and not rest[:1].isalnum()


def _complete(found: dict[str, float], listed: Mapping[str, float], labels: Sequence[str]) -> dict[str, float]:
    absent = [label for label in labels if label not in found]
    left = max(0.0, 1.0 - sum(listed.values()))
    share = min(left / len(absent), min(listed.values())) if absent else 0.0
    whole = found | dict.fromkeys(absent, share)
    total = sum(whole.values())
    return {label: whole[label] / total for label in labels}

"""Reading valence, arousal and dominance out of what a model said."""

from __future__ import annotations

import re
from collections.abc import Mapping

_QUOTES = r"[\"'*_`]*"
_SCALE = r"(?:\([^()\n]{0,40}\)\s*)?"  # "valence (1 to 7): 4"
_LINK = r"(?:rating|score)?\s*(?:is|of|[:=])?\s*"
_NUMBER = r"[\"'*_`(\[]*([-+\u2212]?\d+(?:\.\d+)?)"


def read_ratings(raw: str, scales: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """The numbers that a text gives for dimensions, such as `valence: 4.5, arousal = 2/7`.

    Args:
        raw: the model's text.
        scales: dimension -> (lowest, highest).

    Returns:
        Dimension -> number, for the dimensions that the text states with exactly one value within the scale. A
        dimension stated twice with different numbers, or outside its scale, is left out; nothing is clipped.
    """
    found = {dimension: _stated(raw, dimension) for dimension in scales}
    return {
        dimension: next(iter(values))
        for dimension, values in found.items()
        if len(values) == 1 and scales[dimension][0] <= next(iter(values)) <= scales[dimension][1]
    }


def _stated(raw: str, dimension: str) -> set[float]:
    """Every number that directly follows the dimension's name."""
    pattern = rf"\b{dimension}{_QUOTES}\s*{_SCALE}{_LINK}{_NUMBER}"
    return {float(number.replace("\u2212", "-")) for number in re.findall(pattern, raw, re.IGNORECASE)}

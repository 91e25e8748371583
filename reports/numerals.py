"""Numbers as readers see them: fractions as percentages, true minus signs, aligned digits, dashes for the unknown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from harness.reports.metric_table import MetricInfo

DASH = "–"
MINUS = "−"
Z = 1.959964
"""Quantile of the standard normal distribution for 95 % intervals."""

_SI = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def shown(info: MetricInfo, value: float | None) -> str:
    """`value` in the metric's own scale and digits, a dash for None."""
    if value is None:
        return DASH
    match info.style:
        case "percent":
            return _signed(value * 100, info.decimals)
        case "si":
            return si(value)
        case "count":
            return _signed(value, 0)
        case "money":
            return _signed(value, 2 if abs(value) >= 1 or value == 0 else 4)
        case "plain":
            return _signed(value, info.decimals)


def shown_interval(info: MetricInfo, low: float | None, high: float | None) -> str:
    """`low–high`, empty without an interval; `to` stands between the ends when one of them is negative."""
    if low is None or high is None:
        return ""
    between = " to " if low < 0 or high < 0 else DASH
    return f"{shown(info, low)}{between}{shown(info, high)}"


def shown_difference(info: MetricInfo, value: float | None) -> str:
    """A difference with its sign always written."""
    text = shown(info, value)
    return f"+{text}" if value is not None and value > 0 else text


def shown_p(p: float | None) -> str:
    """A p value to three digits without the leading zero; below .001 as a bound."""
    if p is None:
        return DASH
    if p < 0.001:
        return "< .001"
    return "1.00" if p >= 0.9995 else f"{p:.3f}"[1:]


def si(value: float) -> str:
    """A large count with three significant digits: 186 M."""
    for size, letter in _SI:
        if abs(value) >= size * 0.9995:
            scaled = value / size
            digits = 0 if abs(scaled) >= 99.95 else 1 if abs(scaled) >= 9.995 else 2
            return f"{_signed(scaled, digits)} {letter}"
    return _signed(value, 0 if float(value).is_integer() else 2)


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 picture`, `72 pictures`, with thin-space thousands."""
    return f"{grouped(number)} {one if number == 1 else many or one + 's'}"


def grouped(number: int) -> str:
    """An integer with a narrow no-break space between thousands."""
    return f"{number:,}".replace(",", "\u202f")


def two_decimals(value: float) -> str:
    """A number with two digits after the point and a true minus sign."""
    return _signed(value, 2)


def number_or_none(mapping: Mapping[str, Any], key: str) -> float | None:
    """A numeric entry of a JSON object, None where it is absent or not a number."""
    value = mapping.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _signed(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}"
    if text.startswith("-"):
        text = text[1:] if float(text) == 0 else MINUS + text[1:]
    return text


def wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a proportion observed in `n` > 0 cases (Wilson 1927)."""
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z * math.sqrt(share * (1 - share) / n + (Z / (2 * n)) ** 2) / (1 + Z**2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)

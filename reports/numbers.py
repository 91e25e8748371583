"""Numbers as readers see them: how a metric is shown, and every printed number with its interval, n or reason.

What a metric is called, which direction is better, its scale and its description are attributes of its class;
results.json carries them under `metrics`. The report reads them there and knows no metric by itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

DASH = "–"
MINUS = "−"
FEW = 10
"""Numbers on fewer images than this are greyed: too few to read anything from."""

Style: TypeAlias = Literal["plain", "percent", "si", "count", "money"]


@dataclass(frozen=True, slots=True)
class Group:
    """Columns that are shown and hidden together."""

    key: str
    title: str
    shown: bool


GROUPS: tuple[Group, ...] = (
    Group("label", "Emotion label", True),
    Group("label-more", "More label metrics", False),
    Group("probability", "Label distribution", False),
    Group("text", "Explanation text", True),
    Group("text-more", "More text metrics", False),
    Group("affect", "Affect of the explanation", True),
    Group("vad", "Valence, arousal, dominance", False),
    Group("rating", "Agreement with ratings", True),
    Group("variety", "Variety and originality", False),
    Group("other", "Other metrics", True),
    Group("coverage", "Coverage", True),
    Group("cost", "Cost and speed", True),
    Group("cost-more", "More on cost", False),
)
_GROUP_KEYS = [group.key for group in GROUPS]

_UNDESCRIBED = "A metric that these results do not describe."


@dataclass(frozen=True, slots=True)
class MetricInfo:
    """How one metric is shown.

    Attributes:
        name: the name in results.json.
        label: column heading.
        group: key of `GROUPS`.
        higher_is_better: None if neither direction is better in itself.
        style: `percent` multiplies by 100; `si` writes 186 M; `count` an integer; `money` US dollars.
        decimals: digits after the point (`plain`, `percent`).
        description: one sentence.
        formula: how it is computed, empty if not said.
        source: paper or file that the formula comes from, empty if not said.
        range: smallest and largest possible value as text, empty if not said.
        warning: what must be known before believing a value, empty if there is nothing.
    """

    name: str
    label: str
    group: str = "other"
    higher_is_better: bool | None = None
    style: Style = "plain"
    decimals: int = 3
    description: str = _UNDESCRIBED
    formula: str = ""
    range: str = ""
    source: str = ""
    warning: str = ""

    @classmethod
    def read(cls, name: str, facts: Mapping[str, Any]) -> MetricInfo:
        """One entry of `metrics` in results.json."""
        style, bounds = facts.get("style", "plain"), facts.get("range") or (None, None)
        group = facts.get("group", "other")
        ends = [f"{end:g}" if isinstance(end, int | float) else "∞" for end in bounds]
        return cls(
            name,
            str(facts.get("label") or name),
            group if group in _GROUP_KEYS else "other",
            facts.get("higher_is_better"),
            style,
            int(facts.get("decimals", 1 if style == "percent" else 3)),
            str(facts.get("description") or _UNDESCRIBED),
            str(facts.get("formula") or ""),
            "" if bounds[0] is None and bounds[1] is None else f"{ends[0]} to {ends[1]}",
            str(facts.get("source") or ""),
            str(facts.get("warning") or ""),
        )

    @property
    def group_rank(self) -> int:
        """Place of the group among `GROUPS`."""
        return _GROUP_KEYS.index(self.group)

    @property
    def arrow(self) -> str:
        """The better direction as an arrow, empty if there is none."""
        return {True: "↑", False: "↓", None: ""}[self.higher_is_better]

    @property
    def direction(self) -> str:
        """The better direction in words."""
        return {True: "higher is better", False: "lower is better", None: "neither direction is better"}[
            self.higher_is_better
        ]

    @property
    def unit(self) -> str:
        """The unit written after a value in running text."""
        return " %" if self.style == "percent" else ""


def metric_facts(results: Mapping[str, Any]) -> dict[str, MetricInfo]:
    """What results.json says about its metrics, by name, in the order of display."""
    return {name: MetricInfo.read(name, facts) for name, facts in (results.get("metrics") or {}).items()}


def headline_metrics(results: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the metrics that a reader asks for first; accuracy alone in results that do not say."""
    return tuple(str(name) for name in results.get("headlines") or ("accuracy",))


@dataclass(frozen=True, slots=True)
class Shown:
    """One number as printed: a value, or a dash with the reason why there is none.

    Attributes:
        text: the value in the metric's scale, or a dash.
        interval: `low–high`, empty without one.
        value: the unrounded value, None without one.
        n: images behind the value, if known.
        reason: why there is no value, empty otherwise.
        is_best: better than the runner-up beyond chance.
        is_held_out: measured on the references that a person's row leaves over.
    """

    text: str
    interval: str = ""
    value: float | None = None
    n: int | None = None
    reason: str = ""
    is_best: bool = False
    is_held_out: bool = False

    @classmethod
    def of(cls, info: MetricInfo, cell: Mapping[str, Any] | None, absent: str = "not measured for this row") -> Shown:
        """A cell of results.json, or any mapping with a `value`; `absent` is the reason if there is none."""
        cell = cell or {}
        value = None if cell.get("unavailable") else number_or_none(cell, "value")
        n = None if cell.get("n") is None else int(cell["n"])
        if value is None or not math.isfinite(value):
            return cls(DASH, n=n, reason=str(cell.get("unavailable") or absent))
        interval = shown_interval(info, number_or_none(cell, "low"), number_or_none(cell, "high"))
        return cls(shown(info, value), interval, value, n)

    @property
    def is_few(self) -> bool:
        """A value stands here, on fewer than `FEW` images."""
        return self.value is not None and (self.n or 0) < FEW


def shown(info: MetricInfo, value: float | None) -> str:
    """`value` in the metric's own scale and digits, a dash for None."""
    if value is None:
        return DASH
    match info.style:
        case "percent":
            return signed(value * 100, info.decimals)
        case "si":
            return si(value)
        case "count":
            return signed(value, 0)
        case "money":
            return signed(value, 2 if abs(value) >= 1 or value == 0 else 4)
        case _:
            return signed(value, info.decimals)


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


_SI = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def si(value: float) -> str:
    """A large count with three significant digits: 186 M."""
    for size, letter in _SI:
        if abs(value) >= size * 0.9995:
            scaled = value / size
            digits = 0 if abs(scaled) >= 99.95 else 1 if abs(scaled) >= 9.995 else 2
            return f"{signed(scaled, digits)} {letter}"
    return signed(value, 0 if float(value).is_integer() else 2)


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 image`, `72 images`, with thin-space thousands."""
    return f"{grouped(number)} {one if number == 1 else many or one + 's'}"


def grouped(number: int) -> str:
    """An integer with a narrow no-break space between thousands."""
    return f"{number:,}".replace(",", "\u202f")


def number_or_none(mapping: Mapping[str, Any], key: str) -> float | None:
    """A numeric entry of a JSON object, None if it is absent or not a number."""
    value = mapping.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def signed(value: float, decimals: int) -> str:
    """A number with a true minus sign; what rounds to zero has none."""
    text = f"{value:.{decimals}f}"
    if text.startswith("-"):
        text = text[1:] if float(text) == 0 else MINUS + text[1:]
    return text

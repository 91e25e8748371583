"""The answer in words: how close the small model comes to the larger ones, on which emotions, at what cost.

Every number is read from `headline` in results.json; the same sentences stand on the page, in the terminal and in the
text for papers. They stay true without a larger model, without a majority row and on any number of tasks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.reports.comparisons import SIGNIFICANT
from harness.reports.numbers import (
    DASH,
    MetricInfo,
    Shown,
    count,
    grouped,
    metric_facts,
    number_or_none,
    shown,
    shown_difference,
    shown_p,
    si,
    signed,
)
from harness.reports.view import ANSWERED_ENOUGH, TaskView

_FIGURES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True, slots=True)
class Kept:
    """What the small model keeps of one larger model's lead by one metric; `reason` says why there is no share."""

    info: MetricInfo
    share: float | None
    low: float | None
    high: float | None
    n: int
    reason: str

    @property
    def is_of_chance(self) -> bool:
        """The lead that would be shared may be none: a share of it says nothing."""
        return self.low is None and "chance" in self.reason

    @property
    def text(self) -> str:
        """`46 %`, a dash without a share."""
        return DASH if self.share is None else percent(self.share)

    @property
    def is_beyond(self) -> bool:
        """The interval ends beyond the bar's right end."""
        return self.high is not None and self.high > 1.25

    @staticmethod
    def at(share: float) -> float:
        """Pixels from the left of a bar 96 wide, -25 % to 125 %; what lies beyond stands at its end."""
        return round((min(max(share, -0.25), 1.25) + 0.25) / 1.5 * 88 + 4, 1)

    @property
    def interval(self) -> str:
        """`21 to 83 %`, empty without one."""
        return "" if self.low is None or self.high is None else f"{signed(100 * self.low, 0)} to {percent(self.high)}"


@dataclass(frozen=True, slots=True)
class Rival:
    """A larger model beside the small one: how many times as much it takes, as text, and what is kept of its lead."""

    model: str
    size: str
    time: str
    price: str
    kept: tuple[Kept, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one task of one run.

    Attributes:
        lead: the first sentence, about the best of the larger models.
        note: how sure that is: the interval, or why there is none.
        points: what a reader asks next: a word for it and a sentence.
        rivals: the larger models, by size.
        small: name of the small model, empty if no model tells its size.
    """

    lead: str
    note: str
    points: tuple[tuple[str, str], ...]
    rivals: tuple[Rival, ...] = ()
    small: str = ""


def percent(share: float) -> str:
    """A share as a whole percentage."""
    return f"{signed(100 * share, 0)}\u00a0%"


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def answer(results: Mapping[str, Any], task: str) -> Answer | None:
    """The answer of one task, None if results.json has none (scored by an older version)."""
    if "headline" not in results:
        return None
    record = next((r for r in results["headline"] if r["task"] == task), None)
    if record is None:
        return Answer("No model that tells its size ran on this task, so nothing is said of small and large.", "", ())
    facts = metric_facts(results)
    compared = [s for larger in record["larger"] for s in larger["shares"]] or record["over_majority"]
    first = facts.get(str(compared[0]["metric"]) if compared else "accuracy")
    info = first or MetricInfo("accuracy", "accuracy")
    # the larger model with the highest value in the first headline metric
    beside = [one for one in record["larger"] if one["shares"] and one["shares"][0]["values"][1] is not None]
    rival = max(beside, key=lambda larger: float(larger["shares"][0]["values"][1]), default=None)
    lead, note = _alone(record, info) if rival is None else _against(record, rival, info)
    coverage = [c for c in results.get("coverage", ()) if c["task"] == task]
    ranked = {c["model"] for c in coverage if c["answered"] >= ANSWERED_ENOUGH * c["examples"]}
    # whole rows against all references, by the first metric
    cells = {
        cell["model"]: cell
        for cell in results["cells"]
        if cell["task"] == task and cell["metric"] == info.name
        if not (cell.get("control") or cell.get("emotion") or cell.get("slice"))
        if (cell.get("references") or "all") == "all"
    }
    based_on = ""
    if coverage:
        asked = max(c["examples"] for c in coverage)
        counted = max((int(c["n"]) for c in cells.values() if c["n"]), default=asked)
        based_on = count(asked, "image")
        if counted != asked:
            based_on += f"; {_lower(info.label)} counts the {grouped(counted)} with a majority emotion"
    points = [
        ("Best", _best(cells, info, ranked)),
        ("Significance", _significance(record, info)),
        ("By emotion", _by_emotion(rival)),
        ("Cost", _cost(record)),
        ("Based on", based_on and f"{based_on}."),
    ]
    rivals = tuple(_rival(larger, facts) for larger in record["larger"])
    return Answer(lead, note, tuple((word, text) for word, text in points if text), rivals, record["small"]["model"])


def answers(view: TaskView) -> list[tuple[str, Answer]]:
    """The answer of every run that has one, with the run's name: rows of different runs are not paired."""
    found = ((run.name, answer(run.results, view.name)) for run in view.runs)
    return [(name, one) for name, one in found if one is not None]


def _rival(larger: Mapping[str, Any], facts: Mapping[str, MetricInfo]) -> Rival:
    kept = tuple(
        Kept(
            facts.get(s["metric"]) or MetricInfo(s["metric"], s["metric"]),
            number_or_none(s, "share"),
            number_or_none(s, "low"),
            number_or_none(s, "high"),
            int(s["n"]),
            str(s["reason"] or ""),
        )
        for s in larger["shares"]
    )
    ratios = larger["ratios"]
    size = "not published" if larger["parameters"] is None else si(larger["parameters"])
    size += "" if ratios["parameters"] is None else f" ({times(ratios['parameters'])})"
    time = DASH if larger["latency_p50_s"] is None else f"{signed(larger['latency_p50_s'], 2)} s"
    time += "" if ratios["latency_p50_s"] is None else f" ({times(ratios['latency_p50_s'])})"
    return Rival(larger["model"], size, time, _dollars(larger["cost_usd"]), kept)


def times(ratio: float) -> str:
    """`38×`, with a digit after the point below 10."""
    return f"{grouped(round(ratio)) if ratio >= 10 else signed(ratio, 1)}×"


def _dollars(cost: float | None) -> str:
    return (
        ""
        if cost is None
        else f"US$\u00a0{signed(cost, 2)}"
        if cost >= 0.005 or cost == 0
        else f"US$\u00a0{signed(cost, 4)}"
    )


def _against(record: Mapping[str, Any], larger: Mapping[str, Any], info: MetricInfo) -> tuple[str, str]:
    first = larger["shares"][0]
    small, large, metric = record["small"]["model"], larger["model"], _lower(info.label)
    x, y, *line = (f"{shown(info, value)}{info.unit}" for value in first["values"])
    if not line:
        return f"{small} reaches {x} and {large} {y} in {metric}.", "Without a majority row no share can be given."
    values = f"{small} {x}, {large} {y}, majority line {line[0]}"
    share = number_or_none(first, "share")
    if share is None:
        return f"{large} does not beat the majority line in {metric}, so there is no lead to keep.", f"{values}."
    kept = Kept(info, share, number_or_none(first, "low"), number_or_none(first, "high"), 0, str(first["reason"] or ""))
    if kept.is_of_chance:
        lead = f"{large} is not shown to beat the majority line in {metric}, so there is no lead to keep."
        return lead, f"{values}."
    reason = kept.reason or "it could not be computed"
    reason = reason.replace("the larger model's", f"{large}’s").replace("the larger model", large)
    note = f"95\u00a0% interval {kept.interval}. {values}." if kept.interval else f"No interval: {reason}. {values}."
    if share < 0:
        return f"{small} keeps nothing of {large}’s lead in {metric}: it stays below the majority line.", note
    if share >= 1 and _is_decided(first):
        return f"{small} is ahead of {large} in {metric}.", note
    whole = "all" if share >= 1 else kept.text
    return f"{small} keeps {whole} of {large}’s lead over the majority line in {metric}.", note


def _lower(label: str) -> str:
    """A label within a sentence: `Accuracy` becomes `accuracy`, `CIDEr-D` stays."""
    head = label[:2]
    return label if head.isupper() or any(letter.isupper() for letter in label[1:]) else label[:1].lower() + label[1:]


def _alone(record: Mapping[str, Any], info: MetricInfo) -> tuple[str, str]:
    small = record["small"]["model"]
    if not record["over_majority"]:
        return f"No model here is larger than {small}.", "There is no majority row to measure it by."
    tested = record["over_majority"][0]
    difference = number_or_none(tested, "difference")
    if difference is None:
        return f"No model here is larger than {small}.", f"Its {_lower(info.label)} could not be computed."
    word = "above" if difference > 0 else "below" if difference < 0 else "on"
    points = f"{shown_difference(info, difference)}{' points' if info.style == 'percent' else ''}"
    low, high = number_or_none(tested, "difference_low"), number_or_none(tested, "difference_high")
    interval = "" if low is None else f", {shown_difference(info, low)} to {shown_difference(info, high)}"
    chance = "beyond chance" if _is_decided(tested) else "which is within chance"
    return (
        f"No model here is larger than {small}; in {_lower(info.label)} it stands {word} the majority line.",
        f"{points}{interval}, {chance} (p\u00a0{_p(tested)}).",
    )


def _is_decided(tested: Mapping[str, Any]) -> bool:
    p = number_or_none(tested, "p_holm")
    return p is not None and p < SIGNIFICANT


def _p(tested: Mapping[str, Any]) -> str:
    text = shown_p(number_or_none(tested, "p_holm"))
    return text.replace(" ", "\u00a0") if text.startswith("<") else f"=\u00a0{text}"


def _best(cells: Mapping[str, Mapping[str, Any]], info: MetricInfo, ranked: Collection[str]) -> str:
    found = [(model, Shown.of(info, cell)) for model, cell in cells.items() if model in ranked]
    known = [(model, cell) for model, cell in found if cell.value is not None]
    if not known:
        return ""
    model, cell = max(known, key=lambda one: one[1].value or 0.0)
    equal = [other for other, one in known if one.value == cell.value]
    if len(equal) > 1:
        return f"{listed(equal)} share the highest {_lower(info.label)} ({cell.text}{info.unit})."
    interval = f", 95\u00a0% interval {cell.interval}" if cell.interval else ""
    return f"{model} has the highest {_lower(info.label)} ({cell.text}{info.unit}{interval})."


def _significance(record: Mapping[str, Any], info: MetricInfo) -> str:
    """Whether the small model is worse, better or undecided against each larger one in the first metric."""
    found: dict[str, list[str]] = {}
    for larger in record["larger"]:
        for tested in larger["shares"][:1]:
            if number_or_none(tested, "difference") is not None:
                verdict = "not shown to differ from"
                if _is_decided(tested):
                    verdict = "better than" if tested["difference"] > 0 else "worse than"
                found.setdefault(verdict, []).append(f"{larger['model']} (p\u00a0{_p(tested)})")
    said = [f"{verdict} {listed(names)}" for verdict, names in found.items()]
    return f"In {_lower(info.label)} {record['small']['model']} is {'; '.join(said)}." if said else ""


def _by_emotion(larger: Mapping[str, Any] | None) -> str:
    if larger is None:
        return ""
    found = larger["emotions"]
    total = sum(len(found[key]) for key in ("better", "worse", "undecided"))
    if not total:
        return ""
    decided = [f"{word} on {listed(found[word])}" for word in ("worse", "better") if found[word]]
    left = len(found["undecided"])
    if not decided:
        return f"Against {larger['model']} none of the {number(total)} emotions is decided: no difference is shown."
    rest = f"; {number(left)} cannot be told apart" if left else ""
    return f"Against {larger['model']}: {', '.join(decided)}{rest}."


def number(count: int) -> str:
    """A small number as a word."""
    return _FIGURES[count] if count < len(_FIGURES) else grouped(count)


def _cost(record: Mapping[str, Any]) -> str:
    small = record["small"]
    own = [f"{si(small['parameters'])} parameters"] if small["parameters"] else []
    own += [f"{signed(small['latency_p50_s'], 2)} s per image"] if small["latency_p50_s"] is not None else []
    said = [f"{small['model']} has {' and takes '.join(own)}"] if own else []
    for larger in record["larger"]:
        ratios = larger["ratios"]
        parts = [f"{times(ratios['parameters'])} the parameters"] if ratios["parameters"] else []
        parts += [f"{times(ratios['latency_p50_s'])} the time"] if ratios["latency_p50_s"] else []
        parts += [_dollars(larger["cost_usd"])] if larger["cost_usd"] else []
        said += [f"{larger['model']} takes {listed(parts)}"] if parts else []
    return f"{'; '.join(said)}." if said else ""


def answer_text(found: Answer) -> list[str]:
    """The answer as lines of plain text."""
    lines = [f"{found.lead} {found.note}".strip(), *(f"{word}: {text}" for word, text in found.points)]
    for rival in found.rivals:
        kept = [
            f"{k.info.label} {k.text}{f' [{k.interval}]' if k.interval else ''}"
            for k in rival.kept
            if k.share is not None and not k.is_of_chance
        ]
        if kept:
            lines.append(f"Kept of {rival.model}’s lead: {', '.join(kept)}.")
    return lines

"""Small against large, line by line: the paired difference of two rows by emotion, by style, by people's agreement.

A chart has a line per value, sorted by the difference: a mark with its interval left or right of zero. Emotions are
tested (Holm), so a full mark is a decided one; along slices a full mark has an interval that leaves zero out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.reports.comparisons import SIGNIFICANT
from harness.reports.numbers import MetricInfo, grouped, number_or_none, shown_difference
from harness.reports.scatter import Tick, linear_marks
from harness.reports.view import Run, TaskView

WIDTH, LEFT, RIGHT, LINE, BOTTOM = 640, 170, 104, 24, 44
LONGEST = 60
"""Lines of a chart at most, those on the most images; cells.csv and results.json hold all."""


@dataclass(frozen=True, slots=True)
class Line:
    """One value as drawn: y of its line, x of the mark and of the interval's ends (None without one)."""

    label: str
    y: float
    x: float
    low: float | None
    high: float | None
    difference: str
    n: str
    sign: str
    is_decided: bool
    description: str


@dataclass(frozen=True, slots=True)
class Chart:
    """The differences of one pair of rows along one key by one metric."""

    key: str
    info: MetricInfo
    a: str
    b: str
    lines: tuple[Line, ...]
    ticks: tuple[Tick, ...]
    zero: float
    is_tested: bool

    @property
    def pair(self) -> str:
        """Both names."""
        return f"{self.a} − {self.b}"

    @property
    def height(self) -> int:
        """Pixels."""
        return LINE * len(self.lines) + BOTTOM

    @property
    def floor(self) -> int:
        """The y of the x axis."""
        return LINE * len(self.lines) + 4


def charts(view: TaskView) -> list[Chart]:
    """Every pair of models (and the majority line), the small model of the headline first; by emotion first."""
    found: list[Chart] = []
    for run in view.runs:
        order = _order(run, view.name)
        groups: dict[tuple[str, str, str, str], list[Mapping[str, Any]]] = {}
        for entry in _entries(run, view.name, order):
            groups.setdefault((entry["key"], entry["metric"], entry["a"], entry["b"]), []).append(entry)
        places = sorted(groups, key=lambda place: [order.index(model) for model in place[2:]])
        found += [chart for place in places if (chart := _chart(view, run, place, groups[place]))]
    keys = list(dict.fromkeys(chart.key for chart in found))
    keys.sort(key=lambda key: key != "emotion")
    infos = view.infos({chart.info.name for chart in found})
    return sorted(found, key=lambda chart: (keys.index(chart.key), infos.index(chart.info)))


def _order(run: Run, task: str) -> list[str]:
    """The small model, the best of the larger ones by the first headline metric, the others, the majority row."""
    sides = next(run.entries("headline", task), None)
    if sides is None:
        return []
    larger = sorted(sides["larger"], key=lambda m: -max((s["values"][1] or 0.0 for s in m["shares"][:1]), default=0.0))
    names = [sides["small"]["model"], *(m["model"] for m in larger)]
    return names + ([sides["majority"]] if sides["majority"] is not None else [])


def _entries(run: Run, task: str, order: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """Differences per emotion and along slices, turned so that the row that comes first in `order` does."""
    for entry in run.entries("comparisons", task):
        if entry.get("emotion") is not None and entry["a"] in order and entry["b"] in order:
            p = number_or_none(entry, "p_holm")
            decided = p is not None and p < SIGNIFICANT
            yield _turned({**entry, "key": "emotion", "value": entry["emotion"], "decided": decided}, order)
    for entry in (e for e in run.entries("differences", task) if e["a"] in order and e["b"] in order):
        low, high = number_or_none(entry, "low"), number_or_none(entry, "high")
        decided = low is not None and high is not None and (low > 0 or high < 0)
        yield _turned({**entry, "decided": decided}, order)


def _turned(entry: Mapping[str, Any], order: Sequence[str]) -> Mapping[str, Any]:
    if order.index(entry["a"]) < order.index(entry["b"]):
        return entry
    numbers = {name: number_or_none(entry, name) for name in ("difference", "low", "high")}
    less = {name: None if value is None else -value for name, value in numbers.items()}
    turned = {"difference": less["difference"], "low": less["high"], "high": less["low"]}
    return {**entry, **turned, "a": entry["b"], "b": entry["a"]}


def _chart(
    view: TaskView, run: Run, place: tuple[str, str, str, str], entries: Sequence[Mapping[str, Any]]
) -> Chart | None:
    key, metric, a, b = place
    info = view.info(metric)
    known = [entry for entry in entries if number_or_none(entry, "difference") is not None]
    known = sorted(known, key=lambda entry: -int(entry["n"]))[:LONGEST]
    if not known or info.higher_is_better is None:
        return None
    ends = [
        e for entry in known for name in ("difference", "low", "high") if (e := number_or_none(entry, name)) is not None
    ]
    marks = linear_marks(min(0.0, *ends), max(0.0, *ends))

    def at(value: float) -> float:
        return round(LEFT + (value - marks[0]) / (marks[-1] - marks[0]) * (WIDTH - LEFT - RIGHT), 1)

    lines = []
    for number, entry in enumerate(sorted(known, key=lambda entry: -float(entry["difference"]))):
        difference, low, high = (number_or_none(entry, name) for name in ("difference", "low", "high"))
        assert difference is not None
        text = shown_difference(info, difference)
        interval = "" if low is None else f", {shown_difference(info, low)} to {shown_difference(info, high)}"
        is_better = (difference > 0) == info.higher_is_better
        lines.append(
            Line(
                str(entry["value"]),
                LINE * number + LINE / 2,
                at(difference),
                None if low is None else at(low),
                None if high is None else at(high),
                text,
                grouped(int(entry["n"])),
                "same" if difference == 0 else "better" if is_better else "worse",
                bool(entry["decided"]),
                f"{entry['value']}: {text}{interval}, n {entry['n']}{', decided' if entry['decided'] else ''}",
            )
        )
    ticks = tuple(Tick(at(mark), shown_difference(info, mark).removesuffix(".0")) for mark in marks)
    labels = []
    for model in (a, b):
        row = view.row(run.index, model)
        labels.append(row.label if row is not None else model)
    return Chart(key, info, labels[0], labels[1], tuple(lines), ticks, at(0.0), key == "emotion")

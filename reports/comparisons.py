"""Who is better than whom: the lead by a metric, all paired differences, the leads across tasks, and charts.

Nothing is averaged across tasks: their labels, their people and how often they agree differ, so 40 % of nine emotions
and 60 % of three are not 50 % of anything. Each line is read on its own.

A chart shows small against large by emotion, by style, by people's agreement: a line per value, sorted by the paired
difference, with a mark and its interval left or right of zero. Emotions are tested (Holm), so a full mark is a decided
one; along slices a full mark has an interval that leaves zero out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.reports.numbers import (
    MetricInfo,
    Shown,
    grouped,
    number_or_none,
    shown_difference,
    shown_p,
)
from harness.reports.scatter import Tick, linear_marks
from harness.reports.view import CellKey, LeaderboardRow, Run, TaskView

SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True)
class Lead:
    """The best ranked row and the next; controls and people do not take part.

    Attributes:
        first, second: by value in the metric's better direction.
        difference: first minus second on the images that both share, with interval and Holm-adjusted p; all None
            if the two were not compared, as rows of different runs are not.
        n: images of the comparison.
        is_ahead: whether the first is the better one on the shared images, too. Values of texts rest on each row's
            own answered images, so it may not be.
    """

    first: LeaderboardRow
    second: LeaderboardRow
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p_holm: float | None = None
    n: int | None = None
    is_ahead: bool = False

    @property
    def is_significant(self) -> bool:
        """Better than the runner-up with Holm-adjusted p below `SIGNIFICANT`."""
        return self.is_ahead and self._is_beyond_chance

    @property
    def is_reversed(self) -> bool:
        """On the shared images the runner-up is better beyond chance."""
        return not self.is_ahead and self._is_beyond_chance

    @property
    def _is_beyond_chance(self) -> bool:
        return self.p_holm is not None and self.p_holm < SIGNIFICANT


def lead(view: TaskView, info: MetricInfo) -> Lead | None:
    """The lead by a metric; None if fewer than two ranked rows have it or neither direction is better."""
    if info.higher_is_better is None:
        return None
    sign = 1.0 if info.higher_is_better else -1.0
    rivals = [
        (sign * value, row)
        for row in view.rows
        if row.is_ranked and row.kind != "control" and not row.is_person
        if (value := view.value(CellKey(row.id, info.name))) is not None
    ]
    if len(rivals) < 2:
        return None
    (_, first), (_, second) = sorted(rivals, key=lambda rival: -rival[0])[:2]
    entry = None
    if first.id.run == second.id.run:
        place, models = (info.name, None), {first.id.model, second.id.model}
        entries = view.run_of(first).entries("comparisons", view.name)
        tested = (e for e in entries if (e["metric"], e.get("emotion")) == place and {e["a"], e["b"]} == models)
        entry = next(tested, None)
    if entry is None:
        return Lead(first, second)
    difference, low, high = (number_or_none(entry, name) for name in ("difference", "low", "high"))
    if entry["a"] == second.id.model:
        difference, low, high = _negated(difference), _negated(high), _negated(low)
    n = number_or_none(entry, "n")
    is_ahead = difference is not None and sign * difference > 0
    p_holm = number_or_none(entry, "p_holm")
    return Lead(first, second, difference, low, high, p_holm, None if n is None else int(n), is_ahead)


def _negated(value: float | None) -> float | None:
    return None if value is None else -value


@dataclass(frozen=True, slots=True)
class Pair:
    """One comparison as printed: `difference` is a − b."""

    info: MetricInfo
    emotion: str | None
    a: str
    b: str
    difference: str
    interval: str
    p: str
    p_holm: str
    n: int | None
    verdict: str
    is_significant: bool


def pairs(view: TaskView) -> tuple[list[Pair], list[Pair]]:
    """Overall comparisons, and those per emotion (a family of tests of its own), in the order of the metrics."""
    found = []
    tested = [(run, entry) for run in view.runs for entry in run.entries("comparisons", view.name)]
    for run, entry in tested:
        info = view.info(entry["metric"])
        a, b = (_label(view, run, str(entry[side])) for side in ("a", "b"))
        difference, p_holm = number_or_none(entry, "difference"), number_or_none(entry, "p_holm")
        low, high = number_or_none(entry, "low"), number_or_none(entry, "high")
        is_significant = p_holm is not None and p_holm < SIGNIFICANT
        verdict = "no difference shown"
        if is_significant and difference:
            higher, lower = (a, b) if difference > 0 else (b, a)
            better = lower if info.higher_is_better is False else higher
            verdict = f"{higher} higher" if info.higher_is_better is None else f"{better} better"
        pair = Pair(
            info,
            entry.get("emotion"),
            a,
            b,
            shown_difference(info, difference),
            "" if low is None else f"{shown_difference(info, low)} to {shown_difference(info, high)}",
            shown_p(number_or_none(entry, "p")),
            shown_p(p_holm),
            None if entry.get("n") is None else int(entry["n"]),
            verdict,
            is_significant,
        )
        found.append(pair)
    order = view.infos({pair.info.name for pair in found})
    found.sort(key=lambda pair: order.index(pair.info))
    return [p for p in found if p.emotion is None], [p for p in found if p.emotion is not None]


def _label(view: TaskView, run: Run, stem: str) -> str:
    """The label of a row that results.json names by its model, or by `model@control`."""
    model, _, control = stem.partition("@")
    row = view.row(run.index, model, control or None)
    return row.label if row is not None else stem


@dataclass(frozen=True, slots=True)
class Line:
    """One task: a cell for each row of the report, and the lead in words; `leader` is the index of the first row."""

    view: TaskView
    n: int | None
    cells: tuple[Shown, ...]
    verdict: str
    evidence: str
    is_significant: bool
    leader: int | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """One metric across the tasks that have it.

    Attributes:
        labels: row labels, models first.
        absent: tasks that do not have the metric.
    """

    info: MetricInfo
    labels: tuple[str, ...]
    lines: tuple[Line, ...]
    absent: tuple[str, ...]


def summaries(views: Sequence[TaskView]) -> list[Summary]:
    """A summary for each headline metric that at least one task has; none for a single task."""
    if len(views) < 2:
        return []
    found = []
    for name in dict.fromkeys(name for view in views for name in view.headlines):
        rows = [(view, row) for view in views for row in _rows(view) if view.value(CellKey(row.id, name)) is not None]
        if not rows:
            continue
        having = list({view.slug: view for view, _ in rows}.values())
        labels = tuple(dict.fromkeys(r.label for kind in ("model", "reference") for _, r in rows if r.kind == kind))
        absent = tuple(view.name for view in views if view not in having)
        info = having[0].info(name)
        found.append(Summary(info, labels, tuple(_line(view, info, labels) for view in having), absent))
    return found


def _rows(view: TaskView) -> list[LeaderboardRow]:
    """Rows that are scored against all references: no people, and no model without its image."""
    return [row for row in view.rows if row.kind != "control" and not row.is_person]


def _line(view: TaskView, info: MetricInfo, labels: Sequence[str]) -> Line:
    rows = {row.label: row for row in _rows(view)}
    cells = []
    for row in map(rows.get, labels):
        if row is None:
            cells.append(Shown("–", reason="not run on this task"))
            continue
        cell = Shown.of(info, view.cells.get(CellKey(row.id, info.name)))
        is_marked = cell.value is not None and not row.is_ranked
        cells.append(dataclasses.replace(cell, text=f"{cell.text} †") if is_marked else cell)
    counts = [cell.n for cell in cells if cell.value is not None and cell.n is not None]
    n = max(set(counts), key=lambda one: (counts.count(one), one), default=None)
    best = lead(view, info)
    if best is None:
        return Line(view, n, tuple(cells), "nothing to compare", "", False)
    first, second = best.first.label, best.second.label
    if best.difference is None:
        verdict, evidence = f"{first} first, {second} next", "not compared: rows of different runs"
    else:
        verdict = f"{first} first; no difference to {second} shown"
        if best.is_significant:
            verdict = f"{first} better than {second}"
        elif best.is_reversed:
            verdict = f"{first} first, but {second} better on the images of both"
        difference, low, high = (shown_difference(info, one) for one in (best.difference, best.low, best.high))
        interval = f" [{low} to {high}]" if best.low is not None else ""
        p = shown_p(best.p_holm)
        evidence = f"{difference}{interval}, p {p if p.startswith('<') else '= ' + p}, n {best.n}"
    return Line(view, n, tuple(cells), verdict, evidence, best.is_significant, labels.index(first))


WIDTH, LEFT, RIGHT, LINE, BOTTOM = 640, 170, 104, 24, 44
"""Pixels of a chart: its width, its margins, the height of a line."""
LONGEST = 60
"""Lines of a chart at most, those on the most images; cells.csv and results.json hold all."""


@dataclass(frozen=True, slots=True)
class ChartLine:
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
    lines: tuple[ChartLine, ...]
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
        sides = next(run.entries("headline", view.name), None)
        if sides is None:
            continue
        # the small model, the best of the larger ones by the first headline metric, the others, the majority row
        larger = sorted(
            sides["larger"], key=lambda m: -max((s["values"][1] or 0.0 for s in m["shares"][:1]), default=0)
        )
        order = [sides["small"]["model"], *(model["model"] for model in larger)]
        order += [] if sides["majority"] is None else [sides["majority"]]
        entries: list[Mapping[str, Any]] = []
        for entry in run.entries("comparisons", view.name):
            if entry.get("emotion") is not None:
                p = number_or_none(entry, "p_holm")
                decided = p is not None and p < SIGNIFICANT
                entries.append({**entry, "key": "emotion", "value": entry["emotion"], "decided": decided})
        for entry in run.entries("differences", view.name):
            low, high = number_or_none(entry, "low"), number_or_none(entry, "high")
            entries.append({**entry, "decided": low is not None and high is not None and (low > 0 or high < 0)})
        groups: dict[tuple[str, str, str, str], list[Mapping[str, Any]]] = {}
        for entry in entries:
            a, b = entry["a"], entry["b"]
            if a not in order or b not in order:
                continue
            if order.index(a) > order.index(b):
                # turned, so that the row that comes first in `order` does here
                difference, low, high = (_negated(number_or_none(entry, key)) for key in ("difference", "low", "high"))
                entry = {**entry, "difference": difference, "low": high, "high": low, "a": b, "b": a}
            groups.setdefault((entry["key"], entry["metric"], entry["a"], entry["b"]), []).append(entry)
        places = sorted(groups, key=lambda place: [order.index(model) for model in place[2:]])
        found += [chart for place in places if (chart := _chart(view, run, place, groups[place]))]
    keys = list(dict.fromkeys(chart.key for chart in found))
    keys.sort(key=lambda key: key != "emotion")
    infos = view.infos({chart.info.name for chart in found})
    return sorted(found, key=lambda chart: (keys.index(chart.key), infos.index(chart.info)))


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
            ChartLine(
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
    pair = _label(view, run, a), _label(view, run, b)
    return Chart(key, info, *pair, tuple(lines), ticks, at(0.0), key == "emotion")

"""Paired differences between rows, with interval, p and Holm-adjusted p."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.reports.leads import SIGNIFICANT
from harness.reports.metric_table import MetricInfo, display_rank, metric_info
from harness.reports.numerals import number_or_none, shown_difference, shown_p
from harness.reports.task_view import Run, TaskView


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
    found = [_pair(view, run, entry) for run in view.runs for entry in run.entries("comparisons", view.name)]
    found.sort(key=lambda pair: display_rank(pair.info.name))
    return [p for p in found if p.emotion is None], [p for p in found if p.emotion is not None]


def _pair(view: TaskView, run: Run, entry: Mapping[str, Any]) -> Pair:
    info = metric_info(entry["metric"])
    a, b = (_label(view, run, str(entry[side])) for side in ("a", "b"))
    difference, p_holm = number_or_none(entry, "difference"), number_or_none(entry, "p_holm")
    low, high = number_or_none(entry, "low"), number_or_none(entry, "high")
    interval = "" if low is None else f"{shown_difference(info, low)} to {shown_difference(info, high)}"
    is_significant = p_holm is not None and p_holm < SIGNIFICANT
    n = entry.get("n")
    return Pair(
        info,
        entry.get("emotion"),
        a,
        b,
        shown_difference(info, difference),
        interval,
        shown_p(number_or_none(entry, "p")),
        shown_p(p_holm),
        int(n) if n is not None else None,
        _verdict(info, a, b, difference) if is_significant else "no difference shown",
        is_significant,
    )


def _label(view: TaskView, run: Run, stem: str) -> str:
    model, _, control = stem.partition("@")
    row = view.row(run.index, model, control or None)
    return row.label if row is not None else stem


def _verdict(info: MetricInfo, a: str, b: str, difference: float | None) -> str:
    if not difference:
        return "no difference shown"
    higher = a if difference > 0 else b
    if info.higher_is_better is None:
        return f"{higher} higher"
    return f"{higher if info.higher_is_better else (b if higher == a else a)} better"

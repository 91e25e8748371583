"""Rows that are one model trained with several seeds: mean and standard deviation over the trainings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.reports.metric_table import GROUPS, MetricInfo, display_rank, metric_info
from harness.reports.numerals import shown
from harness.reports.task_view import TaskView

_SHOWN = frozenset(group.key for group in GROUPS if group.shown)


@dataclass(frozen=True, slots=True)
class SeedGroup:
    """One model; `members` are the labels of its rows, `texts` follow the columns, empty where a row has no value."""

    name: str
    members: tuple[str, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SeedTable:
    """The groups of a task by the metrics that its leaderboard shows at first."""

    infos: tuple[MetricInfo, ...]
    groups: tuple[SeedGroup, ...]


def seed_table(view: TaskView) -> SeedTable | None:
    """Overall records of `groups` in results.json, against all references; None without any."""
    found: dict[tuple[int, str], dict[str, Mapping[str, Any]]] = {}
    for run in view.runs:
        for record in run.entries("groups", view.name):
            is_overall = record["emotion"] is None and record["references"] == "all"
            if is_overall and metric_info(record["metric"]).group in _SHOWN:
                found.setdefault((run.index, record["group"]), {})[record["metric"]] = record
    if not found:
        return None
    names = {name for records in found.values() for name in records}
    infos = tuple(metric_info(name) for name in sorted(names, key=display_rank))
    return SeedTable(infos, tuple(_group(view, *place, infos, records) for place, records in found.items()))


def _group(
    view: TaskView, run: int, name: str, infos: tuple[MetricInfo, ...], records: Mapping[str, Mapping[str, Any]]
) -> SeedGroup:
    models = next(iter(records.values()))["models"]
    rows = [view.row(run, model) for model in models]
    texts = tuple(_text(info, records.get(info.name)) for info in infos)
    return SeedGroup(name, tuple(row.label for row in rows if row is not None), texts)


def _text(info: MetricInfo, record: Mapping[str, Any] | None) -> str:
    return "" if record is None else f"{shown(info, record['mean'])} ± {shown(info, record['sd'])}"

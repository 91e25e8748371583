"""The leaderboard: one table per set of references, sorted, with intervals, marks and reasons.

Beside it stand what belongs to no single row: models trained with several seeds, and numbers reported elsewhere.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.reports.comparisons import lead
from harness.reports.numbers import GROUPS, Group, MetricInfo, Shown, number_or_none, shown
from harness.reports.view import HELD_OUT, CellKey, LeaderboardRow, TaskView

_COVERAGE = ("answered", "refused", "unparsed", "failed", "truncated")
_RESOURCES = ("parameters", "peak_memory_gb")
_COSTS = ("cost", "cost-more")
_SHOWN = frozenset(group.key for group in GROUPS if group.shown)
_TEXT_GROUPS = ("text", "text-more", "affect", "vad", "variety")

BODIES: tuple[tuple[str, str], ...] = (
    ("model", "Models"),
    ("reference", "Reference points"),
    ("control", "Controls: the image was replaced"),
)
REFERENCE_TABLES: dict[str, tuple[str, str]] = {
    "leave_one_out": (
        "Against one held-out person",
        "Every row is scored on the same remaining annotations, without the held-out one. This is the only table in "
        "which the human row and the models may be compared.",
    ),
    "leave_half_out": (
        "Against half of the annotators",
        "Every row is scored on the same half of the annotations; the commonest label of the other half is the crowd "
        "row's answer. This is the only table in which the crowd row and the models may be compared.",
    ),
    "same_emotion": (
        "Against references of the answered emotion only",
        "An explanation is compared only with annotators who felt the emotion that the row answered.",
    ),
}


@dataclass(frozen=True, slots=True)
class Column:
    """A metric's column; `n`, its most common count of images, stands in the heading, other counts in the cells."""

    info: MetricInfo
    n: int | None


@dataclass(frozen=True, slots=True)
class BoardRow:
    """One printed row."""

    row: LeaderboardRow
    cells: tuple[Shown, ...]


@dataclass(frozen=True, slots=True)
class Body:
    """Rows that belong together."""

    kind: str
    title: str
    rows: tuple[BoardRow, ...]


@dataclass(frozen=True, slots=True)
class Board:
    """A whole table.

    Attributes:
        key: which references were used.
        groups: (group, number of its columns), in column order.
        sorted_by: index of the column that orders the rows, None if no column has a direction.
    """

    key: str
    title: str
    note: str
    groups: tuple[tuple[Group, int], ...]
    columns: tuple[Column, ...]
    bodies: tuple[Body, ...]
    sorted_by: int | None

    @property
    def has_texts(self) -> bool:
        """Whether explanations are scored here."""
        return any(column.info.group in _TEXT_GROUPS for column in self.columns)

    @property
    def scale_note(self) -> str:
        """The scale of the numbers, as far as they are here."""
        has_cider = any(column.info.name == "cider_d" for column in self.columns)
        return f"Fractions in percent{', CIDEr-D from 0 to 10' if has_cider else ''}"


def boards(view: TaskView) -> list[Board]:
    """The main leaderboard and one table for each other set of references that was scored."""
    tables = [_board(view, "all", "Leaderboard", "")]
    for references, (title, note) in REFERENCE_TABLES.items():
        if view.metrics(references=references, emotion=None, slice=None):
            tables.append(_board(view, references, title, note))
    return tables


def _board(view: TaskView, references: str, title: str, note: str) -> Board:
    infos = _columns(view, references)
    # by metric the row that beats the runner-up beyond chance
    leads = [(info.name, lead(view, info)) for info in infos if references == "all"]
    best = {name: found.first.id for name, found in leads if found is not None and found.is_significant}
    printed = [
        BoardRow(row, tuple(_cell(view, row, info, references, best.get(info.name) == row.id) for info in infos))
        for row in view.rows
    ]
    if references != "all":
        printed = [line for line in printed if any(cell.value is not None for cell in line.cells)]
    columns = []
    for i, info in enumerate(infos):
        cells = (line.cells[i] for line in printed)
        counts = Counter(cell.n for cell in cells if cell.value is not None and cell.n is not None)
        columns.append(Column(info, max(counts, key=lambda n: (counts[n], n), default=None)))
    sorted_by = next((i for i, info in enumerate(infos) if info.higher_is_better is not None), None)
    ordered = printed
    if sorted_by is not None:
        # best first; rows that are not ranked and then rows without the value follow
        sign = -1.0 if infos[sorted_by].higher_is_better else 1.0
        values = [(line.cells[sorted_by].value, line) for line in printed]
        values.sort(key=lambda one: (one[0] is None, not one[1].row.is_ranked, sign * (one[0] or 0.0)))
        ordered = [line for _, line in values]
    bodies = [Body(kind, name, tuple(line for line in ordered if line.row.kind == kind)) for kind, name in BODIES]
    spans = ((group, sum(info.group == group.key for info in infos)) for group in GROUPS)
    groups = tuple((group, number) for group, number in spans if number)
    shown_bodies = tuple(body for body in bodies if body.rows)
    return Board(references, title, note, groups, tuple(columns), shown_bodies, sorted_by)


def _columns(view: TaskView, references: str) -> list[MetricInfo]:
    names = view.metrics(references=references, emotion=None, slice=None)
    if references == "all":
        names |= {n for held_out in HELD_OUT for n in view.metrics(references=held_out, emotion=None, slice=None)}
        names |= set(_COVERAGE) if any(row.coverage for row in view.rows) else set()
        if not any(row.coverage and row.coverage.truncated for row in view.rows):
            names.discard("truncated")
        names |= {n for n in _RESOURCES if any(number_or_none(r.resources, n) is not None for r in view.rows)}
    return view.infos(names)


def _cell(view: TaskView, row: LeaderboardRow, info: MetricInfo, references: str, is_best: bool) -> Shown:
    if info.name in _COVERAGE:
        counts = row.coverage
        if counts is None:
            return Shown("–", reason="coverage is not recorded")
        if info.name == "answered":
            return Shown(shown(info, counts.share), f"{counts.answered}/{counts.examples}", counts.share)
        if info.name == "truncated":
            return Shown(shown(info, counts.cut_off), f"{counts.truncated}/{counts.answered}", counts.cut_off)
        return Shown.of(info, {"value": getattr(counts, info.name)})
    key = CellKey(row.id, info.name, references=references)
    found = Shown.of(info, view.cells.get(key))
    if key not in view.cells and info.name in _RESOURCES:
        found = Shown.of(info, {"value": number_or_none(row.resources, info.name)}, absent="not known")
    if references == "all" and row.is_person and found.value is None:
        remaining = (Shown.of(info, view.cells.get(key._replace(references=held_out))) for held_out in HELD_OUT)
        own = next((one for one in remaining if one.value is not None), None)
        if own is not None:
            found = dataclasses.replace(own, is_held_out=info.group not in _COSTS)
    # the counts of columns on cost differ by what was asked for, which is no matter of scoring
    return dataclasses.replace(found, is_best=is_best, n=None if info.group in _COSTS else found.n)


@dataclass(frozen=True, slots=True)
class SeedGroup:
    """One model; `members` are the labels of its rows, `texts` follow the columns, empty if a row has no value."""

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
            if is_overall and view.info(record["metric"]).group in _SHOWN:
                found.setdefault((run.index, record["group"]), {})[record["metric"]] = record
    if not found:
        return None
    infos = tuple(view.infos({name for records in found.values() for name in records}))
    groups = []
    for (run_index, name), records in found.items():
        rows = [view.row(run_index, model) for model in next(iter(records.values()))["models"]]
        texts = [
            f"{shown(info, records[info.name]['mean'])} ± {shown(info, records[info.name]['sd'])}"
            if info.name in records
            else ""
            for info in infos
        ]
        groups.append(SeedGroup(name, tuple(row.label for row in rows if row is not None), tuple(texts)))
    return SeedTable(infos, tuple(groups))


RELIABILITY = {
    "P": "primary: the authors' own code, data or notebook",
    "R": "reported by a different group",
    "W": "secondary web page",
    "D": "derived by arithmetic from primary facts",
}


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """One row of a paper or README; `cells` follow the columns of the leaderboard."""

    model: str
    cells: tuple[Shown, ...]
    source: str
    reliability: str
    remarks: tuple[str, ...]


def published_rows(view: TaskView, board: Board) -> list[PublishedRow]:
    """The task's published rows, aligned with `board`."""
    rows = []
    for entry in view.entry.get("published") or ():
        metrics = entry.get("metrics") or {}
        cells = tuple(
            Shown.of(column.info, {"value": metrics.get(column.info.name)}, absent="not reported")
            for column in board.columns
        )
        letter = str(entry.get("reliability") or "")
        remarks = [str(entry[key]) for key in ("test_set", "note") if entry.get(key)]
        others = sorted(set(metrics) - {column.info.name for column in board.columns})
        remarks += [f"{view.info(n).label} {shown(view.info(n), number_or_none(metrics, n))}" for n in others]
        source = str(entry.get("source") or "source not stated")
        rows.append(
            PublishedRow(str(entry.get("model", "")), cells, source, RELIABILITY.get(letter, letter), tuple(remarks))
        )
    return rows

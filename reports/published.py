"""Numbers reported elsewhere: each with its source and reliability, never mixed with what was measured here."""

from __future__ import annotations

from dataclasses import dataclass

from harness.reports.leaderboard import Board, Cell
from harness.reports.metric_table import metric_info
from harness.reports.numerals import number_or_none, shown
from harness.reports.task_view import TaskView

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
    cells: tuple[Cell, ...]
    source: str
    reliability: str
    remarks: tuple[str, ...]


def published_rows(view: TaskView, board: Board) -> list[PublishedRow]:
    """The task's published rows, aligned with `board`."""
    rows = []
    for entry in view.entry.get("published") or ():
        metrics = entry.get("metrics") or {}
        cells = tuple(_cell(column.info.name, metrics) for column in board.columns)
        letter = str(entry.get("reliability") or "")
        remarks = [str(entry[key]) for key in ("test_set", "note") if entry.get(key)]
        others = sorted(set(metrics) - {column.info.name for column in board.columns})
        remarks += [f"{metric_info(n).label} {shown(metric_info(n), number_or_none(metrics, n))}" for n in others]
        source = str(entry.get("source") or "source not stated")
        rows.append(
            PublishedRow(str(entry.get("model", "")), cells, source, RELIABILITY.get(letter, letter), tuple(remarks))
        )
    return rows


def _cell(name: str, metrics: dict[str, object]) -> Cell:
    value = number_or_none(metrics, name)
    if value is None:
        return Cell("–", reason="not reported")
    return Cell(shown(metric_info(name), value), sort=value)

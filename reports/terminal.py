"""The leaderboard as plain aligned text, for the end of a run."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from harness.reports.metric_table import HEADLINES, MetricInfo, metric_info
from harness.reports.numerals import number_or_none, shown, shown_interval
from harness.reports.task_view import ANSWERED_ENOUGH, HELD_OUT

_COLUMNS = (*HEADLINES, "latency_p50_s")


def leaderboard_table(results: Mapping[str, Any], task: str) -> str:
    """A table of the headline metrics of one task, best first, with intervals in brackets.

    Args:
        results: the content of results.json.
        task: a task's name; a task without cells gives a line that says so.
    """
    cells = _overall(results, task)
    rows = list(dict.fromkeys(row for row, _ in cells))
    infos = [metric_info(name) for name in _COLUMNS if any(metric == name for _, metric in cells)]
    if not rows or not infos:
        return f"{task}: no scores\n"
    coverage = {(c["model"], c.get("control")): c for c in results.get("coverage", ()) if c["task"] == task}
    rows.sort(key=lambda row: _rank(row, infos[0], cells, coverage))
    table = [["", *(f"{info.label} {info.arrow}".strip() for info in infos), "answered"]]
    for row in rows:
        share, text = _answered(coverage.get(row))
        mark = " †" if share is not None and share < ANSWERED_ENOUGH else ""
        mark += " ‡" if _is_held_out(row, infos, cells) else ""
        table.append([_name(row) + mark, *(_text(cells.get((row, info.name)), info) for info in infos), text])
    scale = "; CIDEr-D from 0 to 10" if any(info.name == "cider_d" for info in infos) else ""
    notes = [f"{task}: percent and 95 % intervals{scale}."]
    notes += _counts(rows, infos, cells)
    if any("†" in line[0] for line in table):
        notes.append(f"† answered below {100 * ANSWERED_ENOUGH:.0f} % of the pictures: not ranked.")
    if any("‡" in line[0] for line in table):
        notes.append("‡ against the remaining annotators: compare it with the scores on these in the report only.")
    notes += _groups(results, task, infos)
    return _aligned(table) + "\n".join(notes) + "\n"


def _counts(
    rows: Sequence[_Row], infos: Sequence[MetricInfo], cells: Mapping[tuple[_Row, str], Mapping[str, Any]]
) -> list[str]:
    """A line with every metric's count of pictures, from the row with the fewest to the row with the most."""
    found = []
    for info in (info for info in infos if info.group != "cost"):
        known = [cells.get((row, info.name), {}) for row in rows]
        counts = sorted({int(cell["n"]) for cell in known if cell.get("n") and cell.get("value") is not None})
        if counts:
            found.append(f"{info.label} {counts[0]}{f'–{counts[-1]}' if len(counts) > 1 else ''}")
    return [f"n: {', '.join(found)}."] if found else []


def _groups(results: Mapping[str, Any], task: str, infos: Sequence[MetricInfo]) -> list[str]:
    """A line for each model that was trained with several seeds: mean and standard deviation over the trainings."""
    found: dict[str, list[str]] = {}
    shown_in = {info.name: info for info in infos}
    for record in results.get("groups", ()):
        if record["task"] == task and record["emotion"] is None and record["references"] == "all":
            info = shown_in.get(record["metric"])
            if info is not None:
                text = f"{info.label} {shown(info, record['mean'])} ± {shown(info, record['sd'])}"
                found.setdefault(f"{record['group']} ({len(record['models'])} trainings)", []).append(text)
    return [f"{group}: {', '.join(texts)}" for group, texts in found.items()]


_Row = tuple[str, str | None]


def _overall(results: Mapping[str, Any], task: str) -> dict[tuple[_Row, str], Mapping[str, Any]]:
    """Overall cells by row and metric: on all references, or on the remaining ones where a row has only these."""
    found: dict[tuple[_Row, str], Mapping[str, Any]] = {}
    for wanted in ("all", *HELD_OUT):
        for cell in results.get("cells", ()):
            is_overall = cell["task"] == task and cell.get("emotion") is None and cell.get("slice") is None
            if is_overall and (cell.get("references") or "all") == wanted:
                found.setdefault(((cell["model"], cell.get("control")), cell["metric"]), cell)
    return found


def _rank(
    row: _Row, info: MetricInfo, cells: Mapping[tuple[_Row, str], Mapping[str, Any]], coverage: Mapping[_Row, Any]
) -> tuple[bool, bool, float]:
    share, _ = _answered(coverage.get(row))
    value = number_or_none(cells.get((row, info.name), {}), "value")
    sign = 1.0 if info.higher_is_better is False else -1.0
    return value is None, share is not None and share < ANSWERED_ENOUGH, sign * (value or 0.0)


def _is_held_out(row: _Row, infos: Sequence[MetricInfo], cells: Mapping[tuple[_Row, str], Mapping[str, Any]]) -> bool:
    return any(cells.get((row, info.name), {}).get("references") in HELD_OUT for info in infos)


def _answered(coverage: Mapping[str, Any] | None) -> tuple[float | None, str]:
    if not coverage or not coverage.get("examples"):
        return None, "–"
    return coverage["answered"] / coverage["examples"], f"{coverage['answered']}/{coverage['examples']}"


def _name(row: _Row) -> str:
    model, control = row
    return model if control is None else f"{model} ({control})"


def _text(cell: Mapping[str, Any] | None, info: MetricInfo) -> str:
    if cell is None or cell.get("unavailable"):
        return "–"
    interval = shown_interval(info, number_or_none(cell, "low"), number_or_none(cell, "high"))
    text = shown(info, number_or_none(cell, "value"))
    return f"{text} [{interval}]" if interval else text


def _aligned(table: Sequence[Sequence[str]]) -> str:
    widths = [max(_width(line[i]) for line in table) for i in range(len(table[0]))]
    lines = []
    for number, line in enumerate(table):
        padded = [" " * (width - _width(text)) for text, width in zip(line, widths, strict=True)]
        columns = [line[0] + padded[0], *(pad + text for pad, text in zip(padded[1:], line[1:], strict=True))]
        lines.append("  ".join(columns).rstrip())
        if number == 0:
            lines.append("  ".join("-" * width for width in widths))
    return "\n".join(lines) + "\n"


def _width(text: str) -> int:
    """Columns that `text` takes in a terminal."""
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )

"""The leaderboard as plain aligned text, for the end of a run."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from harness.reports.headline import answer, answer_text
from harness.reports.numbers import MetricInfo, Shown, headline_metrics, metric_facts, shown
from harness.reports.view import ANSWERED_ENOUGH, CUT_OFF_TOO_OFTEN, HELD_OUT

_Row: TypeAlias = tuple[str, str | None]
_Cells: TypeAlias = Mapping[tuple[_Row, str], Mapping[str, Any]]


def leaderboard_table(results: Mapping[str, Any], task: str) -> str:
    """A table of the headline metrics of one task, best first, with intervals in brackets.

    Args:
        results: the content of results.json.
        task: a task's name; a task without cells gives a line that says so.
    """
    # overall cells by row and metric: on all references, or on the remaining ones if a row has only these
    cells: dict[tuple[_Row, str], Mapping[str, Any]] = {}
    for wanted in ("all", *HELD_OUT):
        for cell in results.get("cells", ()):
            is_overall = cell["task"] == task and cell.get("emotion") is None and cell.get("slice") is None
            if is_overall and (cell.get("references") or "all") == wanted:
                cells.setdefault(((cell["model"], cell.get("control")), cell["metric"]), cell)
    facts = metric_facts(results)
    columns = (*headline_metrics(results), "latency_p50_s")
    names = [name for name in columns if any(metric == name for _, metric in cells)]
    infos = [facts.get(name) or MetricInfo(name, name) for name in names]
    if not infos:
        return f"{task}: no scores\n"
    coverage = {(c["model"], c.get("control")): c for c in results.get("coverage", ()) if c["task"] == task}
    sign = 1.0 if infos[0].higher_is_better is False else -1.0
    lines = []
    for row in dict.fromkeys(row for row, _ in cells):
        share, answered = None, "–"
        if (counts := coverage.get(row)) and counts.get("examples"):
            share, answered = counts["answered"] / counts["examples"], f"{counts['answered']}/{counts['examples']}"
        is_ranked = share is None or share >= ANSWERED_ENOUGH
        mark = "" if is_ranked else " †"
        mark += " ‡" if any(cells.get((row, name), {}).get("references") in HELD_OUT for name in names) else ""
        name = row[0] if row[1] is None else f"{row[0]} ({row[1]})"
        found = [Shown.of(info, cells.get((row, info.name))) for info in infos]
        texts = [f"{cell.text} [{cell.interval}]" if cell.interval else cell.text for cell in found]
        value = found[0].value
        rank = (value is None, not is_ranked, sign * (value or 0.0))
        lines.append((rank, [name + mark, *texts, answered]))
    lines.sort(key=lambda line: line[0])
    table = [["", *(f"{info.label} {info.arrow}".strip() for info in infos), "answered"], *(line for _, line in lines)]
    said = answer(results, task)
    notes = _notes(results, task, table, infos, cells) + ([] if said is None else ["", *answer_text(said)])
    return _aligned(table) + "\n".join(notes) + "\n"


def _notes(
    results: Mapping[str, Any],
    task: str,
    table: Sequence[Sequence[str]],
    infos: Sequence[MetricInfo],
    cells: _Cells,
) -> list[str]:
    scale = "; CIDEr-D from 0 to 10" if any(info.name == "cider_d" for info in infos) else ""
    notes = [f"{task}: percent and 95 % intervals{scale}."]
    counts = []
    for info in (info for info in infos if info.group != "cost"):
        values = (Shown.of(info, cell) for (_, metric), cell in cells.items() if metric == info.name)
        known = sorted({cell.n for cell in values if cell.value is not None and cell.n})
        if known:
            counts.append(f"{info.label} {known[0]}{f'–{known[-1]}' if len(known) > 1 else ''}")
    notes += [f"n: {', '.join(counts)}."] if counts else []
    for record in results.get("coverage", ()):
        cut, answered = record.get("truncated") or 0, record.get("answered") or 0
        if record["task"] == task and cut > CUT_OFF_TOO_OFTEN * answered:
            name = record["model"] + (f" ({record['control']})" if record.get("control") else "")
            notes.append(f"{name}: {cut} of {answered} answers cut off by the token limit; raise max_tokens.")
    if any("†" in line[0] for line in table):
        notes.append(f"† answered below {100 * ANSWERED_ENOUGH:.0f} % of the images: not ranked.")
    if any("‡" in line[0] for line in table):
        notes.append("‡ against the remaining annotators: compare it with the scores on these in the report only.")
    trainings: dict[str, list[str]] = {}
    for record in results.get("groups", ()):
        found = [info for info in infos if info.name == record["metric"]]
        if record["task"] == task and record["emotion"] is None and record["references"] == "all" and found:
            text = f"{found[0].label} {shown(found[0], record['mean'])} ± {shown(found[0], record['sd'])}"
            trainings.setdefault(f"{record['group']} ({len(record['models'])} trainings)", []).append(text)
    return notes + [f"{group}: {', '.join(texts)}" for group, texts in trainings.items()]


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

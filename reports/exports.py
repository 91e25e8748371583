"""Files for papers and spreadsheets: the leaderboard and what was judged as LaTeX and Markdown, all numbers as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.reports.judged import judged_tables, people_tables
from harness.reports.leaderboard import Board
from harness.reports.numbers import DASH, MINUS, grouped
from harness.reports.samples import whole_text
from harness.reports.view import Run, TaskView

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "≥": r"$\geq$", MINUS: "$-$", DASH: "--", "\u202f": r"\,", "†": r"\dag{}",
    "‡": r"\ddag{}",
}  # fmt: skip
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|~-])")
_UNPRINTED = re.compile(r"[\x00-\x1f\x7f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


@dataclass(frozen=True, slots=True)
class _Syntax:
    """How one markup language writes a text, a bold text, and a number with its interval."""

    text: Callable[[str], str]
    bold: Callable[[str], str]
    interval: Callable[[str], str]


def latex_text(text: str) -> str:
    """`text` with everything that LaTeX would act on written so that it is printed."""
    return "".join(_LATEX.get(letter, letter) for letter in _printed(text))


def markdown_text(text: str) -> str:
    """`text` with everything that Markdown or HTML would act on written so that it is printed."""
    escaped = _MARKDOWN.sub(r"\\\1", _printed(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _printed(text: str) -> str:
    return _UNPRINTED.sub(" ", whole_text(text))


_IN_LATEX = _Syntax(latex_text, lambda t: rf"\textbf{{{t}}}", lambda t: rf" {{\scriptsize [{t}]}}")
_IN_MARKDOWN = _Syntax(markdown_text, lambda t: f"**{t}**", lambda t: f" \\[{t}\\]")


def latex_table(view: TaskView, board: Board) -> str:
    """A `table` environment for booktabs: the columns that the page shows at first, intervals in brackets."""
    return _latex(
        f"{latex_text(view.name)}, split {latex_text(view.split)}. {latex_text(_NOTE)}", _lines(board, _IN_LATEX)
    )


def markdown_table(view: TaskView, board: Board) -> str:
    """A table as GitHub renders it, with its note beneath."""
    note = f"{markdown_text(view.name)}, split {markdown_text(view.split)}. {markdown_text(_NOTE)}"
    return _markdown(note, _lines(board, _IN_MARKDOWN))


def judged_tables_text(view: TaskView, form: str) -> str:
    """What judges and people said of a task in `md` or `tex`, a table each; empty if nobody judged it."""
    text, write = (markdown_text, _markdown) if form == "md" else (latex_text, _latex)
    tables = []
    for judged in judged_tables(view):
        shown = [name for name in judged.criteria if name not in judged.warned]
        lines = [["", *map(text, shown)]]
        lines += [[text(row), *(text(scores.get(name, DASH)) for name in shown)] for row, scores, _ in judged.rows]
        worth = "; ".join(
            f"{name}: " + ", ".join(f"{measure} {value}" for measure, value in measures.items())
            for name, measures in judged.worth
        )
        warned = "".join(f" {name} has no scores: the judge {why}." for name, why in judged.warned.items())
        note = f"{view.name}, judge {judged.judge}, rubric {judged.rubric}, scores from 1 to 5. {worth}.{warned}"
        tables.append(write(text(note), lines))
    for people in people_tables(view):
        if people.strengths:
            lines = [["", "strength", "interval", "preferred"]]
            lines += [
                [text(row), text(strength), text(interval), text(people.win_rates[row].get("", DASH))]
                for row, strength, interval, _, _ in people.strengths
            ]
            alpha = ", ".join(f"{name} {value}" for name, value, _, _ in people.agreement)
            tables.append(
                write(text(f"{view.name}, people, Bradley–Terry strengths; alpha of raters: {alpha}."), lines)
            )
        if people.scores:
            lines = [["", "criterion", "score"], *([text(part) for part in line] for line in people.scores)]
            tables.append(write(text(f"{view.name}, people, scores from 1 to 5."), lines))
    return "\n".join(tables)


def _latex(caption: str, lines: Sequence[Sequence[str]]) -> str:
    head, *rows = (" & ".join(line) + r" \\" for line in lines)
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(lines[0]) - 1)}}}",
            r"\toprule",
            head,
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _markdown(note: str, lines: Sequence[Sequence[str]]) -> str:
    head, *rows = lines
    rule = ["---", *["---:"] * (len(head) - 1)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *rows))
    return f"{table}\n\n{note}\n"


_NOTE = (
    "Fractions in percent, CIDEr-D from 0 to 10; 95 % intervals in brackets; n images. Bold: better than the "
    "runner-up, Holm-adjusted p below .05. † Answered too rarely to be ranked. ‡ Against the remaining annotators."
)


def _lines(board: Board, syntax: _Syntax) -> list[list[str]]:
    """The heading, then every row, of the columns whose groups are shown at first."""
    shown = {group.key for group, _ in board.groups if group.shown}
    columns = [(i, column) for i, column in enumerate(board.columns) if column.info.group in shown]
    head = [""]
    for _, column in columns:
        n = "" if column.n is None else f", n {grouped(column.n)}"
        head.append(syntax.text(f"{column.info.label} {column.info.arrow}".strip() + n))
    lines = [head]
    for row in (row for body in board.bodies for row in body.rows):
        mark = " †" if row.row.coverage and not row.row.is_ranked else ""
        line = [syntax.text(row.row.label + mark)]
        for i, column in columns:
            # the value, and in brackets its interval, and its count of images if it is not that of the heading
            cell = row.cells[i]
            text = syntax.text(cell.text + ("‡" if cell.is_held_out else ""))
            n = f"n {grouped(cell.n)}" if cell.n is not None and cell.n != column.n else ""
            beside = "; ".join(filter(None, (cell.interval, n)))
            bracket = syntax.interval(syntax.text(beside)) if beside else ""
            line.append((syntax.bold(text) if cell.is_best else text) + bracket)
        lines.append(line)
    return lines


COLUMNS = (
    "run", "task", "split", "model", "control", "metric", "value", "low", "high", "n", "emotion", "conditioned_on",
    "slice_key", "slice_value", "references", "protocol", "signature", "unavailable",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


_JUDGED = (
    "run", "task", "by", "rubric", "criterion", "measure", "model", "other", "emotion", "value", "low", "high", "n",
)  # fmt: skip
_WORTH = (
    ("discrimination", "prefers_true"),
    ("repeatability", "differ"),
    ("repeatability", "alpha"),
    ("length", "rho"),
    ("people", "agreement"),
)


def judged_csv(runs: Sequence[Run]) -> str:
    """All numbers by judges and people, a line each, as `cells_csv`; empty if nobody judged."""
    lines = [{"run": run.name, **line} for run in runs for line in (*_by_judges(run), *_by_people(run))]
    if not lines:
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, _JUDGED, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows({key: _safe(value) for key, value in line.items()} for line in lines)
    return text.getvalue()


def _by_judges(run: Run) -> Iterator[Mapping[str, Any]]:
    for judged in run.results.get("judges", ()):
        who = {"by": judged["judge"], "rubric": judged["rubric"]}
        yield from (who | {"measure": "score"} | cell for cell in judged["cells"])
        for name, criterion in judged["criteria"].items():
            for kind, measure in _WORTH:
                if found := criterion[kind]:
                    yield who | {"criterion": name, **found, "measure": measure, "value": found[measure]}
        for c in judged["comparisons"]:
            yield who | c | {"measure": "difference", "model": c["a"], "other": c["b"], "value": c["difference"]}
        yield from (who | p | {"measure": "win_rate", "value": p["win_rate"]} for p in judged["preferences"])
        if order := judged.get("order"):
            yield who | order | {"measure": "same_in_both_orders", "value": order["consistent"]}


def _by_people(run: Run) -> Iterator[Mapping[str, Any]]:
    people, who = run.results.get("people"), {"by": "people"}
    if people is None:
        return
    for s in people["strengths"]:
        yield who | s | {"measure": "strength", "model": s["row"], "value": s["strength"]}
    yield from (who | w | {"measure": "win_rate", "value": w["win_rate"]} for w in people["win_rates"])
    yield from (who | {"measure": "score"} | s for s in people["scores"])
    for p in people.get("pairs", ()):
        yield who | p | {"measure": "preferred", "model": p["a"], "other": p["b"], "value": p["win_rate"]}
    for m in people["metrics"]:
        yield who | m | {"measure": "agreement with metric", "criterion": m["metric"], "value": m["agreement"]}
    for name, found in people["agreement"].items():
        yield who | {"measure": "alpha", "criterion": name, "value": found["alpha"], "n": found["shared_items"]}


def cells_csv(runs: Sequence[Run]) -> str:
    """CSV text with a heading line; texts that a spreadsheet would run as a formula get a leading apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for run in runs:
        for cell in run.results.get("cells", ()):
            cut = cell.get("slice") or {}
            line = {**cell, "run": run.name, "slice_key": cut.get("key"), "slice_value": cut.get("value")}
            writer.writerow([_safe(line.get(name)) for name in COLUMNS])
    return text.getvalue()


def _safe(value: object) -> object:
    if not isinstance(value, str):
        return value
    return f"'{whole_text(value)}" if value.startswith(_FORMULA) else whole_text(value)

"""Files for papers, spreadsheets and data frames: the leaderboard as LaTeX and Markdown, all cells as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.reports.leaderboard import Board, Column
from harness.reports.numbers import DASH, MINUS, Shown, grouped
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
    head, *lines = _lines(board, _IN_LATEX)
    rows = [" & ".join(line) + r" \\" for line in lines]
    caption = f"{latex_text(view.name)}, split {latex_text(view.split)}. {latex_text(_NOTE)}"
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
            r"\toprule",
            " & ".join(head) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def markdown_table(view: TaskView, board: Board) -> str:
    """A table as GitHub renders it, with its note beneath."""
    head, *lines = _lines(board, _IN_MARKDOWN)
    rule = ["---", *["---:"] * (len(head) - 1)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *lines))
    return f"{table}\n\n{markdown_text(view.name)}, split {markdown_text(view.split)}. {markdown_text(_NOTE)}\n"


_NOTE = (
    "Fractions in percent, CIDEr-D from 0 to 10; 95 % intervals in brackets; n images. Bold: better than the "
    "runner-up, Holm-adjusted p below .05. † Answered too rarely to be ranked. ‡ Against the remaining annotators."
)


def _lines(board: Board, syntax: _Syntax) -> list[list[str]]:
    """The heading, then every row, of the columns whose groups are shown at first."""
    shown = {group.key for group, _ in board.groups if group.shown}
    columns = [i for i, column in enumerate(board.columns) if column.info.group in shown]
    head = ["", *(syntax.text(_heading(board.columns[i])) for i in columns)]
    lines = [head]
    for body in board.bodies:
        for line in body.rows:
            mark = " †" if line.row.coverage and not line.row.is_ranked else ""
            cells = [_cell(line.cells[i], board.columns[i], syntax) for i in columns]
            lines.append([syntax.text(line.row.label + mark), *cells])
    return lines


def _heading(column: Column) -> str:
    n = "" if column.n is None else f", n {grouped(column.n)}"
    return f"{column.info.label} {column.info.arrow}".strip() + n


def _cell(cell: Shown, column: Column, syntax: _Syntax) -> str:
    """The value, and in brackets its interval, and its count of images if it is not that of the heading."""
    text = syntax.text(cell.text + ("‡" if cell.is_held_out else ""))
    n = f"n {grouped(cell.n)}" if cell.n is not None and cell.n != column.n else ""
    beside = "; ".join(filter(None, (cell.interval, n)))
    return (syntax.bold(text) if cell.is_best else text) + (syntax.interval(syntax.text(beside)) if beside else "")


COLUMNS = (
    "run", "task", "split", "model", "control", "metric", "value", "low", "high", "n", "emotion", "conditioned_on",
    "slice_key", "slice_value", "references", "protocol", "signature", "unavailable",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


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

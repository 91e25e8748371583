"""`harness compare`: paired differences between two models of a run, in the terminal."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from harness.cli import EXIT_COMPLETE
from harness.errors import nearest
from harness.store.run_folder import RunFolder
from harness.types import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `compare`."""
    parser.add_argument("run", type=Path, metavar="RUN", help="a scored run folder")
    parser.add_argument("--models", required=True, metavar="A,B", help="two rows of that run")


def execute(arguments: argparse.Namespace) -> int:
    """Print the comparison table; the exit code."""
    results = RunFolder.open(arguments.run).results()
    pair = [name.strip() for name in arguments.models.split(",")]
    known = [m["model"] for m in results["models"]]
    for name in pair:
        if name not in known:
            raise UserError(f"--models: no row {name!r} in {arguments.run}; {nearest(name, known)}")
    if len(set(pair)) != 2:
        raise UserError("--models: expected two different rows, as in --models sevlm,llava")
    print(comparison_table(results["comparisons"], pair[0], pair[1]))
    judged = [  # without criteria on which the judge does not tell true explanations from shuffled ones
        {**c, "metric": f"{found['judge']}: {c['criterion']}", "emotion": None}
        for found in results.get("judges", ())
        for c in found["comparisons"]
        if found["criteria"][c["criterion"]]["discrimination"]["tells"] is not False
    ]
    no_test = {"metric": "preferred - 1/2", "emotion": None, "p": None, "p_holm": None}
    rated = [  # how much more often than half people preferred one row to the other
        {**p, **no_test, "difference": p["win_rate"] - 0.5, "low": p["low"] - 0.5, "high": p["high"] - 0.5}
        for p in results.get("people", {}).get("pairs", ())
    ]
    for title, lines in (("by judges", judged), ("by people", rated)):
        if any({line["a"], line["b"]} == set(pair) for line in lines):
            print(f"\n{title}")
            print(comparison_table(lines, pair[0], pair[1], note=_NOTES[title]))
    return EXIT_COMPLETE


def comparison_table(comparisons: list[dict[str, Any]], a: str, b: str, note: str | None = None) -> str:
    """Aligned lines `task metric emotion a-b [low, high] p p_holm n` and a note; the sign is a minus b."""

    def number(value: float | None, form: str = ".4f") -> str:
        return "–" if value is None else f"{value:{form}}"

    lines = []
    for c in comparisons:
        if {c["a"], c["b"]} != {a, b}:
            continue
        sign = 1 if c["a"] == a else -1
        difference = None if c["difference"] is None else sign * c["difference"]
        ends = sorted(sign * e for e in (c["low"], c["high"]) if e is not None)
        interval = f"[{ends[0]:+.4f}, {ends[1]:+.4f}]" if len(ends) == 2 else "–"
        numbers = (number(difference, "+.4f"), interval, number(c["p"]), number(c["p_holm"]), str(c["n"]))
        lines.append((c["task"], c["metric"], c["emotion"] or "", *numbers))
    if not lines:
        return f"no comparison of {a} and {b}: they share no scored examples"
    table = [("task", "metric", "emotion", f"{a} - {b}", "95 % interval", "p", "Holm", "n"), *lines]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    printed = [[f"{text:{'<' if i < _NAMES else '>'}{widths[i]}}" for i, text in enumerate(line)] for line in table]
    return "\n".join([*("  ".join(line) for line in printed), note or _NOTE])


_NAMES = 3
"""Columns of words, which stand on the left; numbers stand on the right."""

_NOTE = (
    "fractions from 0 to 1, CIDEr-D from 0 to 10; images that both share; Holm's correction over all pairs of rows "
    "and headline metrics, per emotion over pairs and emotions of one metric"
)


_NOTES = {
    "by judges": "scores from 1 to 5, without criteria on which the judge cannot tell true explanations from others",
    "by people": "images on which most raters preferred the first row, undecided ones half; Wilson's interval",
}

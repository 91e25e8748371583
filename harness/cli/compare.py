"""`harness compare`: paired differences between two models of a run, in the terminal."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from harness.cli import EXIT_COMPLETE
from harness.store import RunFolder
from harness.suggestions import nearest
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
    return EXIT_COMPLETE


def comparison_table(comparisons: list[dict[str, Any]], a: str, b: str) -> str:
    """Aligned lines `task metric [emotion] a-b [low, high] p p_holm n`; the sign is a minus b."""
    header = f"{'task':<12} {'metric':<18} {'emotion':<16} {f'{a} - {b}':>20} {'95 % interval':>20}"
    lines = [f"{header} {'p':>8} {'Holm':>8} {'n':>6}"]
    for c in comparisons:
        if {c["a"], c["b"]} == {a, b}:
            lines.append(_line(c, 1 if c["a"] == a else -1))
    return "\n".join(lines) if len(lines) > 1 else f"no comparison of {a} and {b}: they share no scored examples"


def _line(c: dict[str, Any], sign: int) -> str:
    def number(value: float | None, digits: int = 4) -> str:
        return "–" if value is None else f"{value:.{digits}f}"

    difference = None if c["difference"] is None else sign * c["difference"]
    ends = sorted(sign * e for e in (c["low"], c["high"]) if e is not None)
    interval = f"[{ends[0]:+.4f}, {ends[1]:+.4f}]" if len(ends) == 2 else "–"
    return (
        f"{c['task']:<12} {c['metric']:<18} {c['emotion'] or '':<16} {number(difference):>20} {interval:>20} "
        f"{number(c['p']):>8} {number(c['p_holm']):>8} {c['n']:>6}"
    )

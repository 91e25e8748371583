"""`harness judge`: a model reads the explanations of a run and scores them by a rubric."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from harness.api import judge
from harness.cli import EXIT_COMPLETE, dollars, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `judge`."""
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    parser.add_argument("--judge", required=True, metavar="MODEL", help="a model with settings, as in --models")
    parser.add_argument("--rubric", metavar="YAML", help="a rubric of your own (default: ours, named explanation)")
    parser.add_argument("--repeats", type=positive, default=1, metavar="K", help="judge each explanation K times")
    parser.add_argument("--pairs", action="store_true", help="also compare each two models, in both orders")
    parser.add_argument("--limit", type=positive, metavar="N", help="explanations of N examples of each task only")
    parser.add_argument("--max-cost", type=dollars, metavar="USD", help="stop before the judge could cost more")
    parser.add_argument("--concurrency", type=positive, default=8, metavar="N", help="requests at once (8)")
    parser.add_argument("--batch-size", type=positive, default=8, metavar="N", help="for a local judge (8)")
    parser.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1 … (default: the model's choice)")
    parser.add_argument("--dtype", metavar="D", help="fp32, bf16 or fp16 (default: the model's choice)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="for whatever is drawn (default: 0)")
    parser.add_argument("--adapter", metavar="NAME=FILE.py:Class", action="append", help="add a model of your own")
    parser.add_argument("--no-report", action="store_true", help="stop after results.json")


def execute(arguments: argparse.Namespace) -> int:
    """Judge, add the verdicts to the results, report; the exit code."""
    done = judge(
        arguments.run,
        arguments.judge,
        rubric=arguments.rubric,
        repeats=arguments.repeats,
        pairs=arguments.pairs,
        limit=arguments.limit,
        seed=arguments.seed,
        max_cost=arguments.max_cost,
        concurrency=arguments.concurrency,
        batch_size=arguments.batch_size,
        adapters=arguments.adapter or (),
        offered={"device": arguments.device, "dtype": arguments.dtype},
        report=not arguments.no_report,
    )
    for judged in done.results.get("judges", ()):
        print("\n".join(lines_of(judged)))
    if done.page is not None:
        print(f"\nreport: {done.page}")
    return EXIT_COMPLETE


def lines_of(judged: dict[str, Any]) -> list[str]:
    """What a judge said and what it is worth, in the terminal."""
    lines = [
        f"judge {judged['judge']}, rubric {judged['rubric']} ({judged['digest']}), {judged['questions']} questions"
    ]
    for name, criterion in judged["criteria"].items():
        worth = criterion["discrimination"]
        if worth["tells"] is False:
            lines.append(
                f"  {name}: no scores, because the judge does not tell true explanations from those of other images "
                f"({worth['prefers_true']:.0%} preferred, n {worth['n']})"
            )
            continue
        scores = []
        for cell in judged["cells"]:
            if cell["criterion"] == name:
                interval = "" if cell["low"] is None else f" [{cell['low']:.2f}–{cell['high']:.2f}]"
                score = "–" if cell["value"] is None else f"{cell['value']:.2f}{interval} (n {cell['n']})"
                scores.append(f"{cell['model']} {score}")
        lines.append(f"  {name}: {', '.join(scores)}")
    for reason, count in judged["unscored"].items():
        lines.append(f"  unscored: {count} ({reason})")
    if judged["same_family"]:
        lines.append(f"  of the judge's own family, which judges tend to favor: {', '.join(judged['same_family'])}")
    return lines

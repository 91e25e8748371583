"""`harness run`: plan, ask, score, report."""

from __future__ import annotations

import argparse
import sys
import webbrowser
from pathlib import Path
from typing import Any

from harness.cli import EXIT_COMPLETE, EXIT_TOO_MANY_FAILURES, add_data_root
from harness.cli.config_file import read_config
from harness.cli.report import add_look, copies_pictures
from harness.types import UserError

DEFAULTS: dict[str, Any] = {
    "split": "test",
    "batch_size": 8,
    "concurrency": 8,
    "executor": "local",
    "seed": 0,
    "max_error_rate": 0.05,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `run`."""
    what = parser.add_argument_group("what to run")
    what.add_argument("--tasks", metavar="T[,T…]", help="task names, or paths of task YAML files")
    what.add_argument("--models", metavar="M[,M…]", help="models with settings: llava:checkpoint=PATH,dtype=bf16")
    what.add_argument("--adapter", metavar="NAME=FILE.py:Class", action="append", help="add a model of your own")
    what.add_argument("--split", help="split to answer (default: test)")
    what.add_argument("--limit", type=_positive, metavar="N", help="only the first N examples")
    what.add_argument("--ids-file", type=Path, metavar="F", help="only the examples whose ids are in F, one a line")
    what.add_argument("--controls", metavar="C[,C]", help="also run on pictures made useless: blank, shuffled")
    where = parser.add_argument_group("where")
    where.add_argument("--out", type=Path, metavar="RUN", help="run folder (default: runs/<tasks>-<identity>)")
    add_data_root(where)
    where.add_argument("--config", type=Path, metavar="YAML", help="options of this command, by their long names")
    how = parser.add_argument_group("how")
    how.add_argument("--batch-size", type=_positive, metavar="N", help="pictures a local model gets at once (8)")
    how.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1 … (default: the model's choice)")
    how.add_argument("--dtype", metavar="D", help="fp32, bf16 or fp16 (default: the model's choice)")
    how.add_argument("--concurrency", type=_positive, metavar="N", help="requests to an endpoint at once (8)")
    how.add_argument(
        "--executor", metavar="E", help="where local models compute: local (default), or ray: on a Ray cluster's nodes"
    )
    how.add_argument("--seed", type=int, metavar="N", help="for whatever is drawn (default: 0)")
    how.add_argument("--lexicon", type=Path, metavar="FILE", help="valence-arousal-dominance lexicon")
    how.add_argument("--trust-remote-code", action="store_true", help="let a hub checkpoint run its own code")
    how.add_argument(
        "--max-error-rate", type=_share, metavar="R", help="exit code 1 above this share of failures (0.05)"
    )
    how.add_argument("--retry-failed", action="store_true", help="ask again about examples that failed")
    how.add_argument(
        "--max-cost", type=_dollars, metavar="USD", help="stop before a request could take the run's cost above this"
    )
    how.add_argument("--no-cache", action="store_true", help="ask even what the response cache knows, and keep nothing")
    how.add_argument(
        "--dry-run",
        action="store_true",
        help="say what would be done, with tokens and dollars; write nothing",
    )
    how.add_argument("--no-report", action="store_true", help="stop after results.json")
    add_look(how)
    how.add_argument("--open", action="store_true", help="open the report in a browser")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"must be from 0 to 1, got {text}")
    return share


def _dollars(text: str) -> float:
    amount = float(text)
    if not 0 < amount < float("inf"):
        raise argparse.ArgumentTypeError(f"must be more than 0, got {text}")
    return amount


def execute(arguments: argparse.Namespace) -> int:
    """Run the plan, score it, report it; the exit code."""
    options = merge_config(arguments)
    for name in ("tasks", "models"):
        if not options[name]:
            raise UserError(f"--{name} is needed; for instance: harness run --tasks demo --models majority,nearest")
    copies = copies_pictures(options["pictures"])
    from harness import session
    from harness.store.checksums import write_checksums

    plan, folder = session.prepare(options, ["harness", *sys.argv[1:]])
    if options["dry_run"]:
        print(session.describe(plan, folder))
        return EXIT_COMPLETE
    with session.locked(folder):  # to the end: another process would score what this one still writes
        failure_rates = session.ask(plan, folder, options)
        session.choose_for_scoring(folder, lexicon=str(options["lexicon"].absolute()) if options["lexicon"] else None)
        current = folder.results_are_current()
        results = folder.results() if current else session.score(folder, plan.options.data_root)
        page = None
        if not options["no_report"]:
            page = session.report([folder], folder.path / "report", blur=options["blur"], copies=copies)
        write_checksums(folder.path)
    if options["open"] and page is not None:
        webbrowser.open(page.absolute().as_uri())
    session.print_summary(results, folder)
    worst = max(failure_rates.values(), default=0.0)
    if worst > options["max_error_rate"]:
        session.print_failures(folder, failure_rates, options["max_error_rate"])
        return EXIT_TOO_MANY_FAILURES
    return EXIT_COMPLETE


def merge_config(arguments: argparse.Namespace) -> dict[str, Any]:
    """Command line over `--config` over defaults, by long option name with underscores.

    Raises:
        UserError: see `read_config`.
    """
    given = {k: v for k, v in vars(arguments).items() if k not in ("verb", "execute", "parser")}
    from_file = read_config(arguments.config, arguments.parser) if arguments.config else {}
    return {
        name: value if value is not None and value is not False else from_file.get(name, DEFAULTS.get(name, value))
        for name, value in given.items()
    }

"""`harness doctor`: what this installation can do, or whether a run folder is whole."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.check.installation import examine_installation
from harness.check.run import examine_run
from harness.cli import EXIT_COMPLETE, EXIT_TOO_MANY_FAILURES, add_data_root


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `doctor`."""
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN", help="a run folder to verify")
    add_data_root(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Print findings; exit code 1 when something is wrong."""
    findings = examine_run(arguments.run) if arguments.run else examine_installation(arguments.data_root)
    for finding in findings:
        print(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.text}")
    return EXIT_COMPLETE if all(f.ok for f in findings) else EXIT_TOO_MANY_FAILURES

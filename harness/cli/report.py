"""`harness report`: one HTML leaderboard from one or several runs."""

from __future__ import annotations

import argparse
import webbrowser
from pathlib import Path

from harness.cli import EXIT_COMPLETE
from harness.store import RunFolder
from harness.types import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `report`."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders, scored")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default for one run: RUN/report)")
    parser.add_argument("--open", action="store_true", help="open the report in a browser")


def execute(arguments: argparse.Namespace) -> int:
    """Write the report; the exit code."""
    from harness import session

    folders = [RunFolder.open(path) for path in arguments.runs]
    if len(folders) > 1 and arguments.out is None:
        raise UserError("report: several runs need --out DIR")
    page = session.report(folders, arguments.out or folders[0].path / "report")
    print(f"report: {page}")
    if arguments.open:
        webbrowser.open(page.absolute().as_uri())
    return EXIT_COMPLETE

"""`harness check-adapter`: does an adapter of your own keep the contract?"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from harness.check.adapter import check_adapter
from harness.cli import EXIT_COMPLETE, EXIT_TOO_MANY_FAILURES
from harness.types import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `check-adapter`."""
    parser.add_argument("target", metavar="FILE.py:Class", help="a class in a file, or the name of a registered model")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="settings, as after a model's colon")


def execute(arguments: argparse.Namespace) -> int:
    """Print a line per rule; exit code 1 when one is broken."""
    settings = {}
    for piece in arguments.settings:
        key, equals, value = piece.partition("=")
        if not equals:
            raise UserError(f"check-adapter: expected key=value, got {piece!r}")
        settings[key] = value
    broken = 0
    with tempfile.TemporaryDirectory() as folder:
        for finding in check_adapter(arguments.target, settings, Path(folder)):
            print(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.text}", flush=True)
            broken += not finding.ok
    return EXIT_TOO_MANY_FAILURES if broken else EXIT_COMPLETE

"""`harness data`: prepare a task's data from its official files, or check what is there."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli import EXIT_COMPLETE, add_data_root
from harness.types import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `data prepare` and `data check`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    prepare = actions.add_parser("prepare", help="build a checked local copy of a dataset's annotations")
    prepare.add_argument("task", metavar="TASK")
    prepare.add_argument("--annotations", type=Path, required=True, metavar="FILE", help="the official annotation file")
    prepare.add_argument("--images", type=Path, required=True, metavar="DIR", help="the folder of pictures")
    check = actions.add_parser("check", help="verify prepared data and print its table")
    check.add_argument("task", metavar="TASK")
    for action in (prepare, check):
        add_data_root(action)


def execute(arguments: argparse.Namespace) -> int:
    """Prepare or check; the exit code."""
    from harness.task_source import data_root, find_task, open_reader

    reader = open_reader(find_task(arguments.task), data_root(arguments.data_root))
    if arguments.action == "check":
        print(reader.check())
        return EXIT_COMPLETE
    for option, path in (("--annotations", arguments.annotations), ("--images", arguments.images)):
        if not path.exists():
            raise UserError(f"{option} {path}: no such file or folder")
    print(reader.prepare(arguments.annotations, arguments.images))
    return EXIT_COMPLETE

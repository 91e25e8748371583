"""`harness data`: prepare a task's data from its official files, check what is there, or fetch a lexicon."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.check.fetch import SOURCES, Download, fetch
from harness.cli import EXIT_COMPLETE, add_data_root
from harness.plan.registry import check_writable, data_root, find_task, open_reader
from harness.types import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `data prepare`, `data check` and `data fetch`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    prepare = actions.add_parser(
        "prepare", help="build a checked local copy of a dataset's annotations", allow_abbrev=False
    )
    prepare.add_argument("task", metavar="TASK")
    prepare.add_argument("--annotations", type=Path, required=True, metavar="FILE", help="the official annotation file")
    prepare.add_argument("--images", type=Path, metavar="DIR", help="the folder of images")
    check = actions.add_parser("check", help="verify prepared data and print its table", allow_abbrev=False)
    check.add_argument("task", metavar="TASK")
    fetch = actions.add_parser(
        "fetch", help="download a lexicon that may be downloaded, or say where to ask for it", allow_abbrev=False
    )
    fetch.add_argument("name", metavar="NAME", help="glasgow or nrc-vad")
    fetch.add_argument("--file", type=Path, metavar="FILE", help="a copy of your own, to be checked")
    fetch.add_argument("--url", metavar="URL", help="another address of the same file")
    for action in (prepare, check, fetch):
        add_data_root(action)


def execute(arguments: argparse.Namespace) -> int:
    """Prepare, check or fetch; the exit code."""
    if arguments.action == "fetch":
        return _fetch(arguments)
    root = data_root(arguments.data_root)
    reader = open_reader(find_task(arguments.task), root)
    if arguments.action == "check":
        print(reader.check())
        return EXIT_COMPLETE
    annotations, images = arguments.annotations, arguments.images
    if images is None and getattr(reader, "needs_images", True):
        raise UserError("data prepare: --images DIR, the folder of images, is required for this task")
    for option, path in (("--annotations", annotations), ("--images", images)):
        if path is not None and not path.exists():
            raise UserError(f"{option} {path}: no such file or folder")
    check_writable(root)
    print(reader.prepare(annotations, images or annotations.parent))
    return EXIT_COMPLETE


def _fetch(arguments: argparse.Namespace) -> int:
    source = SOURCES.get(arguments.name)
    if source is None:
        raise UserError(f"nothing is called {arguments.name!r}; data fetch knows {', '.join(SOURCES)}")
    path = arguments.file
    if isinstance(source, Download):
        print(f"{source.licence}\n{source.page}")
        path = path or fetch(source, data_root(arguments.data_root), arguments.url)
    else:
        print(f"{source.name}: {source.terms}\nask for it at {source.page}")
    if path is None:
        return EXIT_COMPLETE
    from sevlm.config import SEVLMError
    from sevlm.vad import load_lexicon

    try:
        lexicon = load_lexicon(path)
    except SEVLMError as error:
        raise UserError(str(error)) from error
    holds = f"{lexicon.name}, {len(lexicon):,} words, {', '.join(lexicon.dimensions)}; {lexicon.recognised}"
    print(f"{path}: {holds}\nuse it with: harness train sevlm --task TASK --lexicon {path}")
    return EXIT_COMPLETE

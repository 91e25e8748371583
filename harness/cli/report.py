"""`harness report`: one HTML leaderboard from one or several runs."""

from __future__ import annotations

import argparse
import webbrowser
from contextlib import nullcontext
from pathlib import Path

from harness.api import write_report
from harness.cli import EXIT_COMPLETE, add_look, copies_images
from harness.store.run_folder import RunFolder, write_checksums
from harness.types import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `report`."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders, scored")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default for one run: RUN/report)")
    add_look(parser)
    parser.add_argument(
        "--figures", type=Path, metavar="DIR", help="also write figures and tables there, as SVG for papers"
    )
    parser.add_argument("--format", metavar="md|tex", help="print answer and leaderboard for a paper; write no page")
    parser.add_argument("--open", action="store_true", help="open the report in a browser")


def execute(arguments: argparse.Namespace) -> int:
    """Write the report; the exit code."""
    folders = [RunFolder.open(path) for path in arguments.runs]
    if arguments.format is not None:
        from harness.reports.build import report_text

        print(report_text(folders, arguments.format), end="")
        return EXIT_COMPLETE
    if len(folders) > 1 and arguments.out is None:
        raise UserError("report: several runs need --out DIR")
    own = folders[0].path / "report"
    out = arguments.out or own
    copy_images = copies_images(arguments.pictures)
    with folders[0].locked() if out == own else nullcontext():
        page = write_report(folders, out, blur=arguments.blur, copy_images=copy_images)
        if out == own:
            write_checksums(folders[0].path)
    print(f"report: {page}")
    if arguments.figures is not None:
        from harness.reports.build import save_figures

        print(f"figures: {save_figures(page, arguments.figures)} in {arguments.figures}")
    if arguments.open:
        webbrowser.open(page.absolute().as_uri())
    return EXIT_COMPLETE

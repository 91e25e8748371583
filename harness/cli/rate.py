"""`harness rate`: pages on which people judge the explanations of a run, and what came back from them."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.api import import_ratings
from harness.cli import EXIT_COMPLETE, positive
from harness.errors import UserError, nearest
from harness.judge.rubric import load_rubric
from harness.judge.study import Kind, describe, plan_study, save_study, write_pages
from harness.store.run_folder import RunFolder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `rate`."""
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    page = parser.add_argument_group("make a page")
    page.add_argument("--out", type=Path, metavar="page.html", help="where to write it")
    what = page.add_mutually_exclusive_group()
    what.add_argument("--pairs", type=positive, metavar="N", help="compare two explanations, N times a rater (30)")
    what.add_argument("--items", type=positive, metavar="N", help="score single explanations from 1 to 5, N a rater")
    page.add_argument("--rubric", metavar="YAML", help="whose questions are asked (default: ours)")
    page.add_argument("--criteria", metavar="C[,C]", help="criteria of the rubric for --items (default: plausible)")
    page.add_argument(
        "--raters", type=positive, default=1, metavar="N", help="a page for each, a quarter in common (1)"
    )
    page.add_argument("--consent", type=Path, metavar="FILE", help="text to be agreed to before the first item")
    page.add_argument("--blur", action="store_true", help="blur each image until it is clicked")
    page.add_argument("--seed", type=int, default=0, metavar="N", help="for whatever is drawn (default: 0)")
    back = parser.add_argument_group("read what came back")
    back.add_argument("--ratings", type=Path, nargs="+", metavar="FILE", help="files that raters downloaded")
    back.add_argument("--no-report", action="store_true", help="stop after results.json")


def execute(arguments: argparse.Namespace) -> int:
    """Make the page, or read ratings; the exit code."""
    if bool(arguments.out) == bool(arguments.ratings):
        raise UserError("rate: give --out page.html to make a page, or --ratings FILE … to read what came back")
    return _read(arguments) if arguments.ratings else _make(arguments)


def _make(arguments: argparse.Namespace) -> int:
    run = RunFolder.open(arguments.run)
    rubric = load_rubric(arguments.rubric)
    try:
        consent = arguments.consent.read_text(encoding="utf-8") if arguments.consent else None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--consent {arguments.consent}: cannot be read ({error})") from error
    criteria = {"preference": rubric.preference}
    if arguments.items:
        names = [name.strip() for name in (arguments.criteria or next(reversed(rubric.criteria))).split(",")]
        for name in names:
            if name not in rubric.criteria:
                raise UserError(f"--criteria {name}: not in the rubric; {nearest(name, rubric.criteria)}")
        chosen = {name: rubric.criteria[name] for name in names}
        criteria = {n: f"{c.question} (1: {c.anchors['1']} 5: {c.anchors['5']})" for n, c in chosen.items()}
    kind: Kind = "items" if arguments.items else "pairs"
    count = arguments.items or arguments.pairs or 30
    study = plan_study(run, kind, count, criteria=criteria, raters=arguments.raters, seed=arguments.seed)
    key = save_study(run, study)
    pages = write_pages(run, study, arguments.out, consent=consent, blur=arguments.blur)
    told = describe(study)
    print(f"study {study.name}: {told['items']} items, {told['repeated']} of them repeated, {told['raters']} raters")
    print("\n".join(f"page: {page}" for page in pages))
    print(f"what stands behind the items: {key} (keep it; the pages name no model)")
    return EXIT_COMPLETE


def _read(arguments: argparse.Namespace) -> int:
    done = import_ratings(arguments.run, arguments.ratings, report=not arguments.no_report)
    people = done.results["people"]
    for rater in people["raters"]:
        verdict = f"left out: {rater['problem']}" if rater["problem"] else "counts"
        print(f"rater {rater['rater']}: {rater['n']} items, {rater['seconds']:.1f} s each; {verdict}")
    for s in people["strengths"]:
        interval = "" if s["low"] is None else f" [{s['low']:+.2f}, {s['high']:+.2f}]"
        print(f"  {s['row']}: strength {s['strength']:+.2f}{interval}, {s['wins']:g} of {s['n']} preferred")
    for name, found in people["agreement"].items():
        alpha = "not defined" if found["alpha"] is None else f"{found['alpha']:.2f}"
        print(f"  agreement of raters on {name}: alpha {alpha} ({found['shared_items']} items shared)")
    if done.page is not None:
        print(f"\nreport: {done.page}")
    return EXIT_COMPLETE

"""`harness score`: score a run again, or outcomes made elsewhere."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.cli import EXIT_COMPLETE, add_data_root
from harness.store.run_folder import RunFolder
from harness.types import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `score`."""
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN", help="a run folder")
    parser.add_argument("--task", metavar="T", help="task of the outcomes given by --outcomes")
    parser.add_argument(
        "--outcomes",
        action="append",
        metavar="[NAME=]FILE.jsonl",
        help='lines {"id", "emotion", "explanation", …}; may be repeated, a row each',
    )
    parser.add_argument("--out", type=Path, metavar="RUN", help="folder for the run made from --outcomes")
    parser.add_argument("--split", default="test", help="split that the outcomes answer (default: test)")
    add_data_root(parser)
    parser.add_argument(
        "--lexicon", type=Path, metavar="FILE", help="valence-arousal-dominance lexicon (default: VADER, valence only)"
    )
    parser.add_argument(
        "--bert-score", metavar="MODEL[:LAYER]", help="also BERTScore, by this encoder: a folder or a hub id"
    )
    parser.add_argument("--no-report", action="store_true", help="stop after results.json")


def execute(arguments: argparse.Namespace) -> int:
    """Score and report; the exit code."""
    from harness import session
    from harness.plan.tasks import data_root
    from harness.store.checksums import write_checksums

    root = data_root(arguments.data_root) if arguments.data_root else None
    lexicon: Path | None = arguments.lexicon
    if lexicon is not None and not lexicon.is_file():
        raise UserError(f"--lexicon {lexicon}: no such file")
    folder = _given_run(arguments)
    with session.locked(folder):
        session.choose_for_scoring(
            folder, lexicon=str(lexicon.absolute()) if lexicon else None, bert_score=arguments.bert_score
        )
        results = session.score(folder, root)
        if not arguments.no_report:
            session.report([folder], folder.path / "report")
        write_checksums(folder.path)
    session.print_summary(results, folder)
    return EXIT_COMPLETE


def _given_run(arguments: argparse.Namespace) -> RunFolder:
    if arguments.run and not (arguments.task or arguments.outcomes or arguments.out):
        return RunFolder.open(arguments.run)
    if not arguments.run and arguments.task and arguments.outcomes and arguments.out:
        from harness.store.import_outcomes import import_outcomes

        return import_outcomes(
            arguments.task,
            arguments.outcomes,
            arguments.out,
            split=arguments.split,
            root=arguments.data_root,
            command=["harness", *sys.argv[1:]],
        )
    raise UserError("score: give a run folder, or --task T --outcomes [NAME=]FILE.jsonl --out RUN")

"""`harness score`: score a run again, or outcomes made elsewhere."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from harness.api import score_folder
from harness.cli import EXIT_COMPLETE, add_data_root, print_summary
from harness.store.import_outcomes import import_outcomes
from harness.store.prediction_files import FORMATS, Columns
from harness.store.run_folder import RunFolder
from harness.types import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `score`."""
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN", help="a run folder")
    parser.add_argument("--task", metavar="T", help="task of the outcomes given by --outcomes")
    parser.add_argument(
        "--outcomes",
        action="append",
        metavar="[NAME=]FILE",
        help="predictions made elsewhere (jsonl, json, csv, tsv, xlsx, parquet, logs); may be repeated, a row each",
    )
    columns = parser.add_argument_group(
        "columns of --outcomes",
        "a column, a path (output.completion) or a pattern ({art_style}/{painting}); known logs need none of them",
    )
    columns.add_argument("--id", metavar="COLUMN", help="the example's id")
    columns.add_argument("--text", metavar="COLUMN", help="what the model said: label and explanation are read from it")
    columns.add_argument("--emotion", metavar="COLUMN", help="the label")
    columns.add_argument("--explanation", metavar="COLUMN", help="the explanation")
    columns.add_argument("--probs", metavar="PREFIX", help="columns of label probabilities, such as p_ for p_awe")
    columns.add_argument("--format", metavar="NAME", choices=tuple(FORMATS), help=f"one of {', '.join(FORMATS)}")
    columns.add_argument("--positions", action="store_true", help="ids are row numbers of the split, from 0")
    columns.add_argument(
        "--last-because", action="store_true", help="cut --text after the last 'because', as SEVLM does"
    )
    parser.add_argument("--out", type=Path, metavar="RUN", help="folder for the run made from --outcomes")
    parser.add_argument("--split", default="test", help="split that the outcomes answer (default: test)")
    add_data_root(parser)
    parser.add_argument(
        "--lexicon",
        type=Path,
        metavar="FILE[:scale=S]",
        help="valence-arousal-dominance lexicon (default: VADER, valence only)",
    )
    parser.add_argument(
        "--bert-score", metavar="MODEL[:LAYER]", help="also BERTScore, by this encoder: a folder or a hub id"
    )
    parser.add_argument("--clip", metavar="MODEL", help="also CLIPScore, by this CLIP: a folder or a hub id")
    parser.add_argument(
        "--sentence-encoder", metavar="MODEL[:COSINE]", help="also the recall of triggers, by this encoder (0.5)"
    )
    parser.add_argument("--no-report", action="store_true", help="stop after results.json")
    parser.add_argument(
        "--reparse", action="store_true", help="read the run's recorded texts again, with the parser of this version"
    )


def _columns(arguments: argparse.Namespace) -> Columns | None:
    """The columns that were named; None for a known format.

    Raises:
        UserError: too few to read a prediction, or some that exclude each other.
    """
    named = {name: getattr(arguments, name) for name in ("id", "text", "emotion", "explanation", "probs")}
    if arguments.format:
        given = {name: value for name, value in named.items() if value is not None}
        return replace(FORMATS[arguments.format], **given) if given else None
    if all(value is None for value in named.values()):
        return None
    if not (named["text"] or named["emotion"] or named["explanation"]):
        raise UserError("score: name what was predicted: --text COLUMN, or --emotion COLUMN and --explanation COLUMN")
    if named["text"] and (named["emotion"] or named["explanation"]):
        raise UserError("score: --text holds label and explanation; give it alone, or --emotion and --explanation")
    return Columns(**named | {"id": named["id"] or "id"}, last_because=arguments.last_because)


def execute(arguments: argparse.Namespace) -> int:
    """Score and report; the exit code."""
    if arguments.run and not (arguments.task or arguments.outcomes or arguments.out):
        folder = RunFolder.open(arguments.run)
    elif arguments.reparse and not arguments.run:
        raise UserError("--reparse reads a run again: give its folder; files of --outcomes are read anew each time")
    elif not arguments.run and arguments.task and arguments.outcomes and arguments.out:
        folder = import_outcomes(
            arguments.task,
            arguments.outcomes,
            arguments.out,
            split=arguments.split,
            root=arguments.data_root,
            command=["harness", *sys.argv[1:]],
            columns=_columns(arguments),
            format_name=arguments.format,
            positions=arguments.positions,
        )
    else:
        raise UserError("score: give a run folder, or --task T --outcomes [NAME=]FILE --out RUN")
    done = score_folder(
        folder,
        data_root=arguments.data_root,
        lexicon=arguments.lexicon,
        bert_score=arguments.bert_score,
        clip=arguments.clip,
        sentence_encoder=arguments.sentence_encoder,
        report=not arguments.no_report,
        reparse=arguments.reparse,
    )
    print_summary(done.folder, done.results)
    return EXIT_COMPLETE

"""Scores of single images, beside results.json: what a text classifier reads from each explanation, what judges say.

    RUN/scores/<task>/<model>.jsonl   {"id", "explanation_emotion", "consistent"}, a line for each answer

`explanation_emotion` is the label that the task's text-emotion classifier finds likeliest for the explanation alone,
null for an empty one; `consistent` says whether it is the label that the row itself answered. Their mean is the
metric `consistency`. A row without explanations, or scored without a classifier, has no file.

    RUN/opinions/<task>/<model>.jsonl   {"id", "by", "said"}, a line for each judge, or people, and explanation
"""

from __future__ import annotations

import json
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from harness.atomic import write_atomically
from harness.types import RowKey, check_name


class EmotionPrediction(NamedTuple):
    """What the classifier reads from one explanation; see the module."""

    explanation_emotion: str | None
    consistent: bool


def scores_path(run: Path, task: str, row: RowKey) -> Path:
    """Where a row's lines lie."""
    check_name(row.model, "model")
    return run / "scores" / check_name(task, "task") / f"{row.stem}.jsonl"


def write_predictions(run: Path, task: str, row: RowKey, predictions: Mapping[str, EmotionPrediction]) -> None:
    """Write a row's lines, example id -> reading; without any, the file of an earlier scoring is removed."""
    path = scores_path(run, task, row)
    if not predictions:
        path.unlink(missing_ok=True)
        return
    lines = (
        json.dumps({"id": id_, **found._asdict()}, ensure_ascii=False) + "\n" for id_, found in predictions.items()
    )
    write_atomically(path, "".join(lines))


def read_predictions(run: Path, task: str, row: RowKey) -> dict[str, EmotionPrediction]:
    """A row's predictions by example id; empty where there is no file, as in runs scored by an older version."""
    path = scores_path(run, task, row)
    found: dict[str, EmotionPrediction] = {}
    if not path.is_file():
        return found
    with path.open(encoding="utf-8") as file:
        for record in map(json.loads, file):
            emotion = record["explanation_emotion"]
            label = None if emotion is None else sys.intern(str(emotion))  # few labels, many lines: each is kept once
            found[record["id"]] = EmotionPrediction(label, bool(record["consistent"]))
    return found


class Opinion(NamedTuple):
    """What a judge or people said of one explanation, in words."""

    by: str
    said: str


def write_opinions(run: Path, opinions: Iterable[tuple[str, str, str, Opinion]]) -> None:
    """Write (task, row's stem, example id, opinion) of a run; those of an earlier scoring are removed."""
    lines: dict[Path, list[str]] = defaultdict(list)
    for task, stem, id_, opinion in opinions:
        line = json.dumps({"id": id_, **opinion._asdict()}, ensure_ascii=False)
        lines[_opinions_path(run, task, stem)].append(line + "\n")
    shutil.rmtree(run / "opinions", ignore_errors=True)
    for path, own in lines.items():
        write_atomically(path, "".join(own))


def read_opinions(run: Path, task: str, row: RowKey) -> dict[str, list[Opinion]]:
    """Opinions on a row's explanations by example id; empty if nobody judged them."""
    path = _opinions_path(run, task, row.stem)
    found: dict[str, list[Opinion]] = defaultdict(list)
    if path.is_file():
        with path.open(encoding="utf-8") as file:
            for record in map(json.loads, file):
                found[record["id"]].append(Opinion(str(record["by"]), str(record["said"])))
    return dict(found)


def _opinions_path(run: Path, task: str, stem: str) -> Path:
    return run / "opinions" / check_name(task, "task") / f"{stem}.jsonl"

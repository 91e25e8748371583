"""Scores of single paintings, beside results.json: what a text classifier reads from each explanation.

    RUN/scores/<task>/<model>.jsonl   {"id", "explanation_emotion", "consistent"}, a line for each answer

`explanation_emotion` is the label that the task's text-emotion classifier finds likeliest for the explanation alone,
null for an empty one; `consistent` says whether it is the label that the row itself answered. Their mean is the
metric `consistency`. A row without explanations, or scored without a classifier, has no file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from harness.atomic import write_atomically
from harness.store.run_folder import RowKey, RunFolder, check_name


class EmotionPrediction(NamedTuple):
    """What the classifier reads from one explanation; see the module."""

    explanation_emotion: str | None
    consistent: bool


def scores_path(folder: RunFolder, task: str, row: RowKey) -> Path:
    """Where a row's lines lie."""
    check_name(row.model, "model")
    return folder.path / "scores" / check_name(task, "task") / f"{row.stem}.jsonl"


def write_predictions(folder: RunFolder, task: str, row: RowKey, predictions: Mapping[str, EmotionPrediction]) -> None:
    """Write a row's lines, example id -> reading; without any, the file of an earlier scoring is removed."""
    path = scores_path(folder, task, row)
    if not predictions:
        path.unlink(missing_ok=True)
        return
    lines = (
        json.dumps({"id": id_, **found._asdict()}, ensure_ascii=False) + "\n" for id_, found in predictions.items()
    )
    write_atomically(path, "".join(lines))


def read_predictions(folder: RunFolder, task: str, row: RowKey) -> dict[str, EmotionPrediction]:
    """A row's predictions by example id; empty where there is no file, as in runs scored by an older version."""
    path = scores_path(folder, task, row)
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8") as file:
        return {record["id"]: _prediction(record) for record in map(json.loads, file)}


def _prediction(record: Mapping[str, Any]) -> EmotionPrediction:
    emotion = record["explanation_emotion"]
    # few labels, many lines: each is kept once
    return EmotionPrediction(None if emotion is None else sys.intern(str(emotion)), bool(record["consistent"]))

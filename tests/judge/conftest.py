"""A run of three models over a few images, small enough to judge by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from harness.store.run_folder import RunFolder
from harness.types import Annotation, Answer, Example, Refusal, RowKey, histogram

ROWS = ("small", "large", "other")
EMOTIONS = ("awe", "fear")


def make_run(folder: Path, count: int = 24) -> RunFolder:
    """`count` images, dominated by awe and fear in turn; every model explains each, but `other` refuses the first."""
    examples = []
    for i in range(count):
        path = folder / "images" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40), (10 * i % 256, 90, 160)).save(path)
        said = [Annotation(EMOTIONS[i % 2], f"the sky number {i} is wide") for _ in range(3)]
        examples.append(Example(f"e{i}", path, tuple(said), histogram(said)))
    run = RunFolder(folder / "run")
    record = {"name": "tiny", "dataset": "jsonl", "emotions": list(EMOTIONS), "protocol": "artemis-plain"}
    models = [{"model": row} for row in ROWS]
    run.save_manifest({"schema": 1, "tasks": [record], "models": models, "runs": []})
    run.save_examples("tiny", examples)
    for row in ROWS:
        with run.open_log("tiny", RowKey(row)) as log:
            for i, example in enumerate(examples):
                text = f"{row} sees that the sky of number {i} is wide" + " and wide" * ROWS.index(row)
                refused = row == "other" and i == 0
                log.append(example.id, Refusal("no") if refused else Answer(EMOTIONS[i % 2], text))
    return run


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return make_run(tmp_path)

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from metric_rows import EMOTIONS, POLARITY, SCALES, ContextFor, random_rows

from harness.tasks.metrics.base import Context, Row
from harness.tasks.metrics.caption_engine import CaptionEngine
from harness.tasks.metrics.java import MeteorProcess, find_java
from harness.types import Task

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def meteor_process() -> Iterator[MeteorProcess]:
    if find_java() is None:
        pytest.skip("no Java runtime")
    with MeteorProcess() as process:
        yield process


@pytest.fixture(scope="session")
def golden() -> dict[str, Any]:
    """`sentences` and `expected` of the recorded official values."""
    return {name: json.loads((GOLDEN / f"{name}.json").read_text("utf-8")) for name in ("sentences", "expected")}


@pytest.fixture(scope="session")
def context_for(meteor_process: MeteorProcess) -> ContextFor:
    """Make a context for rows: `context_for(rows, protocol=..., train=...)`."""

    def make(rows: Sequence[Row], protocol: str = "coco-ptb", train: tuple[str, ...] | None = None) -> Context:
        task = Task("t", "jsonl", EMOTIONS, polarity=POLARITY, protocol=protocol, ratings=SCALES)
        references = [[a.explanation for a in row.example.annotations] for row in rows]
        return Context(task, CaptionEngine(protocol, meteor_process, references), train)

    return make


@pytest.fixture(scope="session")
def panel() -> list[Row]:
    return random_rows()

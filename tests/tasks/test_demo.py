from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from harness.tasks.loading import builtin_cards, load_task
from harness.tasks.readers.jsonl import DEMO_DATA, DemoReader
from harness.types import Example

TASK = load_task(builtin_cards()["demo"])
READER = DemoReader(TASK, Path("/nowhere"))


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return list(READER.examples())


def test_sizes_and_splits(examples: list[Example]) -> None:
    assert len(examples) == 174
    assert READER.splits() == {"train": 78, "test": 72, "val": 24}
    assert sum(path.stat().st_size for path in DEMO_DATA.rglob("*") if path.is_file()) <= 4_000_000
    assert {path.name for path in (DEMO_DATA / "images").iterdir()} == {example.image.name for example in examples}


def test_pictures_are_small_and_decode(examples: list[Example]) -> None:
    assert READER.check().counts()["images that cannot be decoded"] == 0
    for example in examples:
        with Image.open(example.image) as picture:
            assert max(picture.size) <= 320
            assert picture.mode == "RGB"


def test_annotations(examples: list[Example]) -> None:
    explanations = [annotation.explanation for example in examples for annotation in example.annotations]
    assert len(explanations) == len(set(explanations)) == 1745
    assert all(text.isascii() and text == " ".join(text.split()) for text in explanations)
    assert all(5 <= len(text.split()) <= 30 for text in explanations)
    assert min(len(example.annotations) for example in examples) >= 10


def test_every_emotion_and_disagreement_occur_in_the_test_split(examples: list[Example]) -> None:
    tested = [example for example in examples if example.split == "test"]
    annotated = Counter(emotion for example in tested for emotion in example.emotion_histogram)
    assert set(annotated) == set(TASK.emotions)
    assert min(annotated.values()) >= 8
    assert sum(example.dominant_emotion is None for example in tested) == 22


def test_the_card_warns_and_slices_are_there(examples: list[Example]) -> None:
    assert TASK.illustrative
    assert "must never be reported" in READER.notes()[0]
    for example in examples:
        assert set(TASK.slices) < set(example.meta)
        assert example.meta["url"].startswith("https://www.metmuseum.org/art/collection/search/")
        assert example.meta["title"]
        assert example.meta["artist"]
    assert len({example.meta["period"] for example in examples}) >= 4
    card = (DEMO_DATA / "DATA_CARD.md").read_text("utf-8")
    for fact in ("174", "78 train, 24 val, 72 test", "1745", "22 of 72", "CC0", "machine-written"):
        assert fact in card

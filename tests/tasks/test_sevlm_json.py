from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.tasks.loading import builtin_cards, load_task
from harness.tasks.readers.sevlm_json import SEVLMJsonReader, whole_counts
from harness.types import Task, UserError

EMOTIONS = load_task(builtin_cards()["artemis"]).emotions
ENTRY: dict[str, Any] = {
    "emotions": ["awe", "fear"],
    "explanations": ["big waves", "dark sea"],
    "image_name": "Made_Up/andré.jpg",
    "origin_emotion_distribution": [0, 0.6, 0, 0, 0, 0, 0.4, 0, 0],
}
Read = Callable[..., SEVLMJsonReader]


@pytest.fixture
def read(tmp_path: Path, draw: Callable[..., Path]) -> Read:
    """A reader of one test entry with the given changes."""

    def build(**changes: Any) -> SEVLMJsonReader:
        entry = {key: value for key, value in (ENTRY | changes).items() if value is not None}
        (tmp_path / "artEmisX_test.json").write_text(json.dumps({"17": entry}), encoding="utf-8")
        draw(tmp_path / "images" / "Made_Up" / "andr#U00e9.jpg")
        options = {"folder": ".", "images": "images"}
        return SEVLMJsonReader(Task("s", "sevlm-json", EMOTIONS, options=options, source=tmp_path / "c.yaml"), Path())

    return build


def test_one_entry(read: Read) -> None:
    reader = read()
    (example,) = reader.examples()
    assert (example.id, example.split, example.meta) == ("17", "test", {"style": "Made Up"})
    assert example.image.name == "andr#U00e9.jpg"
    assert [(a.emotion, a.explanation) for a in example.annotations] == [("awe", "big waves"), ("fear", "dark sea")]
    assert example.emotion_histogram == {"awe": 3, "fear": 2}
    assert example.dominant_emotion == "awe"
    assert reader.splits() == {"test": 1}
    assert reader.notes() == []
    assert reader.check().counts() == {"entries in test": 1, "images found for test": 1, "annotations in test": 2}


def test_histogram_without_distribution_is_counted(read: Read) -> None:
    (example,) = read(origin_emotion_distribution=None).examples()
    assert example.emotion_histogram == {"awe": 1, "fear": 1}
    assert example.dominant_emotion is None


def test_missing_pictures_are_left_out_and_said(read: Read) -> None:
    reader = read(image_name="Made_Up/absent.jpg")
    assert list(reader.examples()) == []
    assert reader.notes() == ["1 of 1 entries have no image and are left out."]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"emotions": ["awe"]}, "1 emotions but 2 explanations"),
        ({"emotions": ["awe", "fer"]}, "did you mean fear"),
        ({"image_name": 3}, "key 'image_name'"),
        ({"origin_emotion_distribution": [1.0]}, "must hold 9 counts"),
        ({"origin_emotion_distribution": [0.1234567] * 9}, "must hold 9 counts"),
        ({"origin_emotion_distribution": ["x"] * 9}, "must hold 9 counts"),
        ({"origin_emotion_distribution": [-1, 2, 0, 0, 0, 0, 0, 0, 0]}, "must hold 9 counts"),
    ],
)
def test_mistakes_name_file_and_id(read: Read, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as caught:
        list(read(**changes).examples())
    assert "artEmisX_test.json, id 17" in str(caught.value)
    assert says in str(caught.value)


def test_absent_and_malformed_files(read: Read, tmp_path: Path) -> None:
    reader = read()
    (tmp_path / "artEmisX_test.json").write_text("[]", encoding="utf-8")
    with pytest.raises(UserError, match="expected a JSON object"):
        list(reader.examples())
    (tmp_path / "artEmisX_test.json").unlink()
    with pytest.raises(UserError, match="holds none of artEmisX_train"):
        SEVLMJsonReader(reader.task, Path()).splits()


@given(st.lists(st.integers(0, 12), min_size=9, max_size=9).filter(any))
def test_shares_give_the_counts_back(counts: list[int]) -> None:
    total = sum(counts)
    assert whole_counts([count / total for count in counts], total) == counts
    if total > 1:
        assert whole_counts(counts, 1) == counts


def test_the_official_fixture(golden_a: Path, tmp_path: Path, draw: Callable[..., Path]) -> None:
    options = {"folder": str(golden_a), "images": str(tmp_path), "files": "data_{split}.json"}
    for split in ("train", "val"):
        for entry in json.loads((golden_a / f"data_{split}.json").read_text("utf-8")).values():
            draw(tmp_path / entry["image_name"])
    examples = list(SEVLMJsonReader(Task("s", "sevlm-json", EMOTIONS, options=options), Path()).examples())
    assert {example.split for example in examples} == {"train", "val"}
    first = next(example for example in examples if example.split == "train")
    assert first.emotion_histogram == {"awe": 2, "excitement": 1, "fear": 1}
    official = json.loads((golden_a / "data_val.json").read_text("utf-8"))
    for example in (example for example in examples if example.split == "val"):
        shares = official[example.id]["origin_emotion_distribution"]
        assert example.distribution(EMOTIONS) == pytest.approx(shares, abs=1e-6)

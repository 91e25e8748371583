from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.tasks.loading import builtin_cards, load_task
from harness.tasks.readers.base import Reader
from harness.tasks.readers.jsonl import JsonlReader
from harness.types import Annotation, Task, UserError

EMOTIONS = load_task(builtin_cards()["artemis"]).emotions
BuildTask = Callable[..., Task]
AWE: dict[str, Any] = {
    "id": "1",
    "image": "a.png",
    "annotations": [{"emotion": "awe", "explanation": "the light"}],
}


def read(task: Task, split: str | None = None) -> list[Any]:
    return list(JsonlReader(task, Path("/nowhere")).examples(split))


def test_defaults_and_every_key(examples_task: BuildTask, tmp_path: Path) -> None:
    full = AWE | {"id": "2", "split": "train", "meta": {"style": "Cubism"}}
    full["annotations"] = [*AWE["annotations"], {"emotion": "fear", "explanation": "dark"}]
    one, two = read(examples_task(AWE, "", full))
    assert (one.id, one.split, one.meta, one.image) == ("1", "test", {}, tmp_path / "a.png")
    assert one.annotations == (Annotation("awe", "the light"),)
    assert one.emotion_histogram == {"awe": 1}
    assert one.dominant_emotion == "awe"
    assert (two.split, two.meta, two.dominant_emotion) == ("train", {"style": "Cubism"}, None)


def test_splits_filter_and_fingerprint(examples_task: BuildTask) -> None:
    task = examples_task(AWE, AWE | {"id": "2", "split": "train"}, AWE | {"id": "3"})
    reader = JsonlReader(task, Path())
    assert reader.splits() == {"test": 2, "train": 1}
    assert [example.id for example in reader.examples("test")] == ["1", "3"]
    assert list(reader.examples("val")) == []
    before = reader.fingerprint()
    assert JsonlReader(task, Path()).fingerprint() == before
    examples_task(AWE)
    assert JsonlReader(task, Path()).fingerprint() != before


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"id": ""}, "key 'id' must be a non-empty string"),
        ({"id": 7}, "key 'id' must be a non-empty string, got 7"),
        ({"image": 5}, "key 'image' must be a non-empty string, got 5"),
        ({"image": "b.png"}, "key 'image': no such image"),
        ({"image": "long" * 1000}, "key 'image': File name too long: longlong"),
        ({"image": "../a.png"}, "key 'image': image '../a.png'"),
        ({"image": "/etc/passwd"}, "key 'image'"),
        ({"split": 1}, "key 'split'"),
        ({"annotations": []}, "key 'annotations' must be a list with at least one entry"),
        ({"annotations": ["awe"]}, "annotation 1: expected an object"),
        ({"annotations": [{"emotion": "awe"}]}, "annotation 1: expected an object with exactly"),
        ({"annotations": [{"emotion": "aw", "explanation": "x"}]}, "did you mean awe?"),
        ({"annotations": [{"emotion": "awe", "explanation": " "}]}, "key 'explanation'"),
        ({"meta": {"year": 1900}}, "key 'meta' must map names to text"),
        ({"anotations": []}, "unknown key 'anotations'; did you mean annotations"),
    ],
)
def test_mistakes_name_line_and_key(examples_task: BuildTask, change: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as caught:
        read(examples_task(AWE, AWE | {"id": "2"} | change))
    assert "examples.jsonl, line 2" in str(caught.value)
    assert says in str(caught.value)


def test_a_link_that_leads_back_to_itself_names_its_line(examples_task: BuildTask, tmp_path: Path) -> None:
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    with pytest.raises(UserError, match=r"line 2: key 'image': image 'loop\.png': is a link that leads back"):
        read(examples_task(AWE, AWE | {"id": "2", "image": "loop.png"}))


def test_images_to_train_on_may_have_no_annotations(examples_task: BuildTask) -> None:
    task = examples_task(AWE, {"id": "2", "image": "a.png", "split": "train", "annotations": []})
    _, bare = read(task)
    assert (bare.annotations, bare.emotion_histogram, bare.dominant_emotion) == ((), {}, None)
    assert JsonlReader(task, Path()).check().counts()["without a majority emotion"] == 1


def test_malformed_files(examples_task: BuildTask, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"line 1: not JSON"):
        read(examples_task('{"id": '))
    with pytest.raises(UserError, match=r"line 1: not JSON"):
        read(examples_task("[" * 100_000))
    with pytest.raises(UserError, match=r"line 2: expected a JSON object"):
        read(examples_task(AWE, "[1]"))
    with pytest.raises(UserError, match=r"line 2: key 'id': '1' was given in line 1"):
        read(examples_task(AWE, AWE))
    with pytest.raises(UserError, match="holds no example"):
        read(examples_task(""))
    task = examples_task(AWE)
    (tmp_path / "examples.jsonl").write_bytes(json.dumps(AWE).encode() + b'\n{"id": "\xe9"}\n')
    with pytest.raises(UserError, match=r"line 2: not UTF-8"):
        read(task)
    (tmp_path / "examples.jsonl").unlink()
    with pytest.raises(UserError, match="cannot read the examples file"):
        read(task)


def test_a_byte_order_mark_and_crlf_are_taken_in_stride(examples_task: BuildTask, tmp_path: Path) -> None:
    task = examples_task(AWE)
    (tmp_path / "examples.jsonl").write_bytes(b"\xef\xbb\xbf" + json.dumps(AWE).encode() + b"\r\n")
    assert [example.id for example in read(task)] == ["1"]


def test_reading_is_lazy(examples_task: BuildTask) -> None:
    stream = JsonlReader(examples_task(AWE, "not json"), Path()).examples()
    assert next(stream).id == "1"
    with pytest.raises(UserError, match="line 2"):
        next(stream)


def test_check_counts_and_names_corrupt_pictures(
    examples_task: BuildTask, draw: Callable[..., Path], tmp_path: Path
) -> None:
    task = examples_task(AWE, AWE | {"id": "2", "image": "half.jpg", "split": "train"})
    whole = draw(tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(whole[: len(whole) * 2 // 3])
    table = JsonlReader(task, Path()).check()
    counts = table.counts()
    assert (counts["examples"], counts["images"], counts["annotated awe"]) == (2, 2, 2)
    assert counts["images that cannot be decoded"] == 1
    assert (counts["examples in test"], counts["examples in train"]) == (1, 1)
    assert "half.jpg" in str(table)


def test_options_are_checked(examples_task: BuildTask) -> None:
    task = examples_task(AWE)
    wrong = Task("t", "jsonl", EMOTIONS, options={"example": "x"}, source=task.source)
    with pytest.raises(UserError, match="unknown option 'example'; did you mean examples"):
        JsonlReader(wrong, Path())
    with pytest.raises(UserError, match="option 'examples' must be text, got None"):
        list(JsonlReader(Task("t", "jsonl", EMOTIONS), Path()).examples())
    with pytest.raises(UserError, match="needs no preparing"):
        JsonlReader(task, Path()).prepare(Path("a"), Path("b"))


texts = st.text(min_size=1).filter(str.strip)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(EMOTIONS), texts), min_size=1, max_size=5), texts, texts)
def test_round_trip(examples_task: BuildTask, annotations: list[tuple[str, str]], example_id: str, style: str) -> None:
    line = {
        "id": example_id,
        "image": "a.png",
        "annotations": [{"emotion": e, "explanation": x} for e, x in annotations],
        "meta": {"style": style},
    }
    (example,) = read(examples_task(line))
    assert (example.id, example.meta["style"]) == (example_id, style)
    assert [(a.emotion, a.explanation) for a in example.annotations] == annotations
    assert sum(example.emotion_histogram.values()) == len(annotations)


def test_readers_registry_targets_are_readers() -> None:
    from importlib import import_module

    from harness.tasks import READERS

    for target in READERS.values():
        module, _, name = target.partition(":")
        assert issubclass(getattr(import_module(module), name), Reader)


@pytest.mark.parametrize("annotation", [{"emotion": "awe"}, {"emotion": "awe", "explanation": ""}])
def test_data_of_labels_alone_need_no_explanation(examples_task: BuildTask, annotation: dict[str, str]) -> None:
    task = dataclasses.replace(examples_task(AWE | {"annotations": [annotation]}), explanations=False)
    (example,) = read(task)
    assert example.annotations == (Annotation("awe", ""),)
    with pytest.raises(UserError, match="explanation"):
        read(dataclasses.replace(task, explanations=True))


def test_ratings_are_those_of_the_card(examples_task: BuildTask) -> None:
    task = dataclasses.replace(
        examples_task(AWE | {"ratings": {"valence": 7, "arousal": 1.5}}), ratings={"valence": (1, 7), "arousal": (1, 9)}
    )
    (example,) = read(task)
    assert example.ratings == {"valence": 7.0, "arousal": 1.5}


@pytest.mark.parametrize(
    ("ratings", "says"),
    [
        ({}, "expected valence"),
        ({"valence": 8}, "valence must be a number from 1 to 7, got 8"),
        ({"valence": "4"}, "got '4'"),
        ({"valence": True}, "got True"),
        ({"valence": float("nan")}, "got nan"),
        ({"valence": 4, "arousal": 2}, "expected valence"),
        ([4], "expected valence"),
    ],
)
def test_ratings_off_the_card_are_refused(examples_task: BuildTask, ratings: object, says: str) -> None:
    task = dataclasses.replace(examples_task(AWE | {"ratings": ratings}), ratings={"valence": (1, 7)})
    assert read(dataclasses.replace(examples_task(AWE), ratings={"valence": (1, 7)}))[0].ratings == {}
    task = dataclasses.replace(examples_task(AWE | {"ratings": ratings}), ratings={"valence": (1, 7)})
    with pytest.raises(UserError, match="line 1: key 'ratings'") as caught:
        read(task)
    assert says in str(caught.value)


def test_ratings_that_no_card_declares_are_refused(examples_task: BuildTask) -> None:
    with pytest.raises(UserError, match="declares no `ratings`"):
        read(examples_task(AWE | {"ratings": {"valence": 4}}))


def test_images_may_be_absent(examples_task: BuildTask, tmp_path: Path) -> None:
    lines = [{"id": f"é/{i}", "annotations": [{"emotion": "awe", "explanation": "the light"}]} for i in range(3)]
    reader = JsonlReader(examples_task(*lines), tmp_path)
    examples = list(reader.examples())
    assert [e.id for e in examples] == ["é/0", "é/1", "é/2"]
    assert not any(e.image.exists() for e in examples)
    counts = reader.check().counts()
    assert (counts["images"], counts["examples without an image"]) == (0, 3)

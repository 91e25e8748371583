"""Statements: the right one was said about this image, the wrong ones about others that evoked the same emotion."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from harness.plan.registry import find_task, open_reader
from harness.tasks.readers.base import Reader
from harness.types import UserError

EMOTIONS = ("awe", "fear")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty test images in two styles, each with three utterances that name its number, and two for training."""
    lines = []
    for i in range(42):
        Image.new("RGB", (8, 8), (5 * i, 0, 0)).save(tmp_path / f"{i}.png")
        said = [{"emotion": EMOTIONS[i % 2], "explanation": f"thing {i} seen by {who}"} for who in "abc"]
        split, style = ("test", "old" if i < 20 else "new") if i < 40 else ("train", "old")
        lines.append(
            {"id": f"e{i}", "image": f"{i}.png", "split": split, "annotations": said, "meta": {"style": style}}
        )
    (tmp_path / "examples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "base.yaml").write_text(
        "name: base\ndataset: jsonl\nemotions: [awe, fear]\noptions: {examples: examples.jsonl}\n"
    )
    return tmp_path


def reader(folder: Path, options: str, labels: str) -> Reader:
    card = folder / "statements.yaml"
    card.write_text(
        f"name: statements\ndataset: statements\nexplanations: false\nemotions: {labels}\n"
        f"options: {{of: base.yaml, {options}}}\n"
    )
    return open_reader(find_task(str(card)), folder)


CHOICE = "[statement 1, statement 2, statement 3, statement 4]"


def test_the_right_statement_is_the_image_s_own_and_the_others_are_of_its_emotion(folder: Path) -> None:
    examples = list(reader(folder, "form: choice", CHOICE).examples("test"))
    assert len(examples) == 40
    for example in examples:
        place = int(example.annotations[0].emotion[-1]) - 1
        numbers = [int(s.explanation.split()[1]) for s in example.statements]
        own = int(example.id[1:])
        assert numbers[place] == own
        assert own not in numbers[:place] + numbers[place + 1 :]
        assert len(set(numbers)) == 4
        assert {s.emotion for s in example.statements} == {EMOTIONS[own % 2]}
        shown = example.context.splitlines()[place]
        assert shown == f"statement {place + 1}: {EMOTIONS[own % 2]} because {example.statements[place].explanation}"
    places = Counter(e.annotations[0].emotion for e in examples)
    assert min(places.values()) >= 4  # 10 expected of 40; 3 or fewer would be seen once in 100 draws


def test_true_and_false_are_half_and_false_ones_come_from_similar_images(folder: Path) -> None:
    made = reader(folder, "form: true-false, similar: style", '["true", "false"]')
    examples = list(made.examples("test"))
    assert Counter(e.annotations[0].emotion for e in examples) == {"true": 20, "false": 20}
    for example in examples:
        own, number = int(example.id[1:]), int(example.statements[0].explanation.split()[1])
        assert (own == number) == (example.annotations[0].emotion == "true")
        assert (own < 20) == (number < 20)


def test_wrong_statements_come_from_images_that_evoke_the_emotion_as_strongly_as_right_ones_do(folder: Path) -> None:
    """Of awe, 30 images hold five utterances and 30 hold one of five: a right one is of the first kind in 5 of 6 cases."""
    lines = []
    for i in range(60):
        emotions = ["awe"] * 5 if i < 30 else ["awe", *["fear"] * 4]
        said = [{"emotion": e, "explanation": f"thing {i} {e} {n}"} for n, e in enumerate(emotions)]
        lines.append({"id": f"e{i}", "image": f"{i % 42}.png", "split": "test", "annotations": said})
    (folder / "examples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    kinds: dict[str, list[bool]] = {"true": [], "false": []}
    for seed in range(30):
        for example in reader(folder, f"form: true-false, seed: {seed}", '["true", "false"]').examples("test"):
            (statement,) = example.statements
            if statement.emotion == "awe":
                kinds[example.annotations[0].emotion].append(int(statement.explanation.split()[1]) < 30)
    for strong in kinds.values():
        assert len(strong) > 400
        assert sum(strong) / len(strong) == pytest.approx(5 / 6, abs=0.05)  # drawn evenly, false ones give 1 / 2


def test_the_same_seed_draws_the_same_statements(folder: Path) -> None:
    drawn = [list(reader(folder, f"seed: {seed}", CHOICE).examples("test")) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_training_split_and_the_checkpoints_are_the_other_task_s(folder: Path) -> None:
    made = reader(folder, "form: choice", CHOICE)
    assert [e.id for e in made.examples("train")] == ["e40", "e41"]
    assert made.trained_task == "base"
    assert made.splits() == {"test": 40, "train": 2}


@pytest.mark.parametrize(
    ("options", "labels", "message"),
    [
        ("form: guess", CHOICE, "must be one of choice, true-false"),
        ("form: choice, distractors: 2", CHOICE, "expected 3 labels"),
        ("form: true-false", CHOICE, "expected 2 labels"),
    ],
)
def test_a_card_that_cannot_work_is_refused(folder: Path, options: str, labels: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        list(reader(folder, options, labels).examples("test"))


def test_a_task_of_statements_has_none_of_its_own(folder: Path) -> None:
    (folder / "base.yaml").write_text((folder / "base.yaml").read_text() + "explanations: false\n")
    with pytest.raises(UserError, match="must be a task with explanations"):
        list(reader(folder, "form: choice", CHOICE).examples("test"))

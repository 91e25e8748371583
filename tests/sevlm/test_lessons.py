"""What teachers say becomes targets: of the label head, of the decoder's emotion and of its words."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy
from tiny_training import LEXICON, make_examples, save_tower, tiny_recipe

from sevlm.config import SEVLMError
from sevlm.data import Collator, Lesson, PairSampler, TrainingExample
from sevlm.recipe import Recipe, TrainingConfig, prepare
from sevlm.train import train

SHARES = {"awe": 0.2, "fear": 0.5, "sadness": 0.3}
LESSON = Lesson("large", ("fear", "the dark is near"), SHARES)
OTHER = Lesson("larger", ("sadness", "it is cold"), {"sadness": 1.0})
SAID = (("awe", "it glows"), ("awe", "what a light"), ("fear", "it burns"))


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    (tmp_path / "lexicon.txt").write_text(LEXICON, encoding="utf-8")
    return tiny_recipe(save_tower(tmp_path / "tower"), tmp_path / "lexicon.txt", tmp_path / "features")


def unannotated(example: TrainingExample, *lessons: Lesson) -> TrainingExample:
    return dataclasses.replace(example, captions=(), lessons=lessons)


@pytest.mark.parametrize(
    ("captions", "lessons", "weight", "counts"),
    [
        (SAID, (), 1.0, {"awe": 2, "fear": 1}),
        (SAID, (LESSON,), 1.0, {"awe": 2.2, "fear": 1.5, "sadness": 0.3}),
        (SAID, (LESSON,), 2.5, {"awe": 2.5, "fear": 2.25, "sadness": 0.75}),
        (SAID, (LESSON, OTHER), 0.5, {"awe": 2.1, "fear": 1.25, "sadness": 0.65}),
        (SAID, (LESSON,), 0.0, {"awe": 2, "fear": 1}),
        ((), (LESSON,), 0.0, SHARES),
        ((), (LESSON,), 2.5, SHARES),
        ((), (LESSON, OTHER), 1.0, {"awe": 0.2, "fear": 0.5, "sadness": 1.3}),
    ],
)
def test_a_teacher_counts_as_so_many_annotators(
    captions: tuple[tuple[str, str], ...], lessons: tuple[Lesson, ...], weight: float, counts: dict[str, float]
) -> None:
    found = TrainingExample("a", Path("a.png"), captions, lessons=lessons).taught(weight)
    assert found.counts == pytest.approx(counts)
    heard = lessons if weight or not captions else ()
    assert found.captions == (*captions, *(lesson.caption for lesson in heard))
    assert found.lessons == heard


def test_annotators_whose_words_were_left_out_still_count() -> None:
    found = TrainingExample("a", Path("a.png"), SAID, {"awe": 3, "fear": 1}, lessons=(LESSON,)).taught(1.0)
    assert found.counts == pytest.approx({"awe": 3.2, "fear": 1.5, "sadness": 0.3})


def test_the_label_heads_loss_is_the_divergence_from_the_teacher(tmp_path: Path, recipe: Recipe) -> None:
    annotated, *rest = make_examples(tmp_path, 4)
    taught = [dataclasses.replace(annotated, lessons=(LESSON,)), *(unannotated(example, LESSON) for example in rest)]
    setup = prepare(recipe.updated({"teacher_weight": 2.0}), taught, [], tmp_path / "out", "cpu", progress=False)
    head = setup.model.label_head
    assert head is not None
    assert setup.model.config.labels == ("awe", "fear", "sadness")
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    pairs = PairSampler(setup.train.examples, "every-caption", seed=0).epoch(0)
    batch = Collator(setup.train, setup.store, "cpu")(pairs, random.Random(0)).to("cpu")
    with torch.no_grad():
        scores = head(batch.image_grid, batch.label_targets.meta).numpy()
        output = setup.model.eval()(
            batch.image_grid, batch.input_ids, batch.segment_ids, batch.vad, batch.labels,
            soft_labels=batch.soft_labels, label_targets=batch.label_targets,
        )  # fmt: skip
    # One person chose awe, one fear; the teacher counts as two more.
    wanted = {0: np.array([1 + 0.4, 1 + 1.0, 0.6]) / 4}
    targets = np.array([wanted.get(pair[0].image, np.array([0.2, 0.5, 0.3])) for pair in pairs])
    divergence = entropy(targets, softmax(scores, axis=1), axis=1)
    assert output.label_loss is not None
    assert output.label_loss.item() == pytest.approx((divergence + entropy(targets, axis=1)).mean(), rel=1e-5)


def test_the_decoders_emotion_is_scored_against_the_teachers_shares(tmp_path: Path, recipe: Recipe) -> None:
    taught = [unannotated(example, LESSON) for example in make_examples(tmp_path, 2)]
    setup = prepare(recipe, taught, [], tmp_path / "out", "cpu", progress=False)
    pairs = PairSampler(setup.train.examples, "every-caption", seed=0).epoch(0)
    soft = setup.train.soft_labels([pair[0] for pair in pairs])
    assert soft is not None
    first = soft.position.min()
    tokenizer = setup.model.tokenizer
    wanted: dict[int, float] = {}  # emotions may begin with one piece
    for emotion, share in SHARES.items():
        begin = tokenizer.encode(f" {emotion} because")[0]  # type: ignore[union-attr]
        wanted[begin] = wanted.get(begin, 0.0) + share
    assert len(wanted) > 1
    found = {
        int(token): float(share)
        for row, position, token, share in zip(*soft, strict=True)
        if row == 0 and position == first
    }
    assert found == pytest.approx(wanted)


@pytest.mark.slow
def test_pictures_that_nobody_annotated_are_learned_and_the_card_says_from_whom(tmp_path: Path, recipe: Recipe) -> None:
    examples = make_examples(tmp_path, 4)
    emotions = ("sadness", "contentment", "sadness", "contentment")
    taught = [
        unannotated(example, Lesson("large", (emotion, f"picture {example.id}"), {emotion: 0.9, "awe": 0.1}))
        for example, emotion in zip(examples, emotions, strict=True)
    ]
    people = make_examples(tmp_path, 8)[4:]
    settings = {"epochs": 60, "learning_rate": 1.0e-2, "label_learning_rate": 0.1, "label_weight_decay": 0.0}
    settings |= {"dropout": 0.0, "warmup_steps": 2, "n_best": 1, "max_new_tokens": 16}
    out = tmp_path / "out"
    sources = {"large": {"file": "large.jsonl", "sha256": "0ff1ce"}, "unheard": {"file": "unheard.jsonl"}}
    summary = train(recipe.updated(settings), [*taught, *people], [], out, "cpu", progress=False, teachers=sources)

    from PIL import Image

    from sevlm import SEVLM

    model = SEVLM.from_pretrained(out)
    answers = model.generate([Image.open(example.image_path) for example in examples], model.config.labels)
    assert tuple(answer.emotion for answer in answers) == emotions
    noted = [{"name": "large", "file": "large.jsonl", "sha256": "0ff1ce", "outcomes": 4}]
    assert summary["teachers"] == noted
    assert json.loads((out / "training.json").read_text(encoding="utf-8"))["teachers"] == noted
    assert summary["pictures_without_annotations"] == 4
    assert "teachers" in summary["departures_from_published"]
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "| learned from `large`, another model | 4 outcomes of large.jsonl, sha256 `0ff1ce` |\n" in card
    assert (
        "| pictures learned from models alone | 4; elsewhere each counts as `teacher_weight` 1 annotators |\n" in card
    )
    assert "unheard" not in card


@pytest.mark.slow
def test_a_card_without_teachers_says_nothing_of_them(tmp_path: Path, recipe: Recipe) -> None:
    summary = train(
        recipe.updated({"epochs": 1}), make_examples(tmp_path, 4), [], tmp_path / "out", "cpu", progress=False
    )
    assert summary["teachers"] == []
    assert "another model" not in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("settings", [{"mode": "official"}, {"soft_emotion_labels": False}])
def test_the_official_mode_learns_from_people_alone(
    tmp_path: Path, recipe: Recipe, settings: dict[str, object]
) -> None:
    taught = [unannotated(example, LESSON) for example in make_examples(tmp_path, 2)]
    changes = settings | {"lemmatizer": "simplemma", "label_meta": None}
    with pytest.raises(SEVLMError, match="need mode improved with soft_emotion_labels; add: mode=improved"):
        train(recipe.updated(changes), taught, [], tmp_path / "out", "cpu", progress=False)


def test_no_teacher_counts_against_itself() -> None:
    with pytest.raises(SEVLMError, match="teacher_weight must be at least 0, not -1"):
        TrainingConfig(teacher_weight=-1.0)

"""Pairs, anchors and negatives."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sevlm.config import SEVLMError
from sevlm.data import CaptionRef, PairSampler, TrainingExample, draw_negatives

EMOTIONS = ("awe", "fear", "sadness")


def example(name: str, *emotions: str) -> TrainingExample:
    captions = tuple((emotion, f"{name} {index}") for index, emotion in enumerate(emotions))
    return TrainingExample(name, Path(f"{name}.jpg"), captions)


EXAMPLES = [
    example("storm", "awe", "fear", "fear", "awe"),
    example("meadow", "sadness", "awe", "fear"),
    example("quiet", "awe", "awe"),
    example("alone", "fear"),
    example("harbour", "sadness", "awe"),
]

captions = st.lists(st.sampled_from(EMOTIONS), min_size=1, max_size=5)
collections = st.lists(captions, min_size=1, max_size=9).map(
    lambda lists: [example(str(i), *emotions) for i, emotions in enumerate(lists)]
)


def test_every_caption_is_anchor_once_per_lap() -> None:
    sampler = PairSampler(EXAMPLES, "every-caption", seed=3)
    for picture, painting in enumerate(EXAMPLES):
        laps = [
            next(first.caption for first, _ in sampler.epoch(epoch) if first.image == picture)
            for epoch in range(2 * len(painting.captions))
        ]
        assert Counter(laps) == dict.fromkeys(range(len(painting.captions)), 2)


def test_last_caption_is_the_published_sampling() -> None:
    sampler = PairSampler(EXAMPLES, "last-caption", seed=3)
    for epoch in range(4):
        pairs = sampler.epoch(epoch)
        assert sorted(first.image for first, _ in pairs) == [0, 1, 4]  # one emotion only: left out
        assert all(first.caption == len(EXAMPLES[first.image].captions) - 1 for first, _ in pairs)
    partners = {second.caption for epoch in range(30) for first, second in sampler.epoch(epoch) if first.image == 0}
    assert partners == {1, 2}  # never the other caption of the anchor's emotion


@settings(max_examples=80)
@given(examples=collections, epoch=st.integers(0, 50), seed=st.integers(0, 5))
def test_pairs_hold_for_any_data(examples: list[TrainingExample], epoch: int, seed: int) -> None:
    pairs = PairSampler(examples, "every-caption", seed).epoch(epoch)
    assert sorted(first.image for first, _ in pairs) == list(range(len(examples)))
    for first, second in pairs:
        painting = examples[first.image]
        assert second.image == first.image
        if len(painting.emotions) > 1:
            assert painting.captions[first.caption][0] != painting.captions[second.caption][0]
        elif len(painting.captions) > 1:
            assert first.caption != second.caption
    assert pairs == PairSampler(examples, "every-caption", seed).epoch(epoch)


@settings(max_examples=80)
@given(count=st.integers(1, 20), size=st.integers(1, 8))
def test_batches_keep_every_pair_and_leave_no_picture_alone(count: int, size: int) -> None:
    sampler = PairSampler([example(str(i), "awe", "fear") for i in range(count)], "every-caption", seed=0)
    batches = sampler.batches(0, size)
    assert [pair for batch in batches for pair in batch] == sampler.epoch(0)
    assert len(batches) == sampler.batch_count(size)
    if size > 1 and count > 1:
        assert all(len(batch) > 1 for batch in batches)


def test_seeds_and_epochs_differ() -> None:
    many = [example(str(i), "awe", "fear", "sadness") for i in range(30)]
    first = PairSampler(many, "every-caption", seed=0)
    assert first.epoch(0) != first.epoch(1)
    assert first.epoch(0) != PairSampler(many, "every-caption", seed=1).epoch(0)


@settings(max_examples=120)
@given(examples=collections, seed=st.integers(0, 5))
def test_negatives_are_wrong_explanations(examples: list[TrainingExample], seed: int) -> None:
    rows = [row for pair in PairSampler(examples, "every-caption", seed).epoch(0) for row in pair]
    emotions = [examples[row.image].captions[row.caption][0] for row in rows]
    negatives = draw_negatives(rows, emotions, random.Random(seed))
    if len(examples) == 1:
        assert negatives is None  # not its own negative
        return
    assert negatives is not None
    assert len(negatives.swap) == len(negatives.semantic) == len(rows)
    for index, row in enumerate(rows):
        swap, semantic = int(negatives.swap[index]), int(negatives.semantic[index])
        assert rows[semantic].image != row.image
        if len(examples[row.image].emotions) > 1:
            assert swap == index ^ 1
        else:
            assert rows[swap].image != row.image
        if any(other != emotions[index] for other in emotions):
            assert emotions[swap] != emotions[index]


def test_every_other_picture_can_be_the_semantic_negative() -> None:
    rows = [CaptionRef(picture, caption) for picture in range(3) for caption in range(2)]
    drawn: set[int] = set()
    for seed in range(50):
        negatives = draw_negatives(rows, ["awe", "fear"] * 3, random.Random(seed))
        assert negatives is not None
        drawn.add(int(negatives.semantic[0]))
    assert drawn == {2, 3, 4, 5}


def test_dominant_emotion_needs_more_than_half() -> None:
    assert example("a", "awe", "awe", "fear").dominant_emotion == "awe"
    assert example("a", "awe", "fear").dominant_emotion is None
    counted = TrainingExample("a", Path("a.jpg"), (("awe", "x"),), {"fear": 3, "awe": 2})
    assert counted.dominant_emotion == "fear"


def test_an_example_without_captions_is_refused() -> None:
    with pytest.raises(SEVLMError, match="'bare' has no caption"):
        example("bare")

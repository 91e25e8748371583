from __future__ import annotations

import dataclasses

import pytest
import torch

from sevlm.checkpoint import SEVLM
from sevlm.data import EmotionLabels, stack_soft
from sevlm.tokenization import encode_caption


def shares_by_hand(model: SEVLM, emotion: str, histogram: dict[str, int]) -> dict[tuple[int, int], float]:
    """Token by token: of the people whose emotion begins like this one, how many go on with each token?"""
    tokenizer = model.tokenizer
    start = 1 + len(tokenizer.encode(model.config.prompt))
    own = tokenizer.encode(f" {emotion} because")
    expected = {}
    for index in range(len(own)):
        agreeing = {
            e: n for e, n in histogram.items() if n and tokenizer.encode(f" {e} because")[:index] == own[:index]
        }
        tokens = {tokenizer.encode(f" {e} because")[index] for e in agreeing}
        for token in tokens if len(tokens) > 1 else ():
            said = sum(n for e, n in agreeing.items() if tokenizer.encode(f" {e} because")[index] == token)
            expected[start + index, token] = said / sum(agreeing.values())
    return expected


@pytest.mark.parametrize("emotion", ["awe", "fear", "something else", "amusement", "contentment"])
def test_shares_follow_the_annotators(tiny_model: SEVLM, emotion: str) -> None:
    histogram = {"awe": 3, "fear": 1, "something else": 2, "amusement": 1, "contentment": 4, "anger": 0}
    got = EmotionLabels(tiny_model.tokenizer, tiny_model.config)(emotion, histogram)
    assert {(position, token): share for position, token, share in got} == pytest.approx(
        shares_by_hand(tiny_model, emotion, histogram)
    )
    by_position: dict[int, float] = {}
    for position, _, share in got:
        by_position[position] = by_position.get(position, 0) + share
    assert list(by_position.values()) == pytest.approx([1.0] * len(by_position))
    ids = encode_caption(tiny_model.tokenizer, tiny_model.config, emotion, "x").input_ids
    assert all(any(token == ids[position] for p, token, _ in got if p == position) for position in by_position)


def test_agreement_needs_no_soft_label(tiny_model: SEVLM) -> None:
    labels = EmotionLabels(tiny_model.tokenizer, tiny_model.config)
    assert labels("awe", {"awe": 5}) == ()
    assert stack_soft([labels("awe", {"awe": 5})]) is None


def test_rows_are_stacked() -> None:
    soft = stack_soft([((4, 7, 0.5), (4, 8, 0.5)), (), ((5, 9, 1.0),)])
    assert soft is not None
    assert soft.row.tolist() == [0, 0, 2]
    assert soft.position.tolist() == [4, 4, 5]
    assert soft.token.tolist() == [7, 8, 9]
    torch.testing.assert_close(soft.share, torch.tensor([0.5, 0.5, 1.0]))


def test_a_weight_scales_every_token_of_the_emotion(tiny_model: SEVLM) -> None:
    config = dataclasses.replace(tiny_model.config, emotion_weight=4.0)
    histogram = {"awe": 3, "something else": 1}
    plain, weighted = (EmotionLabels(tiny_model.tokenizer, c)("awe", histogram) for c in (tiny_model.config, config))
    assert {(position, token): 4 * share for position, token, share in plain}.items() <= {
        (position, token): share for position, token, share in weighted
    }.items()
    positions = {position for position, _, _ in weighted}
    assert len(positions) == len(tiny_model.tokenizer.encode(" awe because"))
    assert sum(share for _, _, share in weighted) == pytest.approx(4 * len(positions))

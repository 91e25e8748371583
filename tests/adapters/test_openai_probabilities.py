from __future__ import annotations

import math
from typing import Any

import pytest

from harness.adapters.endpoint_reply import label_probabilities

LABELS = ("awe", "amusement", "fear", "something else", "sadness")


def token(text: str, **listed: float) -> Any:
    tops = [{"token": name.replace("_", " "), "logprob": math.log(p)} for name, p in listed.items()]
    return {"token": text, "top_logprobs": tops}


def test_a_label_of_one_token_among_others() -> None:
    tokens = [token("awe", awe=0.5, fear=0.25, _Sad=0.125, banana=0.125), token(" because")]
    found = label_probabilities(tokens, LABELS)
    assert found == pytest.approx(
        {"awe": 4 / 7, "fear": 2 / 7, "sadness": 1 / 7, "amusement": 0.0, "something else": 0.0}
    )


def test_what_the_list_leaves_over_goes_to_labels_that_it_lacks() -> None:
    found = label_probabilities([token("fear", fear=0.8, awe=0.1, sad=0.06)], LABELS)
    assert found is not None
    # 0.04 are left for two labels: 0.02 each, less than the least listed 0.06
    assert found == pytest.approx({"fear": 0.8, "awe": 0.1, "sadness": 0.06, "amusement": 0.02, "something else": 0.02})
    assert sum(found.values()) == pytest.approx(1)
    bounded = label_probabilities([token("fear", fear=0.5, awe=0.01)], LABELS)
    assert bounded is not None
    assert bounded["sadness"] == pytest.approx(bounded["awe"])  # 0.49 left over, but nobody unlisted beats the listed


@pytest.mark.parametrize(
    "tokens",
    [
        [token('{"'), token("emotion"), token('":"'), token("fear", fear=0.75, awe=0.25), token('"')],
        [token('{"emotion":"fear"', **{'{"emotion":"fear"': 0.75, '{"emotion":"awe"': 0.25})],
        [token('{"emotion": "'), token('fear",', **{'fear",': 0.75, 'awe"': 0.25})],
    ],
)
def test_json_in_any_cut(tokens: list[Any]) -> None:
    found = label_probabilities(tokens, ("fear", "awe"))
    assert found == pytest.approx({"fear": 0.75, "awe": 0.25})


def test_a_beginning_that_several_labels_share_is_left_out_only_when_it_weighs_nothing() -> None:
    assert label_probabilities([token("fear", fear=0.7, s=0.3)], LABELS) is None
    found = label_probabilities([token("fear", fear=0.97, awe=0.02, s=0.01)], LABELS)
    assert found is not None
    assert found["fear"] > 0.95


def test_without_the_label_or_its_list_nothing_is_said() -> None:
    assert label_probabilities([token("Well,")], LABELS) is None
    assert label_probabilities([token("fear")], LABELS) is None
    assert label_probabilities([], LABELS) is None


def test_a_label_among_the_thoughts_is_not_the_place() -> None:
    thoughts = [token("<think>"), token("fear", fear=0.9, awe=0.1), token("?"), token("</think>"), token("\n")]
    found = label_probabilities([*thoughts, token("awe", awe=0.75, fear=0.25), token(" because")], ("awe", "fear"))
    assert found == pytest.approx({"awe": 0.75, "fear": 0.25})

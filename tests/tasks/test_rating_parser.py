from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.tasks.parser.ratings import read_ratings

SCALES = {"valence": (1.0, 7.0), "arousal": (1.0, 7.0)}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Valence: 4.5, arousal = 2", {"valence": 4.5, "arousal": 2.0}),
        ('{"valence": 3, "arousal": 6}', {"valence": 3.0, "arousal": 6.0}),
        ("**Valence**: 5\n**Arousal** (1-7): 3.", {"valence": 5.0, "arousal": 3.0}),
        ("a valence rating of 3 and an arousal score of 5", {"valence": 3.0, "arousal": 5.0}),
        ("valence 9, arousal 2", {"arousal": 2.0}),  # outside its scale
        ("the valence is 3 ... so valence: 4, arousal: 1", {"arousal": 1.0}),  # contradicts itself
        ("valence: 3, and again valence: 3", {"valence": 3.0}),
        ("valence: high, arousal: n/a", {}),
        ("7 paintings of arousal", {}),
        ("", {}),
    ],
)
def test_what_is_stated(raw: str, expected: dict[str, float]) -> None:
    assert read_ratings(raw, SCALES) == expected


def test_negative_scales() -> None:
    assert read_ratings("valence: -2, arousal: \u22121", {"valence": (-3, 3), "arousal": (-3, 3)}) == {
        "valence": -2.0,
        "arousal": -1.0,
    }


@given(st.text(), st.floats(1, 7).map(lambda x: round(x, 2)))
def test_any_text_is_survived_and_a_line_at_its_end_is_read(text: str, value: float) -> None:
    assert read_ratings(text.replace("arousal", ""), SCALES).keys() <= {"valence"}
    told = read_ratings(f"awe because it shines\nvalence: {value}, arousal: {value}", SCALES)
    assert told == {"valence": value, "arousal": value}

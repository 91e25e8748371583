from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.tasks.readers.artemis_text import tokens


@pytest.mark.parametrize(
    ("utterance", "expected"),
    [
        ("I can't see, it's DARK!!", "i can not see it is dark"),
        ("She'd leave; he won't.", "she had leave he will not"),
        ("The artist's 'odd' choice", "the artist 's odd choice"),
        ('a "red" sky-line/tree', "a red sky line tree"),
        ("the spirit's eye", "the spirit is eye"),
        ("LET'S go, y'all!", "let us go you all"),
        ("they could've, (maybe) I'd've", "they could have ( maybe ) i d ve"),  # 'd' reads as a quoted word
        ("one\r\ntwo\u2028three", "one two three"),
        ("?!...", ""),
    ],
)
def test_cleaning_follows_the_official_steps(utterance: str, expected: str) -> None:
    assert " ".join(tokens(utterance)) == expected


@given(st.text())
def test_cleaned_text_is_one_line_of_lower_case_tokens(utterance: str) -> None:
    cleaned = tokens(utterance)
    assert all(token and not any(c.isspace() for c in token) for token in cleaned)
    assert " ".join(cleaned).split() == cleaned
    assert not set("".join(cleaned)) & set(".?!,:;/\\-~*_=[]{}$^@|%#<>")

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.tasks.parser import SYNONYMS, parse_answer
from harness.types import Answer, Failed, Refusal, Unparsed, Usage

ARTEMIS = (
    "amusement",
    "awe",
    "contentment",
    "excitement",
    "anger",
    "disgust",
    "fear",
    "sadness",
    "something else",
)
CORPUS = [json.loads(line) for line in (Path(__file__).parent / "raw_answers.jsonl").read_text("utf-8").splitlines()]

words = st.text(string.ascii_lowercase, min_size=1, max_size=8)
label_sets = st.lists(st.lists(words, min_size=1, max_size=3).map(" ".join), min_size=1, max_size=6, unique=True)
sentences = st.text("ÄÖéßжΩ09 .,!?'’-", min_size=1).map(lambda text: f"Ω{text.strip()}")
"""Explanations that hold no label of `label_sets` and no mark."""
pieces = st.sampled_from(
    [
        *ARTEMIS,
        "because",
        "Emotion:",
        "Explanation:",
        "**",
        "\n",
        "{",
        '{"emotion": "awe"',
        "evokes",
        "feel",
        "1.",
        ",",
        "not",
    ]
)


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case["raw"][:40] or "empty")
def test_corpus_of_raw_answers(case: Mapping[str, Any]) -> None:
    outcome = parse_answer(case["raw"], ARTEMIS, truncated=case.get("truncated", False))
    assert type(outcome).__name__.lower() == case["kind"]
    assert outcome.raw == case["raw"]
    if isinstance(outcome, Answer):
        assert (outcome.emotion, outcome.explanation) == (case["emotion"], case["explanation"])


def test_the_corpus_is_large_and_covers_every_kind() -> None:
    assert len(CORPUS) >= 60
    assert {case["kind"] for case in CORPUS} == {"answer", "refusal", "unparsed", "failed"}
    assert {case["emotion"] for case in CORPUS if case["kind"] == "answer"} == set(ARTEMIS)


@given(st.text() | st.lists(pieces | st.text(max_size=5)).map(" ".join), st.lists(st.text(), max_size=5), st.booleans())
def test_never_raises_and_never_invents_a_label(raw: str, labels: list[str], truncated: bool) -> None:
    for label_set, explained in ((labels, True), (ARTEMIS, True), (ARTEMIS, False)):
        outcome = parse_answer(raw, label_set, truncated=truncated, explained=explained)
        assert outcome.raw == raw
        if isinstance(outcome, Answer):
            assert outcome.emotion in label_set
            assert outcome.explanation or not explained


@given(label_sets, st.data(), sentences)
def test_label_because_explanation_round_trips(labels: list[str], data: st.DataObject, explanation: str) -> None:
    label = data.draw(st.sampled_from(labels))
    outcome = parse_answer(f"{label} because {explanation}", labels)
    assert isinstance(outcome, Answer)
    assert (outcome.emotion, outcome.explanation) == (label, explanation)


@given(label_sets, st.data())
def test_json_round_trips(labels: list[str], data: st.DataObject) -> None:
    label = data.draw(st.sampled_from(labels))
    explanation = data.draw(st.text(min_size=1).map(str.strip).filter(bool))
    outcome = parse_answer(json.dumps({"emotion": label, "explanation": explanation}), labels)
    assert isinstance(outcome, Answer)
    assert (outcome.emotion, outcome.explanation) == (label, explanation)


@pytest.mark.parametrize(
    "raw", ["awe", "Awe.", "**Awe**", '{"emotion": "awe"}', "Emotion: awe", "<think>is it fear?</think>awe", "1. Awe"]
)
def test_a_bare_label_answers_only_where_people_gave_labels_alone(raw: str) -> None:
    assert isinstance(parse_answer(raw, ARTEMIS), Unparsed)
    alone = parse_answer(raw, ARTEMIS, explained=False)
    assert isinstance(alone, Answer)
    assert (alone.emotion, alone.explanation, alone.raw) == ("awe", "", raw)


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case["raw"][:40] or "empty")
def test_without_the_need_to_explain_no_answer_is_read_otherwise(case: Mapping[str, Any]) -> None:
    truncated = case.get("truncated", False)
    strict = parse_answer(case["raw"], ARTEMIS, truncated=truncated)
    lenient = parse_answer(case["raw"], ARTEMIS, truncated=truncated, explained=False)
    if isinstance(strict, Answer):
        assert lenient == strict
    elif isinstance(lenient, Answer):
        assert isinstance(strict, Unparsed | Failed)
        assert lenient.explanation == ""


@pytest.mark.parametrize("raw", ["", "a man on a hill", "awe or fear", "I cannot say."])
def test_what_names_no_single_label_is_no_answer_anywhere(raw: str) -> None:
    assert not isinstance(parse_answer(raw, ARTEMIS, explained=False), Answer)


@given(st.permutations(ARTEMIS))
def test_the_order_of_the_labels_changes_nothing(labels: list[str]) -> None:
    for case in CORPUS[::7]:
        truncated = case.get("truncated", False)
        expected = parse_answer(case["raw"], ARTEMIS, truncated=truncated)
        assert parse_answer(case["raw"], labels, truncated=truncated) == expected


@pytest.mark.parametrize("word", sorted({word for row in SYNONYMS for word in row}))
def test_each_synonym_answers_for_the_first_word_of_its_row(word: str) -> None:
    rows = [row[0] for row in SYNONYMS if word in row]
    outcome = parse_answer(f"{word} because of the light", [row[0] for row in SYNONYMS])
    assert isinstance(outcome, Answer)
    assert [outcome.emotion] == rows


def test_labels_that_contain_one_another() -> None:
    labels = ("joy", "joy of life", "quiet joy", "else", "something else")
    for label in labels:
        outcome = parse_answer(f"The painting evokes {label} because of the dance.", labels)
        assert isinstance(outcome, Answer)
        assert outcome.emotion == label


def test_a_word_that_is_a_label_itself_is_no_synonym() -> None:
    outcome = parse_answer("happiness because they dance", ("joy", "happiness"))
    assert isinstance(outcome, Answer)
    assert outcome.emotion == "happiness"
    assert isinstance(parse_answer("happy because they dance", ("joy", "happiness")), Unparsed)


def test_names_that_only_case_tells_apart_are_never_answered() -> None:
    assert isinstance(parse_answer("awe because of the sky", ("Awe", "awe")), Unparsed)


def test_a_label_outside_the_task_is_not_answered() -> None:
    assert isinstance(parse_answer("awe because of the sky", ("joy", "grief")), Unparsed)


def test_usage_is_kept_in_every_kind() -> None:
    usage = Usage(latency_s=0.5, prompt_tokens=7, completion_tokens=3)
    outcomes = [
        parse_answer("awe because x", ARTEMIS, usage),
        parse_answer("I'm sorry, I can't.", ARTEMIS, usage),
        parse_answer("", ARTEMIS, usage),
        parse_answer("", ARTEMIS, usage, truncated=True),
    ]
    assert [type(outcome) for outcome in outcomes] == [Answer, Refusal, Unparsed, Failed]
    assert all(outcome.usage == usage for outcome in outcomes)

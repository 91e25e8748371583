from __future__ import annotations

import json
import string
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.redact import redact_text
from harness.tasks.parser import SYNONYMS, label_place, parse_answer
from harness.tasks.parser.objects import Scalar, read_objects
from harness.tasks.parser.ratings import read_ratings
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


def read(case: Mapping[str, Any], **settings: bool) -> Answer | Refusal | Unparsed | Failed:
    labels = tuple(case.get("labels", ARTEMIS))
    given = {"truncated": case.get("truncated", False), "explained": case.get("explained", True)} | settings
    return parse_answer(case["raw"], labels, **given)


def test_the_corpus_of_raw_answers_is_read_as_a_person_reads_it() -> None:
    """Each text with what a reader understands; `cut` and `thinks` say what the outcome must tell beside that."""
    wrong = []
    for case in CORPUS:
        outcome = read(case)
        assert outcome.raw == case["raw"]
        got: dict[str, Any] = {"kind": type(outcome).__name__.lower()}
        if isinstance(outcome, Answer):
            got |= {"emotion": outcome.emotion, "explanation": outcome.explanation, "cut": outcome.truncated}
        if isinstance(outcome, Unparsed) and "reason" in case:
            got["reason"] = outcome.reason
        got |= {"thinks": bool(outcome.reasoning)} if "thinks" in case else {}
        known = {key: case[key] for key in ("kind", "emotion", "explanation", "reason", "cut", "thinks") if key in case}
        expected = ({"cut": False} if case["kind"] == "answer" else {}) | known
        if got != expected:
            wrong.append(f"{case['family']}/{case['form']} {case['raw'][:80]!r}: {got}, expected {expected}")
    assert not wrong, "\n".join(wrong)


def test_the_corpus_is_large_and_covers_every_kind() -> None:
    assert len(CORPUS) >= 1000
    assert {case["kind"] for case in CORPUS} == {"answer", "refusal", "unparsed", "failed"}
    assert {case["emotion"] for case in CORPUS if case["kind"] == "answer"} >= set(ARTEMIS)
    assert all(case["family"] and case["form"] for case in CORPUS)


LOOPS = [
    *(
        "awe, ",
        "awe and ",
        "awe, fear, ",
        f"{', '.join(ARTEMIS)}, ",
        "fear. ",
        "awe because ",
        "I feel sad. ",
        "not awe ",
    ),
    *(
        "*",
        '"',
        "[",
        "{",
        "{{",
        "> \n",
        "\n",
        "\t",
        "\x1f",
        "}",
        ")",
        "|",
        "`",
        "\\",
        '\\"',
        "(",
        "'",
        ",",
        ": ",
        "é",
        "😀",
        "敬畏",
    ),
    *("<think>", "</think>", "<x>", "<a b=", "<answer>", "</answer>", "<|im_end|>", "<|channel|>", "assistantfinal"),
    *(
        "\\boxed{",
        "```\n",
        "<emotion>",
        "[emotion] ",
        "&lt;",
        "USER: ",
        "\nUser: x",
        "<|im_start|>user\n",
        "analysis\n",
    ),
    *('{"a":', '{"emotion": "awe", ', '{"a":[', '"emotion": "', "{'emotion': '", '", "a": ', '"} ', "[{", "“", "//"),
    *(
        "Emotion: ",
        "Emotion: awe\n",
        "explanation: ",
        "| a |\n",
        "|---|\n",
        "## ",
        "**Emotion** ",
        "confidence: 90% ",
        "a: ",
    ),
    *(
        "valence: ",
        "valence: 0.8 ",
        "valence, arousal",
        "0,",
        "(1-7) ",
        "sorry ",
        "i can't ",
        "something ",
        "and ",
        "very ",
    ),
    *(
        "\\text{",
        "\\textbf{awe}",
        "$",
        "$awe$ ",
        "not because it is large, ",
        "awe, not because ",
        "awe over fear ",
        "not fear but ",
        "it's awe, ",
        "if it were ",
        "I would feel awe if ",
    ),
    *(
        '<a emotion="awe" ',
        '<awe b="c">',
        "<box>(1,2)</box>",
        "<ref>",
        "<loc_1>",
        '"awe" + ',
        '{"a": "b" + ',
        "> Thinking: awe\n",
        "awe\t",
        "nine ",
        "9-point scale ",
    ),
    *(
        "i must have need to ",
        "no image was ",
        "as an ai a ",
        "ich kann ",
        "n't ",
        "it is hard not to feel ",
        "- fear, because ",
    ),
]
"""Tokens of the parser's grammar, which small models repeat until their limit."""
MOST_CPU_S = 10.0
"""Generous: the worst takes 0.2 s of an idle core; before, 80 characters took minutes."""


def cpu_seconds(text: str) -> float:
    started = time.process_time()
    parse_answer(text, ARTEMIS, truncated=True)
    label_place(text, ARTEMIS)
    read_ratings(text, {"valence": (0.0, 1.0)})
    redact_text(text)
    return time.process_time() - started


@pytest.mark.parametrize("token", LOOPS)
def test_a_loop_of_any_token_is_read_in_no_time(token: str) -> None:
    assert cpu_seconds((token * 19_990)[:19_990]) < MOST_CPU_S


@settings(max_examples=settings().max_examples // 3)
@given(
    st.lists(st.sampled_from(LOOPS), min_size=1, max_size=4).map("".join),
    st.text(max_size=5),
    st.sampled_from((19_900, 100_000)),
)
def test_a_long_loop_of_several_tokens_is_read_in_no_time(token: str, tail: str, length: int) -> None:
    assert cpu_seconds((token * length)[:length] + tail) < MOST_CPU_S


def test_a_huge_text_is_refused_at_once() -> None:
    started = time.process_time()
    outcome = parse_answer("{" * 10_000_000, ARTEMIS)
    assert isinstance(outcome, Unparsed)
    assert outcome.reason == "too long"
    assert read_ratings("\\text{" * 1_500_000, {"valence": (0.0, 1.0)}) == {}
    assert time.process_time() - started < MOST_CPU_S


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


def test_without_the_need_to_explain_no_answer_is_read_otherwise() -> None:
    for case in CORPUS:
        strict, lenient = read(case, explained=True), read(case, explained=False)
        if isinstance(strict, Answer):
            assert isinstance(lenient, Answer)
            assert lenient.emotion == strict.emotion
        elif isinstance(lenient, Answer):
            assert isinstance(strict, Unparsed | Failed)
            assert lenient.explanation == ""


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        ("There is danger, and discontentment.\nEmotion: contentment", "contentment"),
        ('{"explanation": "no fear, no anger", "emotion": "anger"}', "anger"),
        ("<think>awe? awe!</think>Awe because awe is what I feel", "Awe"),
        ("◁think▷fear◁/think▷\n**sad** because it rains", "sad"),
        ("\\boxed{awe}, because the awe is mine", "awe"),
    ],
)
def test_the_place_of_a_label_is_the_one_that_is_read(raw: str, named: str) -> None:
    place = label_place(raw, ARTEMIS)
    assert place is not None
    assert raw[slice(*place)] == named
    assert place[0] == {"sad": raw.find("sad"), "Awe": raw.find("Awe"), "awe": raw.find("awe")}.get(
        named, raw.rfind(named)
    )


def test_a_label_in_another_spelling_has_no_place() -> None:
    assert label_place('{"answer": "{\\"emotion\\": \\"awe\\", \\"why\\": \\"x\\"}"}', ARTEMIS) is None
    assert label_place("awe or fear", ARTEMIS) is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3), max_leaves=5
    )
)
def test_strict_json_is_read_as_json_reads_it(value: object) -> None:
    text = json.dumps({"emotion": "awe", "explanation": value, "more": {"x": value}})
    (record,) = read_objects(text)
    assert record.is_whole
    assert record.end == len(text)
    if isinstance(value, str):
        kept = dict(record.pairs)["explanation"]
        assert isinstance(kept, Scalar)
        assert kept.text == value


@pytest.mark.parametrize("raw", ["", "a man on a hill", "awe or fear", "I cannot say."])
def test_what_names_no_single_label_is_no_answer_anywhere(raw: str) -> None:
    assert not isinstance(parse_answer(raw, ARTEMIS, explained=False), Answer)


@settings(max_examples=10)
@given(st.permutations(ARTEMIS))
def test_the_order_of_the_labels_changes_nothing(labels: list[str]) -> None:
    for case in CORPUS[::17]:
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

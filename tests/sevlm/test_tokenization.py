from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevlm.checkpoint import SEVLM
from sevlm.config import SEVLMConfig, SEVLMError
from sevlm.tokenization import (
    ADDED_TOKENS,
    IGNORE_INDEX,
    config_for_tokenizer,
    decode,
    encode_caption,
    encode_label,
    encode_prompt,
    load_tokenizer,
    lookup_words,
    special_ids,
    split_caption,
    train_bpe,
)


@pytest.fixture(scope="module")
def recorded(golden: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((golden / "tokenization.json").read_text(encoding="utf-8"))
    return content


def test_training_captions_equal_those_of_the_released_loader(official_model: SEVLM, recorded: dict[str, Any]) -> None:
    rows = [row for item in recorded["train_items"] for row in item["rows"]]
    assert len(rows) == 48
    for row in rows:
        got = encode_caption(official_model.tokenizer, official_model.config, row["emotion"], row["explanation"])
        assert list(got.input_ids) == row["input_ids"]
        assert list(got.labels) == row["labels"]
        assert list(got.segment_ids) == row["segment_ids"]
        assert list(got.words) == row["words_for_vad"]


def test_prompts_and_decoded_strings_equal_the_recorded_ones(official_model: SEVLM, recorded: dict[str, Any]) -> None:
    tokenizer, config = official_model.tokenizer, official_model.config
    prompt = encode_prompt(tokenizer, config)
    for item in recorded["eval_items"]:
        assert (list(prompt.input_ids), list(prompt.segment_ids)) == (item["input_ids"], item["segment_ids"])
        assert list(prompt.words) == item["words_for_vad"]
    for case in recorded["strings"]:
        assert decode(tokenizer, case["ids"]) == case["decoded"]
        assert lookup_words(tokenizer, config, case["ids"]) == case["single_token_decodes"]


def test_recorded_captions_split_as_in_the_released_code(golden: Path) -> None:
    cases = json.loads((golden / "scripted_decode.json").read_text(encoding="utf-8"))
    assert len(cases) > 10
    for case in cases:
        assert split_caption(case["caption_full"])[1] == case["caption_exp"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("awe because the sky glows", ("awe", "the sky glows")),
        ("something else because i do not know", ("something else", "i do not know")),
        ("awe because a because b", ("awe", "b")),
        ("awebecause x", ("awe", "x")),
        ("awe the waves are high", ("awe the waves are high", "waves are high")),
        ("because", ("", "")),
        ("", ("", "")),
    ],
)
def test_split_caption(text: str, expected: tuple[str, str]) -> None:
    assert split_caption(text) == expected


captions = st.text(alphabet="abcdefgh waves é’.,'-\n\t本", max_size=120)


@given(emotion=st.sampled_from(["awe", "something else", "zest"]), explanation=captions)
def test_captions_are_cut_and_padded_and_labelled_consistently(
    official_model: SEVLM, emotion: str, explanation: str
) -> None:
    tokenizer, config = official_model.tokenizer, official_model.config
    got = encode_caption(tokenizer, config, emotion, explanation)
    ids, labels, segments = got.input_ids, got.labels, got.segment_ids
    assert len(ids) == len(labels) == len(segments) == len(got.words) == config.max_length
    assert labels[0] == IGNORE_INDEX
    for token, label in zip(ids[1:], labels[1:], strict=True):
        assert label == (IGNORE_INDEX if token == config.pad_token_id else token)
    assert list(segments) == sorted(segments)  # <emotion> before <explanation>
    ended = config.bos_token_id in ids[1:]
    assert ended is not got.truncated


@given(captions)
def test_words_never_depend_on_pieces_to_come(official_model: SEVLM, text: str) -> None:
    tokenizer = official_model.tokenizer
    config = dataclasses.replace(official_model.config, vad_lookup="word")
    ids = tokenizer.encode(text)
    words = lookup_words(tokenizer, config, ids)
    assert len(words) == len(ids)
    for length in range(len(ids)):
        assert lookup_words(tokenizer, config, ids[:length]) == words[:length]


def test_the_last_piece_of_a_word_stands_for_the_whole_word(official_model: SEVLM) -> None:
    tokenizer = official_model.tokenizer
    config = dataclasses.replace(official_model.config, vad_lookup="word")
    ids = tokenizer.encode("the emotion is awe because mountains, glow-worms and cats' dogs<|endoftext|><pad>")
    words = lookup_words(tokenizer, config, ids)
    assert {"mountains", "glow-worms", "cats", "dogs", "<|endoftext|>", "<pad>"} <= set(words)
    assert not {"mountains,", "cats'"} & set(words)


def test_a_prefix_comes_first_and_is_never_a_label(official_model: SEVLM) -> None:
    config = dataclasses.replace(official_model.config, prefix_length=2)
    plain = encode_caption(official_model.tokenizer, official_model.config, "awe", "the sky")
    got = encode_caption(official_model.tokenizer, config, "awe", "the sky")
    assert got.input_ids == (config.prefix_token_id,) * 2 + plain.input_ids[:-2]
    assert got.segment_ids == (config.prefix_token_id,) * 2 + plain.segment_ids[:-2]
    assert got.labels == (IGNORE_INDEX,) * 2 + plain.labels[:-2]


def test_a_label_is_scored_from_its_first_piece_to_because(official_model: SEVLM) -> None:
    tokenizer = official_model.tokenizer
    got = encode_label(tokenizer, official_model.config, "something else")
    scored = [token for token in got.labels if token != IGNORE_INDEX]
    assert tokenizer.decode(scored) == " something else because"
    assert got.segment_ids[-1] == official_model.config.explanation_token_id
    assert set(got.segment_ids[:-1]) == {official_model.config.emotion_token_id}


def test_special_tokens_are_added_in_the_released_order_and_recorded() -> None:
    tokenizer = train_bpe(["the emotion is awe because the sky glows"] * 3, 300)
    ids = special_ids(tokenizer)
    assert list(ids) == list(range(ids[0], ids[0] + 5))
    assert tokenizer.convert_ids_to_tokens(list(ids))[1:] == list(ADDED_TOKENS)
    config = config_for_tokenizer(SEVLMConfig(), tokenizer)
    assert config.vocab_size == len(tokenizer)
    assert config.explanation_token_id == ids[-1]


def test_a_tokenizer_without_special_tokens_is_refused(official_model: SEVLM, tmp_path: Path) -> None:
    from transformers import GPT2Tokenizer

    plain = GPT2Tokenizer(vocab={"a": 0, "<|endoftext|>": 1}, merges=[])
    plain.save_pretrained(str(tmp_path))
    with pytest.raises(SEVLMError, match="lacks <pad>, <prefix>"):
        load_tokenizer(tmp_path)


def test_a_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SEVLMError, match="no tokenizer in"):
        load_tokenizer(tmp_path / "absent")

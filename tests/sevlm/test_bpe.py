"""A vocabulary trained on captions: any text survives, and it is saved as a GPT-2 tokenizer."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sevlm.config import SEVLMConfig, SEVLMError
from sevlm.tokenization import (
    Tokenizer,
    because_id,
    caption_text,
    config_for_tokenizer,
    load_tokenizer,
    pretrained_gpt2,
    train_bpe,
)

EMOTIONS = ("awe", "fear", "contentment", "something else")
EXPLANATIONS = ("the tall waves look like mountains", "the waves are dark and the boat is small", "it looks calm")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    config = SEVLMConfig()
    texts = [caption_text(config, emotion, text) for emotion in EMOTIONS for text in EXPLANATIONS]
    return train_bpe(texts, 400)


def test_frequent_words_are_single_pieces(tokenizer: Tokenizer) -> None:
    assert tokenizer.tokenize(" because the waves") == ["Ġbecause", "Ġthe", "Ġwaves"]
    assert tokenizer.tokenize(" contentment") == ["Ġcontentment"]
    assert because_id(tokenizer) == tokenizer.encode(" because")[0] != tokenizer.unk_token_id


def test_special_tokens_come_last_and_fit_the_configuration(tokenizer: Tokenizer) -> None:
    config = config_for_tokenizer(SEVLMConfig(), tokenizer)
    ends = [config.bos_token_id, config.pad_token_id, config.prefix_token_id]
    ends += [config.emotion_token_id, config.explanation_token_id]
    assert ends == list(range(config.vocab_size - 5, config.vocab_size))
    assert len(tokenizer) == config.vocab_size <= 404


@settings(max_examples=150)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_text_survives(text: str, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


def test_a_saved_tokenizer_loads_the_same(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    text = " the emotion is awe because café — waves<|endoftext|><pad>"
    assert load_tokenizer(tmp_path).encode(text) == tokenizer.encode(text)
    assert load_tokenizer(tmp_path).get_vocab() == tokenizer.get_vocab()


def test_the_same_captions_give_the_same_vocabulary() -> None:
    texts = [f" the emotion is awe because {text}" for text in EXPLANATIONS]
    assert train_bpe(texts, 300).get_vocab() == train_bpe(texts, 300).get_vocab()


@pytest.mark.parametrize(("texts", "size", "told"), [([], 400, "no caption"), (["a"], 256, "more than 256")])
def test_what_cannot_be_trained_is_told(texts: list[str], size: int, told: str) -> None:
    with pytest.raises(SEVLMError, match=told):
        train_bpe(texts, size)


def test_a_missing_tokenizer_is_told(tmp_path: Path) -> None:
    with pytest.raises(SEVLMError, match="cannot be loaded"):
        pretrained_gpt2(str(tmp_path / "nothing"))

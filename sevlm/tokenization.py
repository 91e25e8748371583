"""From caption to token ids and back: special tokens, training captions, prompts, decoding rules.

A training caption is `<|endoftext|>` + the prompt + " " + emotion + " because " + explanation + `<|endoftext|>`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

from sevlm.config import SEVLMConfig
from sevlm.errors import SEVLMError

Tokenizer: TypeAlias = Any
"""A transformers tokenizer (GPT-2 byte-level BPE with the four added tokens)."""

IGNORE_INDEX = -100
"""Label of positions that no loss is computed on."""

END_TOKEN = "<|endoftext|>"
ADDED_TOKENS = ("<pad>", "<prefix>", "<emotion>", "<explanation>")
BECAUSE = "because"
BECAUSE_TOKEN = "Ġbecause"
"""The single BPE piece " because", at which decoding switches to the explanation segment."""

# What transformers 4 replaced after decoding; version 5 no longer does it for BPE, so the strings would differ.
_CLEAN_UP = (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't")
_CLEAN_UP_CLITICS = (" 'm", "'m"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re")


@dataclass(frozen=True, slots=True)
class EncodedCaption:
    """One caption, cut and padded to `config.max_length` = T.

    Attributes:
        input_ids: T token ids.
        labels: T token ids, unshifted; IGNORE_INDEX at prefix, bos and padding.
        segment_ids: T ids of `<prefix>`, `<emotion>` or `<explanation>` (padding counts as explanation).
        words: T words to look up in the VAD lexicon, one per token (see `config.vad_lookup`).
    """

    input_ids: tuple[int, ...]
    labels: tuple[int, ...]
    segment_ids: tuple[int, ...]
    words: tuple[str, ...]


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """Loads a tokenizer folder.

    Raises:
        SEVLMError: no tokenizer there, one without SEVLM's special tokens, or an empty one (which transformers 5
            makes without a word when the vocabulary file is missing).
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise SEVLMError(f"no tokenizer in {folder}: {str(error).splitlines()[0]}") from error
    special_ids(tokenizer)
    if not tokenizer.encode(BECAUSE):
        raise SEVLMError(f"the tokenizer in {folder} encodes everything to nothing: its vocabulary is missing")
    return tokenizer


def add_special_tokens(tokenizer: Tokenizer) -> None:
    """Adds `<pad>`, `<prefix>`, `<emotion>` and `<explanation>` to a plain GPT-2 tokenizer, in that order."""
    pad, *others = ADDED_TOKENS
    tokenizer.add_special_tokens({"pad_token": pad})
    tokenizer.add_tokens(others, special_tokens=True)


def special_ids(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Ids of `<|endoftext|>`, `<pad>`, `<prefix>`, `<emotion>` and `<explanation>`: each of them ends a caption.

    Raises:
        SEVLMError: a token is missing.
    """
    vocabulary = tokenizer.get_vocab()
    missing = [token for token in (END_TOKEN, *ADDED_TOKENS) if token not in vocabulary]
    if missing:
        raise SEVLMError(f"the tokenizer lacks {', '.join(missing)}; see sevlm.tokenization.add_special_tokens")
    return tuple(vocabulary[token] for token in (END_TOKEN, *ADDED_TOKENS))


def because_id(tokenizer: Tokenizer) -> int:
    """Id of the piece " because".

    A vocabulary without it gives the unknown token's id, as in the released code: GPT-2's is the end token, so
    that the segment then never switches within a caption.
    """
    return int(tokenizer.convert_tokens_to_ids(BECAUSE_TOKEN))


def config_for_tokenizer(config: SEVLMConfig, tokenizer: Tokenizer) -> SEVLMConfig:
    """The configuration with vocabulary size and special ids of this tokenizer."""
    end, pad, prefix, emotion, explanation = special_ids(tokenizer)
    return dataclasses.replace(
        config,
        vocab_size=len(tokenizer),
        bos_token_id=end,
        pad_token_id=pad,
        prefix_token_id=prefix,
        emotion_token_id=emotion,
        explanation_token_id=explanation,
    )


def encode_caption(tokenizer: Tokenizer, config: SEVLMConfig, emotion: str, explanation: str) -> EncodedCaption:
    """Encodes one training caption, cut at `config.max_length` (words and end token are lost) and padded to it."""
    first = _prompt_ids(tokenizer, config, f"{config.prompt} {emotion}")
    second = [*_ids(tokenizer, f" {BECAUSE} {explanation}"), config.bos_token_id]
    input_ids = (first + second)[: config.max_length]
    ignored = config.prefix_length + 1  # prefix and bos
    labels = [IGNORE_INDEX] * ignored + input_ids[ignored:]
    padding = config.max_length - len(input_ids)
    segments = _prompt_segments(config, len(first)) + [config.explanation_token_id] * config.max_length
    padded = input_ids + [config.pad_token_id] * padding
    return EncodedCaption(
        input_ids=tuple(padded),
        labels=tuple(labels + [IGNORE_INDEX] * padding),
        segment_ids=tuple(segments[: config.max_length]),
        words=tuple(_training_words(tokenizer, config, padded)),
    )


def encode_prompt(tokenizer: Tokenizer, config: SEVLMConfig) -> EncodedCaption:
    """Encodes the prompt that decoding starts from (not padded; its labels are all IGNORE_INDEX)."""
    input_ids = _prompt_ids(tokenizer, config, config.prompt)
    return EncodedCaption(
        input_ids=tuple(input_ids),
        labels=(IGNORE_INDEX,) * len(input_ids),
        segment_ids=tuple(_prompt_segments(config, len(input_ids))),
        words=tuple(_training_words(tokenizer, config, input_ids)),
    )


def encode_label(tokenizer: Tokenizer, config: SEVLMConfig, emotion: str) -> EncodedCaption:
    """Encodes prompt + emotion + " because" for scoring; labels cover the emotion and "because" only."""
    first = _prompt_ids(tokenizer, config, f"{config.prompt} {emotion}")
    second = _ids(tokenizer, f" {BECAUSE}")
    input_ids = first + second
    prompt = len(_prompt_ids(tokenizer, config, config.prompt))
    segments = _prompt_segments(config, len(first)) + [config.explanation_token_id] * len(second)
    return EncodedCaption(
        input_ids=tuple(input_ids),
        labels=tuple([IGNORE_INDEX] * prompt + input_ids[prompt:]),
        segment_ids=tuple(segments),
        words=tuple(lookup_words(tokenizer, config, input_ids)),
    )


def was_truncated(tokenizer: Tokenizer, config: SEVLMConfig, emotion: str, explanation: str) -> bool:
    """Whether `encode_caption` loses the end of this caption."""
    caption = f"{config.prompt} {emotion} {BECAUSE} {explanation}"
    return config.prefix_length + len(_ids(tokenizer, caption)) + 2 > config.max_length  # + bos and end


def lookup_words(tokenizer: Tokenizer, config: SEVLMConfig, ids: Sequence[int]) -> list[str]:
    """The word to look up for each token of a sequence that is being decoded; see `RunningWords`."""
    running = RunningWords(tokenizer, config)
    for token in ids:
        running.add(token)
    return running.words


class RunningWords:
    """The words to look up of a sequence that grows token by token.

    With `vad_lookup="piece"` the text of the token alone; with `"word"` the text of its word up to this token, so
    that the last piece stands for the whole word and nothing depends on pieces to come.

    Attributes:
        words: one per token so far.
    """

    def __init__(self, tokenizer: Tokenizer, config: SEVLMConfig) -> None:
        self.words: list[str] = []
        self._tokenizer = tokenizer
        self._by_piece = config.vad_lookup == "piece"
        self._open: list[int] = []  # tokens of the word that is not finished

    def add(self, token: int) -> None:
        """Append one token."""
        piece = _known_text(self._tokenizer, (token,))
        if self._by_piece:
            self.words.append(piece.lstrip())
            return
        self._open.append(token)
        word = _known_text(self._tokenizer, tuple(self._open)).strip()
        if len(self._open) > 1 and (piece[:1].isspace() or not _is_word(word)):
            self._open, word = [token], piece.strip()
        self.words.append(word)


def decode(tokenizer: Tokenizer, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
    """Text of token ids, with spaces before punctuation and clitics removed as transformers 4 did."""
    text: str = tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False)
    for spaced, joined in _CLEAN_UP + _CLEAN_UP_CLITICS:
        text = text.replace(spaced, joined)
    return text


@lru_cache(maxsize=200_000)
def _known_text(tokenizer: Tokenizer, ids: tuple[int, ...]) -> str:
    """`decode` of a word, of which captions have few different ones."""
    return decode(tokenizer, ids)


def split_caption(text: str) -> tuple[str, str]:
    """Splits a generated caption into (emotion, explanation).

    The released rules: the emotion stands before the first "because" and the explanation after the last one,
    as substrings; without any, the whole text is the emotion and the explanation is the text from its third word on.
    """
    emotion = text.split(BECAUSE)[0].strip()
    if BECAUSE in text:
        return emotion, text.split(BECAUSE)[-1].strip()
    return emotion, " ".join(text.split()[2:])


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False))


def _prompt_ids(tokenizer: Tokenizer, config: SEVLMConfig, text: str) -> list[int]:
    prefix = [config.prefix_token_id] * config.prefix_length
    return [*prefix, config.bos_token_id, *_ids(tokenizer, text)]


def _prompt_segments(config: SEVLMConfig, length: int) -> list[int]:
    prefix = [config.prefix_token_id] * config.prefix_length
    return prefix + [config.emotion_token_id] * (length - config.prefix_length)


def _training_words(tokenizer: Tokenizer, config: SEVLMConfig, ids: Sequence[int]) -> list[str]:
    if config.vad_lookup == "word":
        return lookup_words(tokenizer, config, ids)
    # The released training code looks up the byte-level piece itself, which differs from the decoded text only
    # outside ASCII ("âĢĻ" for "’"): neither is a word of a lexicon, but both are kept as they were.
    return [piece.replace("Ġ", "") for piece in tokenizer.convert_ids_to_tokens(list(ids))]


def _is_word(text: str) -> bool:
    """Letters, digits and hyphens; the last character may still be incomplete ("caf\ufffd")."""
    return text.rstrip("\ufffd").replace("-", "").isalnum()

"""From caption to token ids and back: special tokens, training captions, prompts, decoding rules.

A training caption is `<|endoftext|>` + the prompt + " " + emotion + " because " + explanation + `<|endoftext|>`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from sevlm.config import SEVLMConfig

Tokenizer: TypeAlias = Any
"""A transformers tokenizer (GPT-2 byte-level BPE with the four added tokens)."""

IGNORE_INDEX = -100
"""Label of positions that no loss is computed on."""


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
    """Loads a tokenizer folder and checks that it holds SEVLM's special tokens."""
    raise NotImplementedError


def add_special_tokens(tokenizer: Tokenizer) -> None:
    """Adds `<pad>`, `<prefix>`, `<emotion>` and `<explanation>` to a plain GPT-2 tokenizer, in that order."""
    raise NotImplementedError


def config_for_tokenizer(config: SEVLMConfig, tokenizer: Tokenizer) -> SEVLMConfig:
    """The configuration with vocabulary size and special ids of this tokenizer."""
    raise NotImplementedError


def encode_caption(tokenizer: Tokenizer, config: SEVLMConfig, emotion: str, explanation: str) -> EncodedCaption:
    """Encodes one training caption."""
    raise NotImplementedError


def encode_prompt(tokenizer: Tokenizer, config: SEVLMConfig) -> EncodedCaption:
    """Encodes the prompt that decoding starts from (not padded; its labels are all IGNORE_INDEX)."""
    raise NotImplementedError


def split_caption(text: str) -> tuple[str, str]:
    """Splits a generated caption into (emotion, explanation) at "because"."""
    raise NotImplementedError


def lookup_words(tokenizer: Tokenizer, config: SEVLMConfig, ids: Sequence[int]) -> list[str]:
    """The word to look up for each token of a sequence that is being decoded."""
    raise NotImplementedError

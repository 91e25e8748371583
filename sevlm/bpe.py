"""Tokenizers: GPT-2's own from the hub or a folder, or a byte-level BPE trained on the captions at hand.

A small decoder trained from scratch would spend most of its parameters on GPT-2's 50,257 pieces; a few thousand pieces
of its own captions serve it better.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sevlm.errors import SEVLMError
from sevlm.tokenization import Tokenizer, add_special_tokens

if TYPE_CHECKING:
    from sevlm.config import SEVLMConfig

END_OF_TEXT = "<|endoftext|>"
_BYTES = 256


def caption_text(config: SEVLMConfig, emotion: str, explanation: str) -> str:
    """The text of one training caption, without special tokens."""
    return f"{config.prompt} {emotion} because {explanation}"


def train_bpe(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Train a byte-level BPE in GPT-2's layout and add SEVLM's special tokens.

    Args:
        texts: training captions as `caption_text` gives them; any string can be encoded afterwards.
        vocabulary: pieces including `<|endoftext|>`, without the four tokens added after them; fewer come out of
            a small corpus.

    Raises:
        SEVLMError: a vocabulary too small for the 256 bytes, or no text.
    """
    from tokenizers import Tokenizer as BPE
    from tokenizers import models, pre_tokenizers, trainers
    from transformers import GPT2Tokenizer

    if vocabulary <= _BYTES:
        raise SEVLMError(f"a byte-level vocabulary needs more than {_BYTES} pieces, got {vocabulary}")
    corpus = list(texts)
    if not corpus:
        raise SEVLMError("no caption to train a tokenizer on")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - 1, min_frequency=2, initial_alphabet=alphabet, show_progress=False
    )
    trained = BPE(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.train_from_iterator(corpus, trainer)
    model = json.loads(trained.to_str())["model"]  # the only public form that has the merges
    vocab: dict[str, int] = model["vocab"]
    vocab[END_OF_TEXT] = len(vocab)  # last, as in GPT-2
    merges: Any = [tuple(merge) for merge in model["merges"]]
    tokenizer = GPT2Tokenizer(vocab=vocab, merges=merges)
    add_special_tokens(tokenizer)
    return tokenizer


def pretrained_gpt2(source: str) -> Tokenizer:
    """GPT-2's tokenizer from a hub id (`distilgpt2`) or a folder, with SEVLM's special tokens added.

    Raises:
        SEVLMError: it cannot be loaded, or loads empty.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise SEVLMError(f"tokenizer {source!r} cannot be loaded from a folder or the hub: {first}") from error
    if not tokenizer.encode(" because"):
        raise SEVLMError(f"tokenizer {source!r} encodes everything to nothing: its vocabulary was not found")
    add_special_tokens(tokenizer)
    return tokenizer

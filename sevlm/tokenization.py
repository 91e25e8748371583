"""From caption to token ids and back: tokenizers, special tokens, training captions, prompts, decoding rules.

A training caption is `<|endoftext|>` + the prompt + " " + emotion + " because " + explanation + `<|endoftext|>`.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

from sevlm.config import SEVLMConfig, SEVLMError, VADLookupUnit, first_line

Tokenizer: TypeAlias = Any
"""A transformers tokenizer (GPT-2 byte-level BPE with the four added tokens)."""

IGNORE_INDEX = -100
"""Label of positions that no loss is computed on."""

_BYTES = 256
END_TOKEN = "<|endoftext|>"
ADDED_TOKENS = ("<pad>", "<prefix>", "<emotion>", "<explanation>")
_AROUND_ADDED = re.compile(rf"\s*({'|'.join(ADDED_TOKENS)})\s*")
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
        truncated: whether the end of the caption was lost.
    """

    input_ids: tuple[int, ...]
    labels: tuple[int, ...]
    segment_ids: tuple[int, ...]
    words: tuple[str, ...]
    truncated: bool = False


# ---------------------------------------------------------------------------------------------- tokenizers


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """Loads the tokenizer of a checkpoint.

    Raises:
        SEVLMError: no tokenizer there, or one without SEVLM's special tokens.
    """
    tokenizer = _auto_tokenizer(str(folder), f"no tokenizer in {folder}", local_files_only=True)
    special_ids(tokenizer)
    return tokenizer


def pretrained_gpt2(source: str) -> Tokenizer:
    """GPT-2's tokenizer from a hub id (`distilgpt2`) or a folder, with SEVLM's special tokens added.

    Raises:
        SEVLMError: it cannot be loaded.
    """
    problem = f"tokenizer {source!r} cannot be loaded from a folder or the hub"
    tokenizer = _auto_tokenizer(source, problem, local_files_only=False)
    add_special_tokens(tokenizer)
    return tokenizer


def _auto_tokenizer(source: str, problem: str, local_files_only: bool) -> Tokenizer:
    from transformers import AutoTokenizer

    try:
        found = AutoTokenizer.from_pretrained(source, local_files_only=local_files_only, trust_remote_code=False)
    except Exception as error:  # the library tokenizers has no exceptions of its own
        raise SEVLMError(f"{problem}: {first_line(error)}") from error
    if not found.encode(BECAUSE):  # transformers 5 makes an empty one if the vocabulary file is missing
        raise SEVLMError(f"{problem}: its vocabulary is missing or empty")
    return found


def train_bpe(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Train a byte-level BPE in GPT-2's layout and add SEVLM's special tokens.

    A small decoder trained from scratch would spend most of its parameters on GPT-2's 50,257 pieces; a few thousand
    pieces of its own captions serve it better.

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
    vocab[END_TOKEN] = len(vocab)  # last, as in GPT-2
    merges: Any = [tuple(merge) for merge in model["merges"]]
    tokenizer = GPT2Tokenizer(vocab=vocab, merges=merges)
    add_special_tokens(tokenizer)
    return tokenizer


def add_special_tokens(tokenizer: Tokenizer) -> None:
    """Adds `<pad>`, `<prefix>`, `<emotion>` and `<explanation>` to a plain GPT-2 tokenizer, in that order."""
    pad, *others = ADDED_TOKENS
    tokenizer.add_special_tokens({"pad_token": pad})
    tokenizer.add_tokens(others, special_tokens=True)


@lru_cache(maxsize=8)  # `get_vocab` makes a dictionary of the whole vocabulary
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


# ------------------------------------------------------------------------------------------------ captions


def caption_text(config: SEVLMConfig, emotion: str, explanation: str) -> str:
    """The text of one training caption, without special tokens."""
    return f"{config.prompt} {emotion} {BECAUSE} {explanation}"


def encode_caption(tokenizer: Tokenizer, config: SEVLMConfig, emotion: str, explanation: str) -> EncodedCaption:
    """Encodes one training caption, cut at `config.max_length` (words and end token are lost) and padded to it."""
    first = _prompt_ids(tokenizer, config, f"{config.prompt} {emotion}")
    second = [*text_ids(tokenizer, f" {BECAUSE} {explanation}"), config.bos_token_id]
    whole = first + second
    input_ids = whole[: config.max_length]
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
        truncated=len(whole) > config.max_length,
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
    second = text_ids(tokenizer, f" {BECAUSE}")
    input_ids = first + second
    prompt = len(_prompt_ids(tokenizer, config, config.prompt))
    segments = _prompt_segments(config, len(first)) + [config.explanation_token_id] * len(second)
    return EncodedCaption(
        input_ids=tuple(input_ids),
        labels=tuple([IGNORE_INDEX] * prompt + input_ids[prompt:]),
        segment_ids=tuple(segments),
        words=tuple(lookup_words(tokenizer, config, input_ids)),
    )


def lookup_words(tokenizer: Tokenizer, config: SEVLMConfig, ids: Sequence[int]) -> list[str]:
    """The word to look up for each token of a sequence that is being decoded; see `next_word`."""
    unfinished: tuple[int, ...] = ()
    words = []
    for token in ids:
        unfinished, word = next_word(tokenizer, config.vad_lookup, unfinished, token)
        words.append(word)
    return words


@lru_cache(maxsize=200_000)  # captions have few different words
def next_word(
    tokenizer: Tokenizer, unit: VADLookupUnit, unfinished: tuple[int, ...], token: int
) -> tuple[tuple[int, ...], str]:
    """The word to look up for one token.

    With `piece` the text of the token alone; with `word` the text of its word up to this token, so that the last piece
    stands for the whole word and nothing depends on pieces to come.

    Args:
        unfinished: tokens of the word that this one may continue.

    Returns:
        Tokens of the word that the next one may continue, and the word.
    """
    piece = decode(tokenizer, (token,))
    if unit == "piece":
        return (), piece.lstrip()
    tokens = (*unfinished, token)
    word = decode(tokenizer, tokens).strip()
    letters = word.rstrip("\ufffd").replace("-", "")  # the last character may still be incomplete ("caf\ufffd")
    if unfinished and (piece[:1].isspace() or not letters.isalnum()):
        return (token,), piece.strip()
    return tokens, word


def decode(tokenizer: Tokenizer, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
    """Text of token ids, with a space beside each added token, and without the spaces before punctuation and clitics.

    Both are what transformers 4 did.
    """
    added = () if skip_special_tokens else special_ids(tokenizer)[1:]
    groups: list[list[int]] = []
    for token in ids:
        if not groups or token in added or groups[-1][-1] in added:
            groups.append([])
        groups[-1].append(token)
    settings = {"skip_special_tokens": skip_special_tokens, "clean_up_tokenization_spaces": False}
    text = " ".join(tokenizer.decode(group, **settings) for group in groups)
    for spaced, joined in _CLEAN_UP + _CLEAN_UP_CLITICS:
        text = text.replace(spaced, joined)
    return text


def split_caption(text: str) -> tuple[str, str]:
    """Splits a generated caption into (emotion, explanation).

    The released rules: the emotion stands before the first "because" and the explanation after the last one,
    as substrings; without any, the whole text is the emotion and the explanation is the text from its third word on.
    """
    emotion = text.split(BECAUSE)[0].strip()
    if BECAUSE in text:
        return emotion, text.split(BECAUSE)[-1].strip()
    return emotion, " ".join(text.split()[2:])


def text_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of a text; as in the released code, spaces beside an added token are lost ("<pad> is", "<pad>is")."""
    return list(tokenizer.encode(_AROUND_ADDED.sub(r"\1", text), add_special_tokens=False))


def _prompt_ids(tokenizer: Tokenizer, config: SEVLMConfig, text: str) -> list[int]:
    prefix = [config.prefix_token_id] * config.prefix_length
    return [*prefix, config.bos_token_id, *text_ids(tokenizer, text)]


def _prompt_segments(config: SEVLMConfig, length: int) -> list[int]:
    prefix = [config.prefix_token_id] * config.prefix_length
    return prefix + [config.emotion_token_id] * (length - config.prefix_length)


def _training_words(tokenizer: Tokenizer, config: SEVLMConfig, ids: Sequence[int]) -> list[str]:
    if config.vad_lookup == "word":
        return lookup_words(tokenizer, config, ids)
    # The released training code looks up the byte-level piece itself, which differs from the decoded text only
    # outside ASCII ("âĢĻ" for "’"): neither is a word of a lexicon, but both are kept as they were.
    return [piece.replace("Ġ", "") for piece in tokenizer.convert_ids_to_tokens(list(ids))]

"""Greedy generation with a transformers model, and label probabilities from the cache that generation leaves behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Generated:
    """What one batch gave.

    Attributes:
        tokens: (B, T) answer tokens, the prompt left out, padded after the end token.
        lengths: tokens of each answer, its end token included.
        truncated: per row, whether the token limit came before an end token.
        logits: T tensors (B, V) before any processing, where asked for.
        cache: keys and values of prompt and answer.
    """

    tokens: Tensor
    lengths: list[int]
    truncated: list[bool]
    logits: tuple[Tensor, ...] | None
    cache: Any


def generate(
    model: Any, inputs: Any, max_new_tokens: int, *, min_new_tokens: int = 0, logits: bool = False
) -> Generated:
    """The most probable next token, again and again, until each row has ended or the limit is reached."""
    import torch

    limits = {"max_new_tokens": max_new_tokens} | ({"min_new_tokens": min_new_tokens} if min_new_tokens else {})
    with torch.inference_mode():
        output = model.generate(
            **inputs,
            **limits,
            do_sample=False,
            num_beams=1,
            temperature=None,
            top_p=None,
            top_k=None,
            return_dict_in_generate=True,
            output_logits=logits,
        )
    prompt = 0 if model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
    tokens = output.sequences[:, prompt:]
    lengths = [_length(row, end_tokens(model)) for row in tokens.tolist()]
    truncated = [length is None for length in lengths]
    counted = [tokens.shape[1] if length is None else length for length in lengths]
    return Generated(tokens, counted, truncated, output.logits, output.past_key_values)


def end_tokens(model: Any) -> frozenset[int]:
    """Ids that end an answer."""
    ids = model.generation_config.eos_token_id
    return frozenset(ids if isinstance(ids, list) else [] if ids is None else [ids])


def _length(row: Sequence[int], ends: frozenset[int]) -> int | None:
    """Tokens up to and including the first end token, or None without one."""
    return next((place + 1 for place, token in enumerate(row) if token in ends), None)


def continuation_log_probs(model: Any, inputs: Any, cache: Any, continuations: Sequence[Tensor]) -> Tensor:
    """Log-probability of each continuation right after the prompt, Σ log p(token | prompt, tokens before it).

    The prompt and its picture are not computed again: the cache is cut back to all prompt tokens but the last, and the
    last one is fed together with the continuation.

    Args:
        model: a decoder-only model.
        inputs: the prompt's `input_ids` and `attention_mask` (B, P).
        cache: keys and values of the prompt and anything after it; left holding the first P - 1 tokens.
        continuations: token ids, each (B, T) with a T of its own.

    Returns:
        (B, number of continuations) float64.
    """
    import torch

    last = inputs["input_ids"][:, -1:]  # (B, 1)
    known = inputs["attention_mask"][:, :-1]  # (B, P - 1)
    scores = []
    with torch.inference_mode():
        for tokens in continuations:
            _cut(cache, known.shape[1])
            fed = torch.cat([last, tokens[:, :-1]], dim=1)  # (B, T)
            mask = torch.cat([known, torch.ones_like(fed)], dim=1)  # (B, P - 1 + T)
            positions = (mask.cumsum(dim=1) - 1)[:, -fed.shape[1] :]
            step = model.prepare_inputs_for_generation(
                fed, past_key_values=cache, attention_mask=mask, position_ids=positions, use_cache=True
            )
            log_probs = model(**step).logits.float().log_softmax(dim=-1)  # (B, T, V)
            scores.append(log_probs.gather(2, tokens[:, :, None]).sum(dim=(1, 2)))
        _cut(cache, known.shape[1])
    return torch.stack(scores, dim=1).cpu().double()


def _cut(cache: Any, length: int) -> None:
    """Forget everything after the first `length` tokens."""
    cache.crop(-(cache.get_seq_length() - length))


def same_for_all(tokens: Sequence[int], like: Tensor) -> Tensor:
    """One continuation for every row: (T,) -> (B, T) on the device of `like` (B, P)."""
    import torch

    return torch.tensor([list(tokens)], device=like.device).expand(like.shape[0], -1)

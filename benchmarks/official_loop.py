"""A plain greedy loop that does the work of the released one, as the peer that faster decoding is measured against.

At every step the whole sequence goes through every layer, keys and values of all image patches are computed again,
logits are computed for every position, and every word of every row is looked up again (artEmisX_train.py,
`sample_sequences`, and models/gpt.py of the released code). Attention is spelled out as there: product, mask, softmax,
product. Weights are those of a `SEVLM` in the faithful mode, so that both must choose the same tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sevlm.checkpoint import SEVLM
from sevlm.config import FIXED_BOUNDARY
from sevlm.model import Block, Conv1D
from sevlm.tokenization import because_id, decode, encode_prompt
from sevlm.vad import RowLookup

MASKED = -1e4


@torch.no_grad()
def plain_greedy(model: SEVLM, image_grid: Tensor, lookup: RowLookup) -> Tensor:
    """(B, P, D) patch features to (B, max_new_tokens) tokens."""
    config, tokenizer = model.config, model.tokenizer
    prompt = encode_prompt(tokenizer, config)
    rows = len(image_grid)
    input_ids, segment_ids = (torch.tensor([part] * rows) for part in (prompt.input_ids, prompt.segment_ids))
    start, because = input_ids.shape[1], because_id(tokenizer)
    for _ in range(config.max_new_tokens):
        words = [[decode(tokenizer, [token]).lstrip() for token in row] for row in input_ids.tolist()]
        vad = torch.stack([lookup(row) for row in words])
        logits = plain_logits(model, image_grid, input_ids, segment_ids, vad)  # (B, T, V)
        tokens = logits[:, -1].argmax(dim=-1)
        explains = (tokens == because) | (segment_ids[:, -1] == config.explanation_token_id)
        segments = torch.where(explains, config.explanation_token_id, config.emotion_token_id)
        input_ids = torch.cat((input_ids, tokens[:, None]), dim=1)
        segment_ids = torch.cat((segment_ids, segments[:, None]), dim=1)
    return input_ids[:, start:]


def plain_logits(model: SEVLM, image_grid: Tensor, input_ids: Tensor, segment_ids: Tensor, vad: Tensor) -> Tensor:
    """Scores (B, T, V) of every next token, all from scratch."""
    decoder, encoder = model.decoder, model.vad_encoder
    assert encoder is not None
    features = encoder(vad)
    states = decoder.wte(input_ids) + decoder.wpe.weight[: input_ids.shape[1]] + decoder.wte(segment_ids)
    assert decoder.vad_fusion is not None
    fused = decoder.vad_fusion(torch.cat((states[:, FIXED_BOUNDARY:], features[:, FIXED_BOUNDARY:]), dim=-1))
    states = torch.cat((states[:, :FIXED_BOUNDARY], fused), dim=1)
    for block in decoder.h:
        assert isinstance(block, Block)
        states = plain_block(block, states, image_grid)
    return F.linear(decoder.ln_f(states), decoder.wte.weight)


def plain_block(block: Block, states: Tensor, image_grid: Tensor) -> Tensor:
    """One decoder layer over (B, T, D), image keys and values included."""
    own, cross = block.attn, block.crossattention
    query, key, value = _conv(own.c_attn, block.ln_1(states)).split(states.shape[-1], dim=2)
    states = states + _conv(own.c_proj, _attend(query, key, value, own.heads, causal=True))
    query = _conv(cross.q_attn, block.ln_cross_attn(states))
    key, value = _conv(cross.c_attn, image_grid).split(states.shape[-1], dim=2)
    states = states + _conv(cross.c_proj, _attend(query, key, value, cross.heads, causal=False))
    hidden = _conv(block.mlp.c_fc, block.ln_2(states))
    hidden = 0.5 * hidden * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (hidden + 0.044715 * hidden.pow(3))))
    return states + _conv(block.mlp.c_proj, hidden)


def _conv(layer: Conv1D, states: Tensor) -> Tensor:
    flat = torch.addmm(layer.bias, states.reshape(-1, states.shape[-1]), layer.weight)
    return flat.view(*states.shape[:-1], -1)


def _attend(query: Tensor, key: Tensor, value: Tensor, heads: int, causal: bool) -> Tensor:
    query, key, value = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (query, key, value))
    weights = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5  # (B, heads, T, K)
    if causal:
        length = query.shape[2]
        allowed = torch.ones(length, length, dtype=torch.bool).tril()
        weights = torch.where(allowed, weights, torch.tensor(MASKED))
    mixed: Tensor = weights.softmax(dim=-1) @ value
    return mixed.transpose(1, 2).flatten(2)

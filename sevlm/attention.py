"""GPT-2 blocks with cross-attention, written out instead of taken from transformers.

Why not `transformers.models.gpt2.GPT2Block`: with SEVLM's non-causal VAD encoder the self-attention of every old
token changes at each decoding step while the image's keys and values stay, which its `EncoderDecoderCache` cannot
express; and its attention interface changes between minor releases, which the parity promise must survive.
Parameter names and (in, out) weight layout are GPT-2's, so that its checkpoints load by name.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sevlm.config import SEVLMConfig

KeyValue: TypeAlias = tuple[Tensor, Tensor]
"""Keys and values of one attention layer, each (B or N images, heads, K, D / heads)."""


class Conv1D(nn.Module):
    """A linear layer whose weight is stored (in, out), as in GPT-2 checkpoints."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, states: Tensor) -> Tensor:
        """Maps (..., in) to (..., out)."""
        return F.linear(states, self.weight.t(), self.bias)


class Attention(nn.Module):
    """What self- and cross-attention share: heads, dropout and the output projection."""

    def __init__(self, config: SEVLMConfig) -> None:
        super().__init__()
        self.heads = config.n_head
        self.dropout = config.dropout
        self.c_proj = Conv1D(config.n_embd, config.n_embd)
        self.resid_dropout = nn.Dropout(config.dropout)

    def split_heads(self, states: Tensor) -> Tensor:
        """(B, T, D) to (B, heads, T, D / heads)."""
        return states.view(*states.shape[:2], self.heads, -1).transpose(1, 2)

    def attend(self, query: Tensor, memory: KeyValue, causal: bool) -> Tensor:
        """Weighted values, projected: (B, heads, T, D / heads) queries to (B, T, D)."""
        key, value = memory
        length, total = query.shape[-2], key.shape[-2]
        mask = None
        if causal and length > 1:  # a query sees every key up to its own position, cached ones included
            mask = torch.ones(length, total, dtype=torch.bool, device=query.device).tril(total - length)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        return self.resid_dropout(self.c_proj(mixed.transpose(1, 2).flatten(2)))  # type: ignore[no-any-return]


class SelfAttention(Attention):
    """Causal self-attention; earlier keys and values may come from a cache."""

    def __init__(self, config: SEVLMConfig) -> None:
        super().__init__(config)
        self.c_attn = Conv1D(config.n_embd, 3 * config.n_embd)

    def forward(self, states: Tensor, past: KeyValue | None, last_only: bool = False) -> tuple[Tensor, KeyValue]:
        """Maps (B, T, D) to (B, T, D), or to (B, 1, D) with `last_only`, and keys and values of all tokens so far."""
        query, key, value = (self.split_heads(part) for part in self.c_attn(states).chunk(3, dim=-1))
        if past is not None:
            key, value = torch.cat((past[0], key), dim=2), torch.cat((past[1], value), dim=2)
        query = query[:, :, -1:] if last_only else query
        return self.attend(query, (key, value), causal=True), (key, value)


class CrossAttention(Attention):
    """Attention from text to image patches."""

    def __init__(self, config: SEVLMConfig) -> None:
        super().__init__(config)
        self.q_attn = Conv1D(config.n_embd, config.n_embd)
        self.c_attn = Conv1D(config.n_embd, 2 * config.n_embd)

    def memory(self, image_states: Tensor) -> KeyValue:
        """Keys and values of (N, P, D) patch states: constant per image, so computed once."""
        key, value = (self.split_heads(part) for part in self.c_attn(image_states).chunk(2, dim=-1))
        return key, value

    def forward(self, states: Tensor, memory: KeyValue) -> Tensor:
        """Maps (B, T, D) to (B, T, D); the B / N rows of one image follow each other.

        They are queries of one attention, so that keys and values are neither computed nor stored per row.
        """
        images, width = len(memory[0]), states.shape[-1]
        query = self.split_heads(self.q_attn(states).view(images, -1, width))  # (N, heads, B / N * T, D / heads)
        return self.attend(query, memory, causal=False).view(states.shape)


class MLP(nn.Module):
    """GPT-2's feed-forward layer: four times as wide, tanh-approximated GELU."""

    def __init__(self, config: SEVLMConfig) -> None:
        super().__init__()
        self.c_fc = Conv1D(config.n_embd, 4 * config.n_embd)
        self.c_proj = Conv1D(4 * config.n_embd, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, states: Tensor) -> Tensor:
        """Maps (B, T, D) to (B, T, D)."""
        hidden = F.gelu(self.c_fc(states), approximate="tanh")
        return self.dropout(self.c_proj(hidden))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Pre-norm block: self-attention, cross-attention, feed-forward, each with a residual."""

    def __init__(self, config: SEVLMConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = SelfAttention(config)
        self.ln_cross_attn = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.crossattention = CrossAttention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = MLP(config)

    def forward(
        self, states: Tensor, image_memory: KeyValue, past: KeyValue | None = None, last_only: bool = False
    ) -> tuple[Tensor, KeyValue]:
        """Maps (B, T, D) to (B, T, D) and the self-attention keys and values of all tokens so far.

        With `last_only` the result is that of the last token alone, (B, 1, D).
        """
        attended, present = self.attn(self.ln_1(states), past, last_only)
        states = states[:, -attended.shape[1] :] + attended
        states = states + self.crossattention(self.ln_cross_attn(states), image_memory)
        return states + self.mlp(self.ln_2(states)), present

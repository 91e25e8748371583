"""The text decoder: GPT-2 with cross-attention to image patches and VAD features fused into its embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sevlm.attention import Block, Conv1D, KeyValue
from sevlm.config import FIXED_BOUNDARY, VAD_DIMENSIONS, SEVLMConfig
from sevlm.errors import SEVLMError

INITIALIZER_RANGE = 0.02
"""Standard deviation of GPT-2's initial weights."""


class DecoderStates(NamedTuple):
    """All states of one pass.

    Attributes:
        hidden_states: n_layer + 1 tensors (B, T, D): embeddings, the output of each block but the last, and the
            last block's output after the final layer norm.
        cache: per layer the self-attention keys and values of all tokens so far.
    """

    hidden_states: tuple[Tensor, ...]
    cache: tuple[KeyValue, ...]


def explanation_mask(config: SEVLMConfig, segment_ids: Tensor) -> Tensor:
    """Which positions hold explanation tokens, "because" itself excluded.

    Args:
        config: decides the rule. `fixed6`: every position from the sixth after the prefix on (official).
            `token_type`: positions of segment `<explanation>` whose predecessor is one too.
        segment_ids: (B, T) int64; T counts prefix positions.

    Returns:
        (B, T) bool. Padding counts as explanation, as its segment says.
    """
    if config.fusion_boundary == "fixed6":
        positions = torch.arange(segment_ids.shape[1], device=segment_ids.device)
        return (positions >= config.prefix_length + FIXED_BOUNDARY).expand_as(segment_ids)
    inside = segment_ids == config.explanation_token_id
    return inside & F.pad(inside[:, :-1], (1, 0), value=False)


class PrefixProjection(nn.Module):
    """Maps one image vector to `prefix_length` pseudo-token embeddings (a ClipCap MLP)."""

    def __init__(self, config: SEVLMConfig) -> None:
        super().__init__()
        self.length = config.prefix_length
        wide = config.prefix_length * config.n_embd
        self.model = nn.Sequential(nn.Linear(config.prefix_dim, wide // 2), nn.Tanh(), nn.Linear(wide // 2, wide))

    def forward(self, image_prefix: Tensor) -> Tensor:
        """Maps (B, prefix_dim) to (B, prefix_length, D)."""
        return self.model(image_prefix).view(len(image_prefix), self.length, -1)  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """GPT-2 decoder. The output head is tied to the word embedding `wte`, which also embeds segment ids."""

    def __init__(self, config: SEVLMConfig) -> None:
        super().__init__()
        self.config = config
        width = config.n_embd
        self.wte = nn.Embedding(config.vocab_size, width)
        self.wpe = nn.Embedding(config.n_positions, width)
        self.drop = nn.Dropout(config.dropout)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(width, eps=config.layer_norm_epsilon)
        self.vad_fusion = nn.Linear(width + len(VAD_DIMENSIONS), width) if config.use_vad_features else None
        self.prefix_projection = PrefixProjection(config) if config.prefix_length else None
        self.image_projection = nn.Linear(config.encoder_dim, width) if config.encoder_dim != width else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """GPT-2's initialisation: N(0, 0.02), residual projections divided by sqrt(2 n_layer), biases 0."""
        for name, module in self.named_modules():
            if isinstance(module, (nn.Linear, nn.Embedding, Conv1D)):
                residual = name.endswith("c_proj")
                std = INITIALIZER_RANGE / ((2 * self.config.n_layer) ** 0.5 if residual else 1)
                nn.init.normal_(module.weight, std=std)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        if self.vad_fusion is not None and self.config.fusion_identity_init:
            with torch.no_grad():
                self.vad_fusion.weight[:, : self.config.n_embd] = torch.eye(self.config.n_embd)

    def embed(
        self,
        input_ids: Tensor,
        segment_ids: Tensor,
        vad_features: Tensor | None,
        image_prefix: Tensor | None = None,
        start: int = 0,
    ) -> Tensor:
        """Word + position + segment embedding, with VAD features fused into explanation positions.

        Args:
            input_ids: (B, T) int64; the first `prefix_length` ids are placeholders.
            segment_ids: (B, T) int64.
            vad_features: (B, T, 3) float from the VAD encoder; None fuses nothing.
            image_prefix: (B, prefix_dim) float, required when there is a prefix and `start` is 0.
            start: first position to return, for decoding with a cache; 0 or at least `prefix_length`.

        Returns:
            (B, T - start, D) float.
        """
        if input_ids.shape[1] > self.config.n_positions:
            raise SEVLMError(f"{input_ids.shape[1]} tokens exceed the {self.config.n_positions} positions of the model")
        words = self._word_embeddings(input_ids, image_prefix, start)
        positions = self.wpe.weight[start : input_ids.shape[1]]
        states: Tensor = self.drop(words + positions + self.wte(segment_ids[:, start:]))
        if vad_features is None or self.vad_fusion is None:
            return states
        fused = self.vad_fusion(torch.cat((states, vad_features[:, start:]), dim=-1))
        inside = explanation_mask(self.config, segment_ids)[:, start:, None]
        return torch.where(inside, fused, states)

    def _word_embeddings(self, input_ids: Tensor, image_prefix: Tensor | None, start: int) -> Tensor:
        if self.prefix_projection is None or start > 0:
            return self.wte(input_ids[:, start:])  # type: ignore[no-any-return]
        if image_prefix is None:
            raise SEVLMError("this model has a prefix: pass image_prefix of shape (B, prefix_dim)")
        words = self.wte(input_ids[:, self.config.prefix_length :])
        return torch.cat((self.prefix_projection(image_prefix), words), dim=1)

    def image_memory(self, image_grid: Tensor) -> tuple[KeyValue, ...]:
        """Cross-attention keys and values of every layer for (N, P, encoder_dim) patch features."""
        if image_grid.dim() != 3 or image_grid.shape[-1] != self.config.encoder_dim:
            raise SEVLMError(
                f"image features must have shape (N, P, {self.config.encoder_dim}), got {tuple(image_grid.shape)}"
            )
        # One channel is dropped from all patches of a picture, as dropout1d does: (N, P, E) -> (N, E, P) and back.
        kept = F.dropout1d(image_grid.transpose(1, 2), self.config.image_dropout, self.training).transpose(1, 2)
        states = kept if self.image_projection is None else self.image_projection(kept)
        return tuple(block.crossattention.memory(states) for block in self._blocks())

    def forward(
        self,
        embeddings: Tensor,
        image_memory: Sequence[KeyValue],
        cache: Sequence[KeyValue] | None = None,
        last_only: bool = False,
    ) -> DecoderStates:
        """Runs the blocks over token embeddings.

        Args:
            embeddings: (B, T, D) float; with a cache, of the tokens that follow it.
            image_memory: per layer the keys and values of N images; B / N rows per image, next to each other.
            cache: per layer the self-attention keys and values of earlier tokens.
            last_only: the last block computes its last token only; its state is then (B, 1, D).

        Raises:
            SEVLMError: B is no multiple of N.
        """
        if len(embeddings) % len(image_memory[0][0]):
            raise SEVLMError(f"{len(embeddings)} captions cannot be shared out over {len(image_memory[0][0])} images")
        states, all_states, present = embeddings, [embeddings], []
        for index, block in enumerate(self.h):
            past = None if cache is None else cache[index]
            states, keys_values = block(states, image_memory[index], past, last_only and index == len(self.h) - 1)
            all_states.append(states)
            present.append(keys_values)
        all_states[-1] = self.ln_f(states)
        return DecoderStates(tuple(all_states), tuple(present))

    def logits(self, hidden_states: Tensor) -> Tensor:
        """Next-token scores: (..., D) to (..., V)."""
        return F.linear(hidden_states, self.wte.weight)

    def _blocks(self) -> list[Block]:
        return [block for block in self.h if isinstance(block, Block)]

"""The VAD encoder: a three-wide transformer over the valence, arousal and dominance of each token.

Order of operations (from the released models/vad_encoder.py): add positions, layer norm, then N layers, each a
post-norm transformer layer inside one more residual; no final norm. Its states are what the decoder fuses.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sevlm.config import VAD_DIMENSIONS, SEVLMConfig
from sevlm.errors import SEVLMError

WIDTH = len(VAD_DIMENSIONS)


class VADSelfAttention(nn.Module):
    """Multi-head self-attention without an output projection; `causal` hides later tokens."""

    def __init__(self, heads: int, dropout: float, causal: bool) -> None:
        super().__init__()
        self.heads, self.dropout, self.causal = heads, dropout, causal
        self.query = nn.Linear(WIDTH, WIDTH)
        self.key = nn.Linear(WIDTH, WIDTH)
        self.value = nn.Linear(WIDTH, WIDTH)

    def forward(self, states: Tensor) -> Tensor:
        """Maps (B, T, 3) to (B, T, 3)."""
        query, key, value = (
            project(states).view(*states.shape[:2], self.heads, -1).transpose(1, 2)  # (B, heads, T, 3 / heads)
            for project in (self.query, self.key, self.value)
        )
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=self.causal)
        return mixed.transpose(1, 2).flatten(2)


class VADLayer(nn.Module):
    """One post-norm transformer layer."""

    def __init__(self, config: SEVLMConfig) -> None:
        super().__init__()
        hidden = config.vad_feedforward
        self.self_attention = VADSelfAttention(config.vad_heads, config.dropout, config.causal_vad_encoder)
        self.fc = nn.Sequential(nn.Linear(WIDTH, hidden), nn.ReLU(), nn.Linear(hidden, WIDTH))
        self.norm1 = nn.LayerNorm(WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, states: Tensor) -> Tensor:
        """Maps (B, T, 3) to (B, T, 3)."""
        states = self.norm1(states + self.dropout(self.self_attention(states)))
        return self.norm2(states + self.dropout(self.fc(states)))  # type: ignore[no-any-return]


class VADEncoder(nn.Module):
    """Turns the VAD values of a token sequence into the features that the decoder fuses.

    `scalar_head` (3 -> 1) is computed by nobody but `scalars`; it exists because official checkpoints hold it.
    """

    known_dimensions: Tensor  # (3,) 1 where the lexicon has the dimension, else 0

    def __init__(self, config: SEVLMConfig) -> None:
        super().__init__()
        self.position_embedding = nn.Embedding(config.vad_positions, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.layers = nn.ModuleList(VADLayer(config) for _ in range(config.vad_layers))
        self.scalar_head = nn.Linear(WIDTH, 1)
        known = [float(name in config.vad_dimensions) for name in VAD_DIMENSIONS]
        self.register_buffer("known_dimensions", torch.tensor(known), persistent=False)

    def forward(self, vad: Tensor) -> Tensor:
        """Encodes VAD values.

        Args:
            vad: (B, T, 3) float in -1..1, zeros for unknown words; T at most `config.vad_positions`.

        Returns:
            (B, T, 3) float features. With `config.causal_vad_encoder` row t depends on rows <= t only.
        """
        if vad.dim() != 3 or vad.shape[-1] != WIDTH:
            raise SEVLMError(f"VAD values must have shape (B, T, {WIDTH}), got {tuple(vad.shape)}")
        positions = self.position_embedding.weight[: vad.shape[1]]  # (T, 3)
        states = self.norm(vad * self.known_dimensions + positions)
        for layer in self.layers:
            states = states + layer(states)
        return states  # type: ignore[no-any-return]

    def scalars(self, features: Tensor) -> Tensor:
        """The official encoder's unused second output: (B, T, 3) features to (B, T, 1)."""
        return self.scalar_head(features)  # type: ignore[no-any-return]

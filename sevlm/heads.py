"""The two heads that exist for training only: next-token VAD values and the emotion-image-text score."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sevlm.config import SEVLMConfig
from sevlm.decoder import INITIALIZER_RANGE


class ContrastiveHead(nn.Module):
    """Scores how well image, emotion and explanation belong together: a five-layer ReLU MLP."""

    def __init__(self, config: SEVLMConfig) -> None:
        super().__init__()
        width = config.n_embd
        layers: list[nn.Module] = [nn.Linear(config.encoder_dim + 2 * width, width), nn.ReLU()]
        for _ in range(3):
            layers += [nn.Linear(width, width), nn.ReLU()]
        self.mlp = nn.Sequential(*layers, nn.Linear(width, 1))
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=INITIALIZER_RANGE)
                nn.init.zeros_(layer.bias)

    def forward(self, image: Tensor, emotion: Tensor, explanation: Tensor) -> Tensor:
        """Scores triples.

        Args:
            image: (B, encoder_dim) float, mean patch feature.
            emotion: (B, D) float, mean final hidden state of the tokens before the explanation.
            explanation: (B, D) float, mean final hidden state of the explanation tokens.

        Returns:
            (B,) float, unbounded; higher means a better match.
        """
        return self.mlp(torch.cat((image, emotion, explanation), dim=-1)).squeeze(-1)  # type: ignore[no-any-return]


def masked_mean(states: Tensor, mask: Tensor) -> Tensor:
    """Mean over the positions where `mask` holds; zeros for a row without any.

    Args:
        states: (B, T, D) float.
        mask: (B, T) bool.

    Returns:
        (B, D) float.
    """
    weights = mask.to(states.dtype)[..., None]  # (B, T, 1)
    return (states * weights).sum(1) / weights.sum(1).clamp_min(1)

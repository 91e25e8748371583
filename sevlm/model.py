"""SEVLM: VAD encoder, GPT-2 decoder with cross-attention to image features, VAD and contrastive heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sevlm.config import SEVLMConfig
from sevlm.losses import Negatives


@dataclass(frozen=True, slots=True)
class SEVLMOutput:
    """What one forward pass yields; losses are scalars already weighted, None where not computed.

    Attributes:
        logits: (B, T, V) float, T without prefix positions.
        hidden_states: (B, prefix + T, D) float, after the final layer norm.
        loss: sum of the parts below.
        lm_loss: cross-entropy of the next token.
        contrastive_loss: see `sevlm.losses.contrastive_loss`.
        vad_loss: mean squared error of the next token's VAD values.
    """

    logits: Tensor
    hidden_states: Tensor
    loss: Tensor | None
    lm_loss: Tensor | None
    contrastive_loss: Tensor | None
    vad_loss: Tensor | None


class SEVLM(nn.Module):
    """The whole model without its (frozen) image encoder."""

    def __init__(self, config: SEVLMConfig, tokenizer: Any | None = None) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer

    def forward(
        self,
        image_grid: Tensor,
        input_ids: Tensor,
        segment_ids: Tensor,
        vad: Tensor | None = None,
        labels: Tensor | None = None,
        negatives: Negatives | None = None,
        image_prefix: Tensor | None = None,
    ) -> SEVLMOutput:
        """Scores captions, and computes the losses when labels are given.

        Args:
            image_grid: (B, P, encoder_dim) float patch features.
            input_ids: (B, T) int64.
            segment_ids: (B, T) int64, ids of the segment tokens.
            vad: (B, T, 3) float in -1..1, zeros where unknown; required unless VAD features and head are off.
            labels: (B, T) int64, unshifted, IGNORE_INDEX where no loss is wanted.
            negatives: needed for the contrastive loss; without it that loss is None.
            image_prefix: (B, prefix_dim) float, required when `config.prefix_length` > 0.
        """
        raise NotImplementedError

    @classmethod
    def from_pretrained(cls, path_or_hub_id: str | Path) -> SEVLM:
        """Loads a checkpoint folder (`save_pretrained`'s) or a hub id."""
        raise NotImplementedError

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes model.safetensors, config.json, the tokenizer folder and a README.md model card."""
        raise NotImplementedError

    def generate(self, image_grid: Tensor, labels: Sequence[str] | None, lookup: Any) -> list[Any]:
        """Greedy captions for (B, P, encoder_dim) features; see `sevlm.generation`."""
        raise NotImplementedError

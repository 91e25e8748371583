"""SEVLM: VAD encoder, GPT-2 decoder with cross-attention to image features, VAD and contrastive heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sevlm.config import VAD_DIMENSIONS, SEVLMConfig
from sevlm.decoder import INITIALIZER_RANGE, Decoder, explanation_mask
from sevlm.errors import SEVLMError
from sevlm.heads import ContrastiveHead, masked_mean
from sevlm.losses import (
    LossCounts,
    Negatives,
    SoftLabels,
    contrastive_loss,
    count_labels,
    counted_values,
    lm_loss,
    vad_loss,
)
from sevlm.tokenization import Tokenizer
from sevlm.vad_encoder import VADEncoder

if TYPE_CHECKING:
    from PIL.Image import Image

    from sevlm.generation import Generated, RowLookup


@dataclass(frozen=True, slots=True)
class SEVLMOutput:
    """What one forward pass yields; losses are scalars already weighted, None where not computed.

    Attributes:
        logits: (B, T, V) float, T without prefix positions.
        hidden_states: n_layer + 1 tensors (B, T, D) float, prefix included; see `sevlm.decoder.DecoderStates`.
        loss: sum of the parts below.
        lm_loss: cross-entropy of the next token.
        contrastive_loss: see `sevlm.losses.contrastive_loss`.
        vad_loss: mean squared error of the next token's VAD values.
    """

    logits: Tensor
    hidden_states: tuple[Tensor, ...]
    loss: Tensor | None = None
    lm_loss: Tensor | None = None
    contrastive_loss: Tensor | None = None
    vad_loss: Tensor | None = None


class SEVLM(nn.Module):
    """The whole model without its (frozen) image encoder.

    Attributes:
        config: everything that decides what the model computes.
        tokenizer: needed for generating and saving only.
    """

    def __init__(self, config: SEVLMConfig, tokenizer: Tokenizer | None = None) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.vad_encoder = VADEncoder(config) if config.use_vad_features else None
        self.decoder = Decoder(config)
        self.vad_head = nn.Linear(config.n_embd, len(VAD_DIMENSIONS)) if config.use_vad_head else None
        self.contrastive_head = ContrastiveHead(config) if config.use_contrastive_head else None
        if self.vad_head is not None:
            nn.init.normal_(self.vad_head.weight, std=INITIALIZER_RANGE)
            nn.init.zeros_(self.vad_head.bias)

    def forward(
        self,
        image_grid: Tensor,
        input_ids: Tensor,
        segment_ids: Tensor,
        vad: Tensor | None = None,
        labels: Tensor | None = None,
        negatives: Negatives | None = None,
        image_prefix: Tensor | None = None,
        soft_labels: SoftLabels | None = None,
        counts: LossCounts | None = None,
    ) -> SEVLMOutput:
        """Scores captions, and computes the losses when labels are given.

        Args:
            image_grid: (N, P, encoder_dim) float patch features; B / N captions per image, next to each other.
            input_ids: (B, T) int64, T prefix placeholders included.
            segment_ids: (B, T) int64, ids of the segment tokens.
            vad: (B, T, 3) float in -1..1, zeros where unknown; required unless VAD features and head are off.
            labels: (B, T) int64, unshifted, IGNORE_INDEX where no loss is wanted.
            negatives: needed for the contrastive loss; without it that loss is None.
            image_prefix: (B, prefix_dim) float, required when `config.prefix_length` > 0.
            soft_labels: distributions instead of some labels; positions count the prefix.
            counts: divisors of the losses, for a batch that is part of a larger update; None takes its own.

        Raises:
            SEVLMError: a needed input is missing or has the wrong shape.
        """
        features = self.encode_vad(vad)
        embeddings = self.decoder.embed(input_ids, segment_ids, features, image_prefix)
        states = self.decoder(embeddings, self.decoder.image_memory(image_grid))
        final = states.hidden_states[-1]  # (B, T, D)
        logits = self.decoder.logits(final[:, self.config.prefix_length :])
        if labels is None:
            return SEVLMOutput(logits, states.hidden_states)
        prefix = self.config.prefix_length
        if soft_labels is not None:
            soft_labels = soft_labels._replace(position=soft_labels.position - prefix)
        lm_count, contrastive_count, vad_count = (None, None, None) if counts is None else counts
        lm = self.config.lm_loss_weight * lm_loss(logits, labels[:, prefix:], soft_labels, lm_count)
        contrastive = self._contrastive_loss(image_grid, final, input_ids, segment_ids, negatives, contrastive_count)
        affect = self._vad_loss(final, segment_ids, vad, vad_count)
        total = lm + sum(part for part in (contrastive, affect) if part is not None)
        return SEVLMOutput(logits, states.hidden_states, total, lm, contrastive, affect)

    def encode_vad(self, vad: Tensor | None) -> Tensor | None:
        """VAD features (B, T, 3) of VAD values (B, T, 3); None when the configuration uses none."""
        if self.vad_encoder is None:
            return None
        if vad is None:
            raise SEVLMError("this model fuses VAD features: pass vad of shape (B, T, 3)")
        return self.vad_encoder(vad)  # type: ignore[no-any-return]

    def part_means(self, hidden_states: Tensor, input_ids: Tensor, segment_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Mean final state of the emotion part ("because" included) and of the explanation, each (B, D)."""
        explanation = explanation_mask(self.config, segment_ids)
        emotion = ~explanation
        emotion[:, : self.config.prefix_length] = False
        if self.config.mask_padding_in_means:
            explanation = explanation & (input_ids != self.config.pad_token_id)
        return masked_mean(hidden_states, emotion), masked_mean(hidden_states, explanation)

    def _contrastive_loss(
        self,
        image_grid: Tensor,
        hidden_states: Tensor,
        input_ids: Tensor,
        segment_ids: Tensor,
        negatives: Negatives | None,
        count: Tensor | None,
    ) -> Tensor | None:
        if self.contrastive_head is None or negatives is None:
            return None
        emotion, explanation = self.part_means(hidden_states, input_ids, segment_ids)
        image = image_grid.mean(1).repeat_interleave(len(emotion) // len(image_grid), dim=0)  # (B, encoder_dim)
        positive = self.contrastive_head(image, emotion, explanation)
        wrong = [self.contrastive_head(image, emotion, explanation[rows]) for rows in negatives]
        return self.config.contrastive_loss_weight * contrastive_loss(positive, torch.stack(wrong, dim=1), count)

    def _vad_loss(
        self, hidden_states: Tensor, segment_ids: Tensor, vad: Tensor | None, count: Tensor | None
    ) -> Tensor | None:
        if self.vad_head is None:
            return None
        if vad is None:
            raise SEVLMError("this model has a VAD head: pass vad of shape (B, T, 3) together with labels")
        predicted = self.vad_head(hidden_states[:, :-1])
        return self.config.vad_loss_weight * vad_loss(predicted, vad[:, 1:], self._counted(segment_ids, vad), count)

    def _counted(self, segment_ids: Tensor, vad: Tensor) -> Tensor:
        """Which values of `vad[:, 1:]` the VAD loss counts: (B, T - 1, 3) bool."""
        mask = explanation_mask(self.config, segment_ids)[:, 1:]
        known = torch.tensor([name in self.config.vad_dimensions for name in VAD_DIMENSIONS], device=vad.device)
        return counted_values(vad[:, 1:], mask, known)

    def count_losses(self, labels: Tensor, segment_ids: Tensor, vad: Tensor, negatives: Negatives | None) -> LossCounts:
        """What `forward` divides the losses of these arguments by; add them up to form the counts of an update."""
        captions = 0 if negatives is None else len(labels)
        return LossCounts(
            lm=count_labels(labels[:, self.config.prefix_length :]),
            contrastive=torch.tensor(captions, device=labels.device),
            vad=self._counted(segment_ids, vad).sum(),
        )

    def parameter_counts(self) -> dict[str, int]:
        """Trainable values by part: decoder, cross_attention, vad_fusion, vad_encoder, heads ..., and total."""
        counts: dict[str, int] = {}
        for name, parameter in self.named_parameters():
            part = _part(name)
            counts[part] = counts.get(part, 0) + parameter.numel()
        return counts | {"total": sum(counts.values())}

    @classmethod
    def from_pretrained(cls, path_or_hub_id: str | Path) -> SEVLM:
        """Loads a folder written by `save_pretrained`, or a hub id (downloaded on first use), in eval mode.

        Raises:
            SEVLMError: no such checkpoint, or its tensors do not fit its configuration.
        """
        from sevlm.checkpoint import load_checkpoint

        return load_checkpoint(path_or_hub_id)

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes model.safetensors, config.json, tokenizer/ and the model card README.md.

        Raises:
            SEVLMError: the model has no tokenizer.
        """
        from sevlm.checkpoint import save_checkpoint

        save_checkpoint(self, Path(folder))

    def generate(
        self,
        images: Sequence[Image] | Tensor,
        labels: Sequence[str] | None = None,
        lookup: RowLookup | None = None,
        image_prefix: Tensor | None = None,
    ) -> list[Generated]:
        """Greedy captions; see `sevlm.generation.generate`.

        Args:
            images: pictures, which go through the image encoder that the configuration names, or their patch features
                (B, P, encoder_dim).
            labels: emotions to report probabilities of; None reports none.
            lookup: VAD look-up, required when the model fuses VAD features.
            image_prefix: (B, prefix_dim) float, required when `config.prefix_length` > 0.
        """
        from sevlm.generation import generate

        grid = images if isinstance(images, Tensor) else self._encode(images)
        return generate(self, grid, labels, lookup, image_prefix)

    def _encode(self, images: Sequence[Image]) -> Tensor:
        """Pictures to (B, P, encoder_dim). The encoder is loaded once; `parameters()` and checkpoints exclude it."""
        from sevlm.image_encoder import load_image_encoder

        encoder = self.__dict__.get("_image_encoder")
        if encoder is None:
            encoder = load_image_encoder(self.config)
            self.__dict__["_image_encoder"] = encoder  # not a submodule: frozen, and shared between models
        grid: Tensor = encoder.to(self.decoder.wte.weight.device).encode(images)
        return grid


def _part(name: str) -> str:
    """The row of the size table (docs/design.md) that a parameter belongs to."""
    if "crossattention" in name or "ln_cross_attn" in name:
        return "cross_attention"
    for part in ("vad_fusion", "prefix_projection", "image_projection"):
        if part in name:
            return part
    return name.split(".")[0]

"""What a model thinks of given explanations, and which of several it prefers.

One pass over all of them tells how likely the decoder finds an explanation, how well image, emotion and explanation
match by the contrastive head, and how near its words are to the valence, arousal and dominance that the VAD head
foresaw.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sevlm.config import SEVLMConfig, SEVLMError
from sevlm.model import Network, explanation_mask
from sevlm.tokenization import IGNORE_INDEX, encode_caption
from sevlm.vad import RowLookup

Captions = Sequence[Sequence[tuple[str, str]]]
"""For each of B images the same number K of pairs of emotion and explanation."""

_NO_SPREAD = 1e-6
"""Opinions that differ by less do not differ."""


class Opinions(NamedTuple):
    """What a model thinks of K explanations for each of B images; more is better.

    Attributes:
        log_prob: (B, K) mean log p(token | image, emotion, tokens before it) of the explanation and its end, in nats.
        match: (B, K) score of the contrastive head; None without that head.
        affect: (B, K) minus the mean squared distance of the words' VAD values, about -1..1, from those that the VAD
            head foresaw, NaN for an explanation without known words; None without that head.
    """

    log_prob: Tensor
    match: Tensor | None
    affect: Tensor | None


@torch.inference_mode()
def opinions(
    model: Network,
    image_grid: Tensor,
    captions: Captions,
    lookup: RowLookup | None = None,
    image_prefix: Tensor | None = None,
) -> Opinions:
    """Opinions of a model about explanations, in one pass that reads them as in training.

    Args:
        model: in eval mode, with a tokenizer.
        image_grid: (B, P, encoder_dim) float.
        captions: K pairs of emotion and explanation for each image.
        lookup: VAD look-up; None only for models without VAD features.
        image_prefix: (B, prefix_dim) float, for models with a prefix.

    Raises:
        SEVLMError: the model has no tokenizer.
    """
    if model.tokenizer is None:
        raise SEVLMError("the model has no tokenizer: pass one to SEVLM(config, tokenizer)")
    encoded = [encode_caption(model.tokenizer, model.config, *caption) for row in captions for caption in row]
    weight, shape = model.decoder.wte.weight, (len(captions), -1)
    columns = (tuple(getattr(one, name) for one in encoded) for name in ("input_ids", "labels", "segment_ids"))
    ids, labels, segments = (torch.tensor(column, device=weight.device) for column in columns)  # each (B * K, T)
    vad = None if lookup is None else torch.stack([lookup(one.words) for one in encoded]).to(weight)
    if model.vad_encoder is None or model.config.causal_vad_encoder:  # nothing depends on padding
        longest = int((ids != model.config.pad_token_id).sum(dim=1).max())
        ids, labels, segments = ids[:, :longest], labels[:, :longest], segments[:, :longest]
        vad = None if vad is None else vad[:, :longest]
    grid, repeats = image_grid.to(weight), len(ids) // len(image_grid)
    prefix = None if image_prefix is None else image_prefix.to(weight).repeat_interleave(repeats, dim=0)
    final = model(grid, ids, segments, vad, image_prefix=prefix).hidden_states[-1]  # (B * K, T, D)
    counted = (explanation_mask(model.config, segments) & (labels != IGNORE_INDEX))[:, 1:]
    means = []
    for states, tokens, mask in zip(final[:, :-1], ids[:, 1:], counted, strict=True):  # logits of all need gigabytes
        log_probs = model.decoder.logits(states[mask]).float().log_softmax(-1)
        means.append(log_probs.gather(1, tokens[mask][:, None]).sum() / mask.sum().clamp(min=1))
    log_prob = torch.stack(means).view(shape)
    match = affect = None
    if model.contrastive_head is not None:
        emotion, explanation = model.part_means(final, ids, segments)
        image = grid.mean(1).repeat_interleave(repeats, dim=0)  # (B * K, encoder_dim)
        match = model.contrastive_head(image, emotion, explanation).float().view(shape)
    if model.vad_head is not None and vad is not None:
        known = model.counted_vad(segments, vad)  # (B * K, T - 1, 3)
        error = (model.vad_head(final[:, :-1]) - vad[:, 1:]).float().square() * known
        affect = -(error.sum((1, 2)) / known.sum((1, 2))).view(shape)
    return Opinions(log_prob, match, affect)


def preferred(found: Opinions, config: SEVLMConfig) -> list[int]:
    """Which explanation of each image has the largest sum of weighted opinions.

    Each opinion is standardised among the K explanations, so that a weight means the same for every image and scale;
    where there is none it counts 0.
    """
    weights = (config.rank_by_log_prob, config.rank_by_match, config.rank_by_affect)  # in the order of `Opinions`
    total = torch.zeros(found.log_prob.shape, dtype=torch.float64)
    for opinion, weight in zip(found, weights, strict=True):
        if opinion is not None:
            values = opinion.double().cpu()
            centred = (values - values.nanmean(dim=1, keepdim=True)).nan_to_num(0.0)
            total += weight * centred / centred.square().mean(dim=1, keepdim=True).sqrt().clamp_min(_NO_SPREAD)
    return total.argmax(dim=1).tolist()

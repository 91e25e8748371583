"""How probable the model finds each emotion of a closed set, beside the free text that it generates.

P(label) is proportional to exp(sum of log p(token)) over the tokens of the label and the " because" that follows it,
given image and prompt; the probabilities of the asked labels sum to 1. "because" belongs to the score, else a label
that begins another one ("content", "contentment") would get its share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sevlm.errors import SEVLMError
from sevlm.tokenization import IGNORE_INDEX, EncodedCaption, encode_label

if TYPE_CHECKING:
    from sevlm.generation import CaptionDecoder


@torch.no_grad()
def label_probabilities(captions: CaptionDecoder, labels: Sequence[str]) -> list[dict[str, float]]:
    """Probabilities of `labels` for each image of a batch, before or after decoding it.

    One pass over all images and labels. A non-causal VAD encoder sees the whole label, as in training.

    Args:
        captions: the batch; it is not advanced.
        labels: distinct, non-empty emotions.

    Returns:
        One dict label -> probability per image, in the order of `labels`.

    Raises:
        SEVLMError: no labels, or a label twice.
    """
    if not labels or len(set(labels)) != len(labels):
        raise SEVLMError(f"labels must be distinct and at least one, got {list(labels)}")
    probabilities = label_scores(captions, labels).double().softmax(dim=1).tolist()
    return [dict(zip(labels, row, strict=True)) for row in probabilities]


def label_scores(captions: CaptionDecoder, labels: Sequence[str]) -> Tensor:
    """Sum of log p(token) over each label and its " because": (B, L) float, at most 0."""
    model, images = captions.model, len(captions.input_ids)
    encoded = [encode_label(captions.tokenizer, model.config, label) for label in labels]
    device = captions.input_ids.device
    input_ids, segment_ids, targets = (
        pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=fill).to(device)  # (L, T)
        for rows, fill in (
            ([one.input_ids for one in encoded], model.config.pad_token_id),
            ([one.segment_ids for one in encoded], model.config.explanation_token_id),
            ([one.labels for one in encoded], IGNORE_INDEX),
        )
    )
    prefix = captions.image_prefix
    embeddings = model.decoder.embed(
        input_ids.repeat(images, 1),
        segment_ids.repeat(images, 1),
        _vad_features(captions, encoded, images),
        None if prefix is None else prefix.repeat_interleave(len(labels), dim=0),
    )
    states = model.decoder(embeddings, captions.image_memory)
    scored = targets[:, 1:] != IGNORE_INDEX  # (L, T - 1)
    hidden = states.hidden_states[-1].unflatten(0, (images, len(labels)))[:, :, :-1][:, scored]  # (B, S, D)
    log_probs = model.decoder.logits(hidden).log_softmax(dim=-1)  # (B, S, V)
    picked = log_probs.gather(2, targets[:, 1:][scored].expand(images, -1)[..., None]).squeeze(2)  # (B, S)
    owner = torch.arange(len(labels), device=device)[:, None].expand_as(scored)[scored]  # (S,) label of each token
    return picked.new_zeros(images, len(labels)).index_add(1, owner, picked)


def _vad_features(captions: CaptionDecoder, encoded: Sequence[EncodedCaption], images: int) -> Tensor | None:
    """VAD features (B * L, T, 3) of the labels, each encoded alone: a non-causal encoder must not see padding."""
    if captions.lookup is None or captions.model.vad_encoder is None:
        return None
    weight = captions.model.decoder.wte.weight
    rows = [captions.model.encode_vad(captions.lookup(one.words)[None].to(weight)) for one in encoded]
    features = pad_sequence([row[0] for row in rows if row is not None], batch_first=True)  # (L, T, 3)
    return features.repeat(images, 1, 1)

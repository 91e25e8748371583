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

from sevlm.errors import SEVLMError
from sevlm.tokenization import encode_label

if TYPE_CHECKING:
    from sevlm.generation import CaptionDecoder


@torch.no_grad()
def label_probabilities(captions: CaptionDecoder, labels: Sequence[str]) -> list[dict[str, float]]:
    """Probabilities of `labels` for each image of a batch, before or after decoding it.

    One pass over the batch per label, so that no padding enters. A non-causal VAD encoder sees the whole label, as in
    training.

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
    scores = torch.stack([label_score(captions, label) for label in labels], dim=1)  # (B, L)
    probabilities = scores.double().softmax(dim=1).tolist()
    return [dict(zip(labels, row, strict=True)) for row in probabilities]


def label_score(captions: CaptionDecoder, label: str) -> Tensor:
    """Sum of log p(token) over label and " because" for each image: (B,) float, at most 0."""
    from sevlm.generation import look_up_rows

    model, rows = captions.model, len(captions.input_ids)
    encoded = encode_label(captions.tokenizer, model.config, label)
    device = captions.input_ids.device
    input_ids = torch.tensor([encoded.input_ids], device=device)  # (1, T)
    vad = None
    if captions.lookup is not None and model.vad_encoder is not None:
        vad = look_up_rows(model, captions.tokenizer, captions.lookup, input_ids).expand(rows, -1, -1)
    embeddings = model.decoder.embed(
        input_ids.expand(rows, -1),
        torch.tensor([encoded.segment_ids], device=device).expand(rows, -1),
        model.encode_vad(vad),
        captions.image_prefix,
    )
    states = model.decoder(embeddings, captions.image_memory)
    log_probs = model.decoder.logits(states.hidden_states[-1][:, :-1]).log_softmax(dim=-1)  # (B, T - 1, V)
    targets = torch.tensor(encoded.labels[1:], device=device)  # (T - 1,), IGNORE_INDEX before the label
    scored = targets >= 0
    picked = log_probs[:, scored].gather(2, targets[scored].expand(rows, -1)[..., None])  # (B, N, 1)
    return picked.sum(dim=(1, 2))

"""The three training losses and the batch indices that the contrastive one needs."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from sevlm.tokenization import IGNORE_INDEX


class Negatives(NamedTuple):
    """Rows whose explanation is the wrong one for each row of a batch of B captions.

    Attributes:
        swap: (B,) int64, same image, another emotion.
        semantic: (B,) int64, another image.
    """

    swap: Tensor
    semantic: Tensor


def lm_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the next token, mean over positions with a label (0 when there is none).

    Args:
        logits: (B, T, V) float.
        labels: (B, T) int64, unshifted: position t is scored against label t + 1.
    """
    targets = labels[:, 1:].reshape(-1)
    total = F.cross_entropy(logits[:, :-1].flatten(0, 1), targets, ignore_index=IGNORE_INDEX, reduction="sum")
    return total / (targets != IGNORE_INDEX).sum().clamp_min(1)


def contrastive_loss(positive: Tensor, negatives: Tensor) -> Tensor:
    """Mean of -log softmax of the positive score among itself and its negatives.

    The official code computes -log(1e-8 + e^p / (1e-8 + e^p + sum e^n)) and overflows for large scores;
    logsumexp does not, and differs by about 1e-8.

    Args:
        positive: (B,) float scores of matching triples.
        negatives: (B, N) float scores of mismatched ones.
    """
    scores = torch.cat((positive[:, None], negatives), dim=1)  # (B, 1 + N)
    return (scores.logsumexp(dim=1) - positive).mean()


def vad_loss(predicted: Tensor, target: Tensor, mask: Tensor, known: Tensor) -> Tensor:
    """Mean squared error of VAD values over tokens that have any, and over known dimensions.

    Args:
        predicted: (B, T, 3) float.
        target: (B, T, 3) float; a token whose values are all 0 is unknown and left out.
        mask: (B, T) bool, tokens to consider at all.
        known: (3,) float, 1 for dimensions that the lexicon has, 0 for the others.

    Returns:
        Scalar; 0 when no token counts (the official mean of nothing is NaN and ends the training).
    """
    counted = (mask & ((target * known) != 0).any(dim=-1)).to(predicted.dtype)[..., None] * known  # (B, T, 3)
    return ((predicted - target).square() * counted).sum() / counted.sum().clamp_min(1)

"""The three training losses and what they need beside the model's outputs.

Each loss is a sum divided by a count. The count is that of its own arguments, unless another is given: with several
processes or accumulated batches all of them divide by the count of the whole update, so that its gradient is the
gradient of one large batch.
"""

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


class SoftLabels(NamedTuple):
    """Labels that are distributions: S entries (row, position, token, share).

    Attributes:
        row, position, token: (S,) int64; the shares of one position replace its label.
        share: (S,) float; those of one position sum to its weight in the loss, 1 as a rule.
    """

    row: Tensor
    position: Tensor
    token: Tensor
    share: Tensor


class LossCounts(NamedTuple):
    """What the losses of one update are divided by.

    Attributes:
        lm: tokens with a label.
        contrastive: captions.
        vad: known values of counted tokens.
    """

    lm: Tensor
    contrastive: Tensor
    vad: Tensor


def lm_loss(logits: Tensor, labels: Tensor, soft: SoftLabels | None = None, count: Tensor | None = None) -> Tensor:
    """Cross-entropy of the next token, mean over positions with a label (0 when there is none).

    Args:
        logits: (B, T, V) float.
        labels: (B, T) int64, unshifted: position t is scored against label t + 1.
        soft: distributions instead of some of the labels.
        count: divisor instead of the number of labels.
    """
    count = count_labels(labels) if count is None else count
    if soft is not None:
        labels = labels.index_put((soft.row, soft.position), labels.new_tensor(IGNORE_INDEX))
    targets = labels[:, 1:].reshape(-1)
    total = F.cross_entropy(logits[:, :-1].flatten(0, 1), targets, ignore_index=IGNORE_INDEX, reduction="sum")
    if soft is not None:
        log_probs = logits[soft.row, soft.position - 1].log_softmax(dim=-1)  # (S, V)
        total = total - (soft.share * log_probs.gather(1, soft.token[:, None]).squeeze(1)).sum()
    return total / count.clamp_min(1)


def count_labels(labels: Tensor) -> Tensor:
    """Tokens of (B, T) labels that a loss is computed on."""
    return (labels[:, 1:] != IGNORE_INDEX).sum()


def contrastive_loss(positive: Tensor, negatives: Tensor, count: Tensor | None = None) -> Tensor:
    """Mean of -log softmax of the positive score among itself and its negatives.

    The official code computes -log(1e-8 + e^p / (1e-8 + e^p + sum e^n)) and overflows for large scores;
    logsumexp does not, and differs by about 1e-8.

    Args:
        positive: (B,) float scores of matching triples.
        negatives: (B, N) float scores of mismatched ones.
        count: divisor instead of B.
    """
    scores = torch.cat((positive[:, None], negatives), dim=1)  # (B, 1 + N)
    return (scores.logsumexp(dim=1) - positive).sum() / (len(positive) if count is None else count)


def vad_loss(predicted: Tensor, target: Tensor, counted: Tensor, count: Tensor | None = None) -> Tensor:
    """Mean squared error of VAD values over those that count.

    Args:
        predicted: (B, T, 3) float.
        target: (B, T, 3) float.
        counted: (B, T, 3) bool, see `counted_values`.
        count: divisor instead of the number of counted values.

    Returns:
        Scalar; 0 when no value counts (the official mean of nothing is NaN and ends the training).
    """
    count = counted.sum() if count is None else count
    return ((predicted - target).square() * counted).sum() / count.clamp_min(1)


def counted_values(target: Tensor, mask: Tensor, known: Tensor) -> Tensor:
    """Which VAD values enter the loss: those of known words, in known dimensions.

    Args:
        target: (B, T, 3) float; a token whose values are all 0 is unknown and left out.
        mask: (B, T) bool, tokens to consider at all.
        known: (3,) bool, the dimensions that the lexicon has.

    Returns:
        (B, T, 3) bool.
    """
    return (mask & ((target != 0) & known).any(dim=-1))[..., None] & known

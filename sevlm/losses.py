"""The three training losses and the batch indices that the contrastive one needs."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Negatives(NamedTuple):
    """Rows whose explanation is the wrong one for each row of a batch of B captions.

    Attributes:
        swap: (B,) int64, same image, another emotion.
        semantic: (B,) int64, another image.
    """

    swap: Tensor
    semantic: Tensor

"""Which captions stand side by side in a training batch, and which explanations are wrong for which row.

A batch holds pairs: rows 2i and 2i+1 are two captions of one picture, of different emotions where it has two. The
contrastive loss asks of each row: is this the explanation of this picture and this emotion? Wrong ones are taken from
the batch: the partner's (same picture, other emotion) and another picture's.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from sevlm.examples import TrainingExample
from sevlm.losses import Negatives

Sampling: TypeAlias = Literal["every-caption", "last-caption"]


@dataclass(frozen=True)
class Row:
    """One caption: `caption` is its index among the captions of picture `picture`."""

    picture: int
    caption: int


class PairSampler:
    """Draws the pairs of each epoch: one per picture, a function of seed and epoch alone.

    * `every-caption`: the anchor walks through a shuffled order of the picture's captions, so that each is anchor
      once in as many epochs as there are captions. Its partner has another emotion; where the picture has one emotion
      only, any other caption (or, with one caption, the anchor again).
    * `last-caption`, what the published loader does in effect: the last caption is always the anchor, and pictures
      with one emotion are left out. (Its anchor index walks backwards, but every epoch's worker processes start anew.)
    """

    def __init__(self, examples: Sequence[TrainingExample], sampling: Sampling, seed: int) -> None:
        self.examples = examples
        self.sampling = sampling
        self.seed = seed
        keep_all = sampling == "every-caption"
        self.pictures = [i for i, example in enumerate(examples) if keep_all or len(example.emotions) > 1]

    def __len__(self) -> int:
        return len(self.pictures)

    def epoch(self, epoch: int) -> list[tuple[Row, Row]]:
        """The pairs of one epoch, shuffled."""
        order = list(self.pictures)
        random.Random(f"order {self.seed} {epoch}").shuffle(order)
        return [self._pair(picture, epoch) for picture in order]

    def batches(self, epoch: int, pictures_per_batch: int) -> list[list[tuple[Row, Row]]]:
        """The pairs of one epoch in batches; a last batch of one picture joins the batch before it.

        A picture alone has no other picture's explanation to be told from: in the published code it becomes its own
        negative.
        """
        pairs = self.epoch(epoch)
        batches = [pairs[i : i + pictures_per_batch] for i in range(0, len(pairs), pictures_per_batch)]
        if pictures_per_batch > 1 and len(batches) > 1 and len(batches[-1]) == 1:
            last = batches.pop()
            batches[-1] = batches[-1] + last
        return batches

    def batch_count(self, pictures_per_batch: int) -> int:
        """Batches of an epoch, the same for all epochs."""
        full, rest = divmod(len(self.pictures), pictures_per_batch)
        joined = rest == 1 and full > 0
        return full + (rest > 0 and not joined)

    def _pair(self, picture: int, epoch: int) -> tuple[Row, Row]:
        captions = self.examples[picture].captions
        anchor = self._anchor(picture, epoch)
        emotion = captions[anchor][0]
        others = [i for i, (other, _) in enumerate(captions) if other != emotion]
        others = others or [i for i in range(len(captions)) if i != anchor] or [anchor]
        partner = random.Random(f"partner {self.seed} {picture} {epoch}").choice(others)
        return Row(picture, anchor), Row(picture, partner)

    def _anchor(self, picture: int, epoch: int) -> int:
        count = len(self.examples[picture].captions)
        if self.sampling == "last-caption":
            return count - 1
        lap, position = divmod(epoch, count)
        order = list(range(count))
        random.Random(f"anchor {self.seed} {picture} {lap}").shuffle(order)
        return order[position]


def draw_negatives(rows: Sequence[Row], emotions: Sequence[str], generator: random.Random) -> Negatives | None:
    """For each row of a batch, a row whose explanation is wrong for it.

    `swap` is the partner in the pair where its emotion differs, else a row of another picture with another emotion
    where there is one, else of any other picture. `semantic` is a row of another picture.

    Args:
        rows: B rows, 2i and 2i+1 a pair.
        emotions: their emotions.
        generator: the source of chance.

    Returns:
        Indices into the batch, or None where the batch holds a single picture.
    """
    if len({row.picture for row in rows}) < 2:
        return None
    swap, semantic = [], []
    for index, (row, emotion) in enumerate(zip(rows, emotions, strict=True)):
        elsewhere = [i for i, other in enumerate(rows) if other.picture != row.picture]
        semantic.append(generator.choice(elsewhere))
        partner = index ^ 1
        if emotions[partner] != emotion:
            swap.append(partner)
        else:
            swap.append(generator.choice([i for i in elsewhere if emotions[i] != emotion] or elsewhere))
    return Negatives(_indices(swap), _indices(semantic))


def _indices(values: list[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)

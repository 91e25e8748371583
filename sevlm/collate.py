"""Captions as tensors, encoded once, and batches of pairs cut from them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor
from tqdm import tqdm

from sevlm.config import SEVLMConfig
from sevlm.examples import TrainingExample
from sevlm.features import FeatureStore
from sevlm.losses import Negatives
from sevlm.pairs import Row, draw_negatives
from sevlm.tokenization import Tokenizer, encode_caption, was_truncated
from sevlm.vad_lookup import VADLookup


@dataclass(frozen=True)
class Batch:
    """B = 2N captions of N pictures; rows 2i and 2i+1 are two captions of picture i.

    Attributes:
        image_grid: (B, P, E) float32.
        input_ids, labels, segment_ids: (B, T) int64.
        vad: (B, T, 3) float32 in -1..1.
        negatives: rows with wrong explanations, None where the batch holds a single picture.
    """

    image_grid: Tensor
    input_ids: Tensor
    labels: Tensor
    segment_ids: Tensor
    vad: Tensor
    negatives: Negatives | None


class EncodedCaptions:
    """All captions of a training as compact tensors: 30 tokens take about 0.7 kB.

    Attributes:
        examples: the pictures, in order.
        truncated: share of captions that lose their end to `config.max_length`, in 0..1.
    """

    def __init__(
        self,
        examples: Sequence[TrainingExample],
        tokenizer: Tokenizer,
        config: SEVLMConfig,
        lookup: VADLookup,
        progress: bool = False,
    ) -> None:
        self.examples = examples
        self._starts = list(accumulate((len(example.captions) for example in examples), initial=0))
        total, length = self._starts[-1], config.max_length
        self._ids = torch.empty((3, total, length), dtype=torch.int32)  # input, label, segment
        self._vad = torch.empty((total, length, 3), dtype=torch.float32)
        captions = (caption for example in examples for caption in example.captions)
        cut = 0
        bar = tqdm(captions, desc="captions", unit="caption", total=total, disable=not progress)
        for index, (emotion, explanation) in enumerate(bar):
            encoded = encode_caption(tokenizer, config, emotion, explanation)
            self._ids[:, index] = torch.tensor([encoded.input_ids, encoded.labels, encoded.segment_ids])
            self._vad[index] = lookup(encoded.words)
            cut += was_truncated(tokenizer, config, emotion, explanation)
        self.truncated = cut / total if total else 0.0

    def __len__(self) -> int:
        return self._starts[-1]

    def rows(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Input ids, labels, segment ids, each (B, T) int64, and affect values (B, T, 3) of B captions."""
        picked = torch.tensor([self._starts[row.picture] + row.caption for row in rows])
        ids = self._ids[:, picked].to(torch.int64)
        return ids[0], ids[1], ids[2], self._vad[picked]


class Collator:
    """Pairs -> a batch on the device that computes."""

    def __init__(self, captions: EncodedCaptions, store: FeatureStore, device: torch.device | str) -> None:
        self.captions = captions
        self.store = store
        self.device = device

    def __call__(self, pairs: Sequence[tuple[Row, Row]], generator: random.Random) -> Batch:
        """N pairs -> 2N rows; each picture's features are read once and repeated on the device."""
        examples = self.captions.examples
        rows = [row for pair in pairs for row in pair]
        emotions = [examples[row.picture].captions[row.caption][0] for row in rows]
        negatives = draw_negatives(rows, emotions, generator)
        grid = self.store.grid([examples[first.picture].image_path for first, _ in pairs]).to(self.device)
        input_ids, labels, segment_ids, vad = (part.to(self.device) for part in self.captions.rows(rows))
        return Batch(
            grid.float().repeat_interleave(2, dim=0),
            input_ids,
            labels,
            segment_ids,
            vad,
            None if negatives is None else Negatives(*(index.to(self.device) for index in negatives)),
        )

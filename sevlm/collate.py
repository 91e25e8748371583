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
from sevlm.emotion_labels import EmotionLabels, SoftToken, stack_soft
from sevlm.examples import TrainingExample
from sevlm.features import FeatureStore
from sevlm.losses import Negatives, SoftLabels
from sevlm.pairs import Row, draw_negatives
from sevlm.tokenization import Tokenizer, encode_caption, was_truncated
from sevlm.vad_lookup import VADLookup

_MIDDLE = 1e-6
"""A rating in the middle of its scale: zeros mean a word that the lexicon does not know."""


@dataclass(frozen=True)
class Batch:
    """B = 2N captions of N pictures; rows 2i and 2i+1 are two captions of picture i.

    Attributes:
        image_grid: (N, P, E) float32.
        input_ids, labels, segment_ids: (B, T) int64.
        vad: (B, T, 3) float32 in -1..1.
        negatives: rows with wrong explanations, None where the batch holds a single picture.
        soft_labels: the annotators' emotions, None where the model is trained on each caption's own.
    """

    image_grid: Tensor
    input_ids: Tensor
    labels: Tensor
    segment_ids: Tensor
    vad: Tensor
    negatives: Negatives | None
    soft_labels: SoftLabels | None


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
        self.config = config
        self._starts = list(accumulate((len(example.captions) for example in examples), initial=0))
        total, length = self._starts[-1], config.max_length
        self._ids = torch.empty((3, total, length), dtype=torch.int32)  # input, label, segment
        self._vad = torch.empty((total, length, 3), dtype=torch.float32)
        self._soft: list[tuple[SoftToken, ...]] = []
        soft_labels = EmotionLabels(tokenizer, config)
        captions = ((example, caption) for example in examples for caption in example.captions)
        cut = 0
        bar = tqdm(captions, desc="captions", unit="caption", total=total, disable=not progress)
        for index, (example, (emotion, explanation)) in enumerate(bar):
            encoded = encode_caption(tokenizer, config, emotion, explanation)
            self._soft.append(soft_labels(emotion, example.counts) if config.soft_emotion_labels else ())
            self._ids[:, index] = torch.tensor([encoded.input_ids, encoded.labels, encoded.segment_ids])
            self._vad[index] = lookup(encoded.words)
            if config.rates_pictures and example.vad is not None and not explanation:
                end = encoded.input_ids.index(config.bos_token_id, config.prefix_length + 1)
                self._vad[index, end] = torch.tensor([value or _MIDDLE for value in example.vad])
            cut += was_truncated(tokenizer, config, emotion, explanation)
        self.truncated = cut / total if total else 0.0

    def __len__(self) -> int:
        return self._starts[-1]

    def rows(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Input ids, labels, segment ids, each (B, T) int64, and affect values (B, T, 3) of B captions.

        T is the longest caption's length where no result depends on padding, else `config.max_length`.
        """
        picked = torch.tensor(self._indices(rows))
        ids = self._ids[:, picked].to(torch.int64)
        length = ids.shape[2]
        if not _padding_matters(self.config):
            length = int((ids[0] != self.config.pad_token_id).sum(dim=1).max())
        return ids[0, :, :length], ids[1, :, :length], ids[2, :, :length], self._vad[picked, :length]

    def soft_labels(self, rows: Sequence[Row]) -> SoftLabels | None:
        """The annotators' emotions of B captions; None where the configuration wants none."""
        return stack_soft([self._soft[index] for index in self._indices(rows)])

    def _indices(self, rows: Sequence[Row]) -> list[int]:
        return [self._starts[row.picture] + row.caption for row in rows]


def _padding_matters(config: SEVLMConfig) -> bool:
    """Whether pads change what the model computes for other tokens, as they do in the released code."""
    encoder_sees_pads = config.use_vad_features and not config.causal_vad_encoder
    return encoder_sees_pads or not config.mask_padding_in_means or config.fusion_boundary == "fixed6"


class Collator:
    """Pairs -> a batch on the device that computes."""

    def __init__(self, captions: EncodedCaptions, store: FeatureStore, device: torch.device | str) -> None:
        self.captions = captions
        self.store = store
        self.device = device

    def __call__(self, pairs: Sequence[tuple[Row, Row]], generator: random.Random) -> Batch:
        """N pairs -> 2N rows; each picture's features are read once."""
        examples = self.captions.examples
        rows = [row for pair in pairs for row in pair]
        emotions = [examples[row.picture].captions[row.caption][0] for row in rows]
        negatives = draw_negatives(rows, emotions, generator)
        grid = self.store.grid([examples[first.picture].image_path for first, _ in pairs]).to(self.device)
        input_ids, labels, segment_ids, vad = (part.to(self.device) for part in self.captions.rows(rows))
        soft_labels = self.captions.soft_labels(rows)
        return Batch(
            grid.float(),
            input_ids,
            labels,
            segment_ids,
            vad,
            None if negatives is None else Negatives(*(index.to(self.device) for index in negatives)),
            None if soft_labels is None else SoftLabels(*(part.to(self.device) for part in soft_labels)),
        )

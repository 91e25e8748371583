"""Evaluation during a training: emotions, text and loss on the validation pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sevlm.caption_scores import corpus_bleu
from sevlm.collate import EncodedCaptions
from sevlm.examples import TrainingExample
from sevlm.features import FeatureStore
from sevlm.generation import Generated
from sevlm.losses import lm_loss
from sevlm.model import SEVLM
from sevlm.pairs import Row
from sevlm.vad_lookup import VADLookup


@dataclass(frozen=True)
class Scores:
    """One evaluation.

    Attributes:
        accuracy: share of pictures with a dominant emotion (more than half of the annotators) whose generated emotion
            equals it, in 0..1; 0 without such pictures.
        bleu_4: corpus BLEU-4 of the explanations against all explanations of the picture, in 0..1.
        lm_loss: mean over batches of the cross-entropy per token, in nats.
        dominant: pictures with a dominant emotion.
        pictures: all pictures.
    """

    accuracy: float
    bleu_4: float
    lm_loss: float
    dominant: int
    pictures: int


@dataclass(frozen=True)
class Evaluator:
    """Validation pictures, ready to be asked about.

    Attributes:
        captions: their captions, encoded.
        store: their features.
        lookup: affect of words.
        batch_size: pictures per batch.
    """

    captions: EncodedCaptions
    store: FeatureStore
    lookup: VADLookup
    batch_size: int

    def scores(self, model: SEVLM) -> Scores:
        """Generate a caption per picture, score it, and put the model back in its mode."""
        examples = self.captions.examples
        training = model.training
        model.eval()
        try:
            generated = self.generate(model)
            loss = self._loss(model)
        finally:
            model.train(training)
        answered = [e.dominant_emotion == g.emotion for e, g in zip(examples, generated, strict=True)]
        dominant = sum(example.dominant_emotion is not None for example in examples)
        references = [[explanation for _, explanation in example.captions] for example in examples]
        return Scores(
            accuracy=sum(answered) / dominant if dominant else 0.0,
            bleu_4=corpus_bleu([g.explanation for g in generated], references),
            lm_loss=loss,
            dominant=dominant,
            pictures=len(examples),
        )

    def generate(self, model: SEVLM) -> list[Generated]:
        """One greedy caption per picture, in order."""
        found: list[Generated] = []
        for batch in self._batches():
            found += model.generate(self._grid(model, batch), lookup=self.lookup)
        return found

    @torch.no_grad()
    def _loss(self, model: SEVLM) -> float:
        """Every caption once, as the model reads it in training."""
        total = rows_seen = 0.0
        start = 0
        for batch in self._batches():
            rows = [Row(start + i, c) for i, example in enumerate(batch) for c in range(len(example.captions))]
            repeats = torch.tensor([len(example.captions) for example in batch])  # differ from picture to picture
            device = next(model.parameters()).device
            input_ids, labels, segment_ids, vad = (part.to(device) for part in self.captions.rows(rows))
            grid = self._grid(model, batch).repeat_interleave(repeats.to(device), dim=0)
            logits = model(grid, input_ids, segment_ids, vad).logits
            total += float(lm_loss(logits.float(), labels)) * len(rows)
            rows_seen += len(rows)
            start += len(batch)
        return total / rows_seen

    def _batches(self) -> list[Sequence[TrainingExample]]:
        examples = self.captions.examples
        return [examples[i : i + self.batch_size] for i in range(0, len(examples), self.batch_size)]

    def _grid(self, model: SEVLM, examples: Sequence[TrainingExample]) -> torch.Tensor:
        reference = next(model.parameters())
        return self.store.grid([example.image_path for example in examples]).to(reference.device, reference.dtype)

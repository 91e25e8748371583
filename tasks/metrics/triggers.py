"""Recall of triggers: of the things that people say evoke the emotion, how many does the explanation name?

For tasks whose annotations are triggers, short phrases (`triggers: true` in the card). A sentence encoder that the user
names says whether a phrase is named.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from harness.tasks.metrics.base import (
    EVERY_VIEW,
    EXPLAINS,
    AdditiveMetric,
    FloatArray,
    ScoredExample,
    Statistics,
    Unavailable,
    encoder_label,
    ratio,
    statistics_of,
)
from harness.tasks.metrics.java import one_line
from harness.types import Task

FOUND_FROM = 0.5
"""Cosine from which a trigger counts as named, unless the user says otherwise."""
_BATCH = 64
_CLAUSES = re.compile(r"[.,;:!?]+|\b(?:and|because|but|while|which)\b", re.IGNORECASE)


class SentenceEncoder:
    """Sentences to unit vectors: the mean of an encoder's last hidden states over a text's tokens.

    Args:
        model: folder or hub id of an encoder.
        found_from: cosine from which two texts count as saying the same.
    """

    def __init__(self, model: str, found_from: float = FOUND_FROM) -> None:
        self._name, self.found_from = model, found_from
        self._vectors: dict[str, FloatArray] = {}

    def missing(self) -> str | None:
        """Why it cannot be used."""
        try:
            self._encoder  # noqa: B018 (loads it)
        except Unavailable as reason:
            return str(reason)
        return None

    def vectors(self, texts: Iterable[str]) -> FloatArray:
        """(n, d), unit length."""
        import torch

        wanted = list(texts)
        new = [text for text in dict.fromkeys(wanted) if text not in self._vectors]
        for start in range(0, len(new), _BATCH):
            batch = new[start : start + _BATCH]
            model, tokenizer, longest = self._encoder
            lines = [one_line(text) for text in batch]
            tokens = tokenizer(lines, padding=True, truncation=True, max_length=longest, return_tensors="pt")
            with torch.inference_mode():
                states = model(**tokens.to(model.device)).last_hidden_state.double()  # (B, T, d)
            weights = tokens["attention_mask"].unsqueeze(-1)  # (B, T, 1)
            means = (states * weights).sum(1) / weights.sum(1)
            unit = torch.nn.functional.normalize(means, dim=-1).cpu().numpy()
            self._vectors.update(zip(batch, unit, strict=True))
        return np.array([self._vectors[text] for text in wanted])

    def forget(self) -> None:
        """Drop what is kept of texts seen so far."""
        self._vectors.clear()

    def shown_name(self) -> str:
        """The hub id, or the folder's name and the hash of its weights."""
        return encoder_label(self._name)

    @cached_property
    def _encoder(self) -> tuple[Any, Any, int]:
        import torch
        from transformers import AutoModel, AutoTokenizer

        try:
            model: Any
            model, found = AutoModel.from_pretrained(self._name, trust_remote_code=False, output_loading_info=True)
            if any(not name.startswith("pooler.") for name in found["missing_keys"]):  # transformers makes random ones
                raise ValueError("weights are missing")
            tokenizer: Any = AutoTokenizer.from_pretrained(self._name)
            with torch.inference_mode():
                states = model.eval()(**tokenizer(["word"], return_tensors="pt"))
            states.last_hidden_state  # noqa: B018 (not every model has one)
        except Exception as error:  # a model of other things than sentences fails in any way
            told = one_line(str(error))
            raise Unavailable(f"sentence encoder {encoder_label(self._name)} cannot be used ({told})") from error
        longest = min(tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", 512))
        return model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer, longest


class TriggerRecall(AdditiveMetric):
    """Triggers that the explanation names / triggers of all answered examples.

    One is named if the cosine with the explanation, or with one of its clauses, is at least the threshold. Range 0..1,
    higher is better.
    """

    name = "trigger_recall"
    label = "Triggers named"
    description = "Share of the triggers that people gave which the explanation names, by a sentence encoder."
    family = "text"
    group = "text"
    style = "percent"
    decimals = 1
    higher_is_better = True
    requires = EXPLAINS
    reference_texts = True
    views = EVERY_VIEW
    source = "after EIBench, whose judge is a language model"

    @classmethod
    def applies(cls, task: Task) -> bool:
        """Where annotations are triggers."""
        return task.explanations and task.triggers

    def missing(self) -> str | None:
        """No encoder was chosen, or it cannot be used."""
        encoder = self.context.find(SentenceEncoder)
        if encoder is None:
            return "no encoder was chosen; type: harness score RUN --sentence-encoder FOLDER|HUB_ID"
        return encoder.missing()

    def statistics(self, rows: Sequence[ScoredExample]) -> Statistics:
        """(n, 2): triggers named, triggers."""
        encoder = self.context.find(SentenceEncoder)
        if encoder is None:
            raise Unavailable(str(self.missing()))
        triggers = [[a.explanation for a in row.references if a.explanation] for row in rows]
        eligible = [row.explanation is not None and bool(t) for row, t in zip(rows, triggers, strict=True)]
        named = np.zeros(len(rows))
        for i in np.flatnonzero(eligible).tolist():
            said = clauses(rows[i].explanation or "")
            if said:
                cosines = encoder.vectors(triggers[i]) @ encoder.vectors(said).T  # (triggers, clauses)
                named[i] = (cosines.max(axis=1) >= encoder.found_from).sum()
        return statistics_of([named, [float(len(t)) for t in triggers]], eligible)

    def value(self, sums: FloatArray) -> FloatArray:
        """The share (...) of sums (..., 2)."""
        return ratio(sums[..., 0], sums[..., 1])

    def fields(self) -> dict[str, str]:
        """The encoder and the threshold."""
        encoder = self.context.find(SentenceEncoder)
        if encoder is None:
            return {"encoder": "none"}
        return {"encoder": encoder.shown_name(), "named_from": f"{encoder.found_from:g}"}


def clauses(explanation: str) -> list[str]:
    """The explanation and its clauses, each once.

    >>> clauses("the room is torn down, and she weeps")
    ['the room is torn down, and she weeps', 'the room is torn down', 'she weeps']
    """
    parts = [explanation, *_CLAUSES.split(explanation)]
    return list(dict.fromkeys(text for part in parts if (text := " ".join(part.split()))))

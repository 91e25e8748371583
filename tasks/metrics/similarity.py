"""BERTScore: how well each word piece of an explanation is matched by one of a reference, in an encoder's space.

The package bert-score does the arithmetic. Raw F1 is shown, neither weighted by inverse document frequency nor rescaled
with a baseline: such numbers are high by nature (0.85 for unrelated texts is common) and compare within one encoder.
"""

from __future__ import annotations

import importlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from harness.tasks.metrics.base import FloatArray, ScoredExample, Unavailable, encoder_label
from harness.tasks.metrics.captions import MeanCaption
from harness.tasks.metrics.java import one_line

Pair: TypeAlias = tuple[str, str]

_PAIRS_AT_ONCE = 4_000
"""Pairs embedded together: every distinct text of them is held in memory."""

_BATCH = 64
_DECIMALS = 5


class TextSimilarity:
    """Scores pairs of texts with an encoder, each distinct pair once.

    Args:
        model: folder or hub id of an encoder.
        layer: hidden layer that is compared; None for the one that bert-score recommends, else the last.
    """

    def __init__(self, model: str, layer: int | None = None) -> None:
        self._name, self._layer = model, layer
        self._known: dict[Pair, float] = {}

    def missing(self) -> str | None:
        """Why it cannot be used: bert-score is not installed, or the encoder cannot be loaded."""
        try:
            self._encoder  # noqa: B018 (loads it)
        except ImportError:
            return "bert-score is not installed; type: pip install 'sevlm-harness[bertscore]'"
        except Unavailable as reason:
            return str(reason)
        return None

    def f1(self, pairs: Iterable[Pair]) -> FloatArray:
        """Raw F1 (n,) of (candidate, reference) pairs, -1..1; 0 where one of them is empty.

        Pairs that share texts should stand together: texts are embedded once per 4,000 pairs.
        """
        wanted = [(one_line(candidate), one_line(reference)) for candidate, reference in pairs]
        new = list(dict.fromkeys(pair for pair in wanted if pair not in self._known))
        self._known.update((pair, 0.0) for pair in new if not all(pair))
        new = [pair for pair in new if pair not in self._known]
        for start in range(0, len(new), _PAIRS_AT_ONCE):
            part = new[start : start + _PAIRS_AT_ONCE]
            model, tokenizer, _ = self._encoder
            device = str(next(model.parameters()).device)
            # every word piece weighs 1: no inverse document frequencies; the marks around a text weigh nothing
            weights = defaultdict(lambda: 1.0, {tokenizer.sep_token_id: 0.0, tokenizer.cls_token_id: 0.0})
            candidates, references = [c for c, _ in part], [r for _, r in part]
            scores = _bert_score().bert_cos_score_idf(
                model, references, candidates, tokenizer, weights, batch_size=_BATCH, device=device
            )  # (n, 3): precision, recall, F1
            # a text's company decides how its batch is padded, and so the last bits
            f1 = [round(score, _DECIMALS) for score in scores[:, 2].tolist()]
            self._known.update(zip(part, f1, strict=True))
        return np.array([self._known[pair] for pair in wanted], dtype=np.float64)

    def forget(self) -> None:
        """Drop what is kept of texts seen so far."""
        self._known.clear()

    def hash(self) -> str:
        """bert-score's own hash: encoder, layer, versions; of a folder its name and the hash of its weights."""
        _, _, layer = self._encoder
        found: str = _bert_score().get_hash(encoder_label(self._name), layer, False, False, False, False)
        return found

    @cached_property
    def _encoder(self) -> tuple[Any, Any, int]:
        import torch
        from transformers import AutoConfig

        package = _bert_score()
        try:
            config: Any = AutoConfig.from_pretrained(self._name, trust_remote_code=False)
            layer = self._layer or package.model2layers.get(self._name) or config.num_hidden_layers
            model, tokenizer = package.get_model(self._name, layer), package.get_tokenizer(self._name)
        except (OSError, ValueError, AssertionError) as error:
            raise Unavailable(
                f"encoder {encoder_label(self._name)} cannot be loaded ({' '.join(str(error).split())})"
            ) from error
        # bert-score lets longer texts through to the model, which has no positions for them
        tokenizer.model_max_length = min(tokenizer.model_max_length, getattr(config, "max_position_embeddings", 512))
        return model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer, layer


def _bert_score() -> Any:
    """The package (it has no types), imported when first used.

    Raises:
        ImportError: it is not installed.
    """
    return importlib.import_module("bert_score.utils")


class BertScore(MeanCaption):
    """Mean over examples of the best reference's BERTScore F1 (raw). Range -1..1, higher is better.

    Texts are compared as given, whatever the protocol. The maximum is taken over F1 itself.
    """

    name = "bert_score"
    label = "BERTScore"
    description = "BERTScore F1 of the explanation."
    group = "text-more"
    bounds = (-1.0, 1.0)
    protocol_dependent = False
    source = "Zhang et al. 2020; bert-score"

    def missing(self) -> str | None:
        """No encoder was chosen, or it cannot be used."""
        similarity = self.context.find(TextSimilarity)
        if similarity is None:
            return "no encoder was chosen; type: harness score RUN --bert-score FOLDER|HUB_ID"
        return similarity.missing()

    def prepare(self, rows: Sequence[ScoredExample]) -> None:
        """Score all pairs of all models, example by example, so that references are embedded once for all."""
        similarity = self._similarity()
        answered = sorted((row for row in rows if row.explanation), key=lambda row: row.example.id)
        similarity.f1((row.explanation or "", a.explanation) for row in answered for a in row.references)

    def scores(self, candidates: Sequence[str], references: Sequence[Sequence[str]]) -> FloatArray:
        """The best F1 (n,)."""
        pairs = [(c, r) for c, refs in zip(candidates, references, strict=True) for r in refs]
        starts = np.cumsum([0, *map(len, references)])[:-1]
        return np.maximum.reduceat(self._similarity().f1(pairs), starts) if pairs else np.zeros(0)

    def fields(self) -> dict[str, str]:
        """bert-score's hash."""
        return {"hash": "none" if self.missing() else self._similarity().hash()}

    def _similarity(self) -> TextSimilarity:
        similarity = self.context.find(TextSimilarity)
        if similarity is None:
            raise Unavailable(str(self.missing()))
        return similarity

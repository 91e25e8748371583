"""Metrics of the probabilities over emotions, where a model gives them.

The target is the distribution of the annotators' choices, not one label. Only answered examples whose answer
carries probabilities count; n says how many. A model that answers with labels alone, or puts all its mass on
single labels, has no such metric.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from harness.tasks.metrics.base import (
    AdditiveMetric,
    BoolArray,
    FloatArray,
    MeanMetric,
    Metric,
    ScoredExample,
    Statistics,
    View,
    dominance_rule,
    mean_statistics,
    ratio,
    statistics_of,
)
from harness.types import Answer

FLOOR = 1e-12
"""Smallest probability taken into a logarithm."""

BINS = 15
"""Equal-width confidence bins of the calibration error, as in Guo et al. 2017."""

DOUBTS = (
    ("probabilities", "the model gives no probabilities"),
    ("doubt", "the model's probabilities are all 0 or 1"),
)
"""What these metrics require of a model."""


def predicted_distributions(rows: Sequence[ScoredExample], labels: Sequence[str]) -> tuple[FloatArray, BoolArray]:
    """Probabilities (n, L) in label order, each row summing to 1 (zero if absent), and which rows have them (n,)."""
    table = np.zeros((len(rows), len(labels)))
    for index, row in enumerate(rows):
        if isinstance(row.outcome, Answer) and row.outcome.emotion_probs is not None:
            probs = np.array([row.outcome.emotion_probs.get(label, 0.0) for label in labels])
            table[index] = probs / probs.sum()
    return table, table.sum(axis=1) > 0


def annotator_distributions(rows: Sequence[ScoredExample], labels: Sequence[str]) -> FloatArray:
    """Shares of annotators (n, L) in label order."""
    return np.array([[row.share(label) for label in labels] for row in rows]).reshape(len(rows), len(labels))


class _AgainstAnnotators(MeanMetric):
    """Mean of a divergence between the model's and the annotators' distribution."""

    family = "probability"
    requires = DOUBTS
    higher_is_better = False
    views: ClassVar[frozenset[View]] = frozenset({"reference", "predicted", "slice"})

    def statistics(self, rows: Sequence[ScoredExample]) -> Statistics:
        """(n, 2): divergence, 1."""
        labels = self.context.task.emotions
        predicted, given = predicted_distributions(rows, labels)
        observed = annotator_distributions(rows, labels)
        return mean_statistics(self.divergence(predicted, observed), list(given & observed.any(axis=1)))

    @abstractmethod
    def divergence(self, predicted: FloatArray, observed: FloatArray) -> FloatArray:
        """Divergences (n,) of distributions (n, L)."""


class CrossEntropy(_AgainstAnnotators):
    """Mean of -sum_e q_e ln p_e: annotators' shares q, model's probabilities p (floored at 1e-12), in nats.

    Range 0..inf, lower is better; its minimum is the entropy of q.
    """

    name = "cross_entropy"
    label = "Cross-entropy"
    description = "Cross-entropy of the model's label distribution against the annotators' distribution."
    group = "probability"
    bounds = (0.0, None)
    source = "soft-label cross-entropy, ArtEmis artemis/utils/basic.py:cross_entropy"

    def divergence(self, predicted: FloatArray, observed: FloatArray) -> FloatArray:
        """Cross-entropies (n,) in nats."""
        entropies: FloatArray = -(observed * np.log(np.maximum(predicted, FLOOR))).sum(axis=1)
        return entropies

    def fields(self) -> dict[str, str]:
        """Unit and floor."""
        return {"log": "e", "floor": str(FLOOR)}


class JSDivergence(_AgainstAnnotators):
    """Mean Jensen-Shannon divergence (base 2) of model and annotators. Range 0..1, lower is better."""

    name = "js_divergence"
    label = "JS divergence"
    description = "Jensen-Shannon divergence between the model's and the annotators' label distributions."
    group = "probability"
    source = "Lin 1991, divergence measures based on the Shannon entropy"

    def divergence(self, predicted: FloatArray, observed: FloatArray) -> FloatArray:
        """Divergences (n,) in bits."""
        middle = (predicted + observed) / 2
        return (_kl_bits(predicted, middle) + _kl_bits(observed, middle)) / 2

    def fields(self) -> dict[str, str]:
        """Unit."""
        return {"log": "2"}


def _kl_bits(p: FloatArray, q: FloatArray) -> FloatArray:
    """Kullback-Leibler divergences (n,) of (n, L), where q > 0 wherever p > 0 but for underflow."""
    terms = np.log2(np.divide(p, q, out=np.ones_like(p), where=(p > 0) & (q > 0)))
    divergences: FloatArray = (p * terms).sum(axis=1)
    return divergences


class Brier(_AgainstAnnotators):
    """Mean of sum_e (p_e - q_e)^2 against the annotators' shares. Range 0..2, lower is better."""

    name = "brier"
    label = "Brier score"
    description = "Squared distance between the model's and the annotators' label distributions."
    group = "probability"
    bounds = (0.0, 2.0)
    source = "Brier 1950, with the annotators' shares as the observation"

    def divergence(self, predicted: FloatArray, observed: FloatArray) -> FloatArray:
        """Squared distances (n,)."""
        distances: FloatArray = ((predicted - observed) ** 2).sum(axis=1)
        return distances


class RankTau(_AgainstAnnotators):
    """Mean of Kendall's tau-b of labels ranked by probability and by annotators' shares, 0 if one ranks nothing.

    (concordant - discordant) / sqrt(pairs untied in one x pairs untied in the other). Range -1..1, higher is better.
    """

    name = "rank_tau"
    label = "Rank tau"
    description = "How far the model ranks the labels as people do."
    group = "probability"
    higher_is_better = True
    bounds = (-1.0, 1.0)
    source = "Kendall 1945"

    def divergence(self, predicted: FloatArray, observed: FloatArray) -> FloatArray:
        """Rank correlations (n,) of distributions (n, L)."""
        first, second = np.triu_indices(predicted.shape[1], 1)
        own, theirs = (np.sign(d[:, first] - d[:, second]) for d in (predicted, observed))  # (n, pairs)
        untied = np.sqrt(np.abs(own).sum(axis=1) * np.abs(theirs).sum(axis=1))
        correlations: FloatArray = np.nan_to_num(ratio((own * theirs).sum(axis=1), untied))
        return correlations


class TopK(MeanMetric):
    """Share of images whose dominant emotion is among the k labels that the model finds likeliest, k 2 or 3.

    Over answered images with probabilities and a dominant emotion; of equally likely labels the first in the task's
    order counts. Range 0..1, higher is better.
    """

    family = "probability"
    requires = DOUBTS
    higher_is_better = True
    group = "probability"
    style = "percent"
    decimals = 1
    proportion = True
    protocol_dependent = True
    views: ClassVar[frozenset[View]] = frozenset({"reference", "slice"})
    source = "scikit-learn top_k_accuracy_score"
    k: ClassVar[int]

    @classmethod
    def variant(cls, k: str) -> type[Metric]:
        """Accuracy among the k likeliest labels."""
        said = f"The dominant emotion is among the {k} labels that the model finds likeliest."
        return cls.member(name=f"top_{k}", k=int(k), label=f"Top-{k} accuracy", description=said)

    def statistics(self, rows: Sequence[ScoredExample]) -> Statistics:
        """(n, 2): among the k likeliest, 1."""
        labels = self.context.task.emotions
        predicted, given = predicted_distributions(rows, labels)
        likeliest = np.argsort(-predicted, axis=1, kind="stable")[:, : self.k]
        dominant = [self.context.dominant(row.histogram) for row in rows]
        found = [d is not None and labels.index(d) in first for d, first in zip(dominant, likeliest, strict=True)]
        counts = given & np.array([d is not None for d in dominant], dtype=bool)
        return mean_statistics(np.array(found, dtype=np.float64), counts)

    def fields(self) -> dict[str, str]:
        """The dominance rule."""
        return {"dominance": dominance_rule(self.context.task).name}


class _Calibration(AdditiveMetric):
    """sum_b (n_b / n) |observed_b - confidence_b| over 15 equal-width bins of the confidence in the given answer."""

    family = "probability"
    requires = DOUBTS
    higher_is_better = False
    group = "probability"
    style = "percent"
    decimals = 1
    views: ClassVar[frozenset[View]] = frozenset({"slice"})

    @abstractmethod
    def observed(self, row: ScoredExample) -> float | None:
        """How right an answer is, 0..1; None for an image that does not count."""

    def statistics(self, rows: Sequence[ScoredExample]) -> Statistics:
        """(n, 3 B + 1): in the bin observed minus confidence, 1, confidence; last 1 if another label is likelier."""
        labels = self.context.task.emotions
        predicted, given = predicted_distributions(rows, labels)
        columns, eligible = np.zeros((len(rows), 3 * BINS + 1)), given.copy()
        for index, row in enumerate(rows):
            observed = self.observed(row)
            eligible[index] &= observed is not None
            if eligible[index] and row.emotion is not None and observed is not None:
                confidence = predicted[index, labels.index(row.emotion)]
                slot = min(int(confidence * BINS), BINS - 1)
                columns[index, [slot, BINS + slot, 2 * BINS + slot]] = observed - confidence, 1.0, confidence
                columns[index, -1] = confidence < predicted[index].max()
        return statistics_of(list(columns.T), eligible)

    def value(self, sums: FloatArray) -> FloatArray:
        """Calibration errors (...) of (..., 3 B + 1)."""
        gaps, members = sums[..., :BINS], sums[..., BINS : 2 * BINS]
        return ratio(np.abs(gaps).sum(-1), members.sum(-1))

    def fields(self) -> dict[str, str]:
        """Bins."""
        return {"bins": str(BINS)}


class ECE(_Calibration):
    """Expected calibration error: sum_b (n_b / n) |accuracy_b - confidence_b| over 15 equal-width bins.

    Confidence is the probability that the model gives its own answer; the answer is right when it equals the
    dominant emotion. Over answered images with probabilities and a dominant emotion. The majority's label is right more
    often than one annotator's, so a model that states the shares exactly is not at 0. Range 0..1, lower is better.
    """

    name = "ece"
    label = "Calibration error (majority)"
    description = "Calibration error against the dominant emotion; not 0 for a model that states the shares exactly."
    protocol_dependent = True
    source = "Guo et al. 2017, on calibration of modern neural networks"

    def statistics(self, rows: Sequence[ScoredExample]) -> Statistics:
        """(n, 2 B): in the bin observed minus confidence, 1."""
        values, eligible = super().statistics(rows)
        return Statistics(values[:, : 2 * BINS].copy(), eligible)

    def observed(self, row: ScoredExample) -> float | None:
        """1 if the answer is the dominant emotion, else 0."""
        dominant = self.context.dominant(row.histogram)
        return None if dominant is None else float(row.emotion == dominant)

    def fields(self) -> dict[str, str]:
        """Bins and dominance rule."""
        return super().fields() | {"dominance": dominance_rule(self.context.task).name}


class ECEShares(_Calibration):
    """Expected calibration error against people's shares: sum_b (n_b / n) |share_b - confidence_b| over 15 bins.

    Confidence is the probability that the model gives its own answer, share_b the mean share of annotators who chose
    the answer. Over all answered images with probabilities; 0 for a model that states the annotators' shares.
    Range 0..1, lower is better.
    """

    name = "ece_shares"
    label = "Calibration error"
    description = "Gap between the probability given to the answer and the share of annotators who chose it."
    source = "Guo et al. 2017, with the annotators' shares in place of one true label"

    def observed(self, row: ScoredExample) -> float | None:
        """Share of the annotators who chose the answer."""
        return row.share(row.emotion) if row.emotion is not None and row.histogram else None

    def bins(self, statistics: Statistics) -> dict[str, Any] | None:
        """The reliability diagram: overall means; of each bin that holds answers n, mean confidence and mean share.

        `contradicted` is the share of answers whose own label is not the likeliest. None if nothing counts.
        """
        total = statistics.values[statistics.eligible].sum(0)
        gaps, members, confidences = total[:BINS], total[BINS : 2 * BINS], total[2 * BINS : 3 * BINS]
        n = members.sum()
        if not n:
            return None
        slots = [
            {
                "slot": int(slot),
                "n": int(members[slot]),
                "confidence": float(confidences[slot] / members[slot]),
                "accuracy": float((gaps[slot] + confidences[slot]) / members[slot]),
            }
            for slot in np.flatnonzero(members)
        ]
        return {
            "metric": self.name,
            "bins": BINS,
            "n": int(n),
            "error": float(self.value(total)),
            "confidence": float(confidences.sum() / n),
            "accuracy": float((gaps + confidences).sum() / n),
            "contradicted": float(total[-1] / n),
            "slots": slots,
        }

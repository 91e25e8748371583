"""Metrics of the probabilities over emotions, where a model gives them.

The target is the distribution of the annotators' choices, not one label. Only answered paintings whose answer
carries probabilities count; n says how many. A model that answers with labels alone, or puts all its mass on
single labels, has no such metric.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from harness.tasks.metrics.base import (
    AdditiveMetric,
    BoolArray,
    FloatArray,
    MeanMetric,
    Row,
    Statistics,
    Unavailable,
    View,
    mean_statistics,
    ratio,
    statistics_of,
)
from harness.tasks.metrics.dominance import dominance_rule
from harness.types import Answer

FLOOR = 1e-12
"""Smallest probability taken into a logarithm."""

BINS = 15
"""Equal-width confidence bins of the calibration error, as in Guo et al. 2017."""


def predicted_distributions(rows: Sequence[Row], labels: Sequence[str]) -> tuple[FloatArray, BoolArray]:
    """Probabilities (n, L) in label order, each row summing to 1 (zero where absent), and which rows have them (n,).

    Raises:
        Unavailable: no answer carries probabilities, or all of them are one-hot.
    """
    table = np.zeros((len(rows), len(labels)))
    for index, row in enumerate(rows):
        if isinstance(row.outcome, Answer) and row.outcome.emotion_probs is not None:
            probs = np.array([row.outcome.emotion_probs.get(label, 0.0) for label in labels])
            table[index] = probs / probs.sum()
    given = table.sum(axis=1) > 0
    if not given.any():
        raise Unavailable("the model gives no probabilities")
    if (table[given].max(axis=1) == 1.0).all():
        raise Unavailable("the model's probabilities are all 0 or 1")
    return table, given


def annotator_distributions(rows: Sequence[Row], labels: Sequence[str]) -> FloatArray:
    """Shares of annotators (n, L) in label order."""
    return np.array([[row.share(label) for label in labels] for row in rows]).reshape(len(rows), len(labels))


class _AgainstAnnotators(MeanMetric):
    """Mean of a divergence between the model's and the annotators' distribution."""

    family = "probability"
    higher_is_better = False
    views: ClassVar[frozenset[View]] = frozenset({"reference", "predicted", "slice"})

    def statistics(self, rows: Sequence[Row]) -> Statistics:
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
    source = "Lin 1991, divergence measures based on the Shannon entropy"

    def divergence(self, predicted: FloatArray, observed: FloatArray) -> FloatArray:
        """Divergences (n,) in bits."""
        middle = (predicted + observed) / 2
        return (_kl_bits(predicted, middle) + _kl_bits(observed, middle)) / 2

    def fields(self) -> dict[str, str]:
        """Unit."""
        return {"log": "2"}


def _kl_bits(p: FloatArray, q: FloatArray) -> FloatArray:
    """Kullback-Leibler divergences (n,) of (n, L), where q > 0 wherever p > 0."""
    terms = np.log2(np.divide(p, q, out=np.ones_like(p), where=p > 0))
    divergences: FloatArray = (p * terms).sum(axis=1)
    return divergences


class Brier(_AgainstAnnotators):
    """Mean of sum_e (p_e - q_e)^2 against the annotators' shares. Range 0..2, lower is better."""

    name = "brier"
    bounds = (0.0, 2.0)
    source = "Brier 1950, with the annotators' shares as the observation"

    def divergence(self, predicted: FloatArray, observed: FloatArray) -> FloatArray:
        """Squared distances (n,)."""
        distances: FloatArray = ((predicted - observed) ** 2).sum(axis=1)
        return distances


class ECE(AdditiveMetric):
    """Expected calibration error: sum_b (n_b / n) |accuracy_b - confidence_b| over 15 equal-width bins.

    Confidence is the probability that the model gives its own answer; the answer is right when it equals the
    dominant emotion. Over answered paintings with probabilities and a dominant emotion. Range 0..1, lower is better.
    """

    name = "ece"
    family = "probability"
    higher_is_better = False
    protocol_dependent = True
    views: ClassVar[frozenset[View]] = frozenset({"slice"})
    source = "Guo et al. 2017, on calibration of modern neural networks"

    def statistics(self, rows: Sequence[Row]) -> Statistics:
        """(n, 2 B): right minus confidence in the row's bin, then 1 in the row's bin."""
        labels = self.context.task.emotions
        predicted, given = predicted_distributions(rows, labels)
        dominant = [self.context.dominant(row.histogram) for row in rows]
        gaps, members = np.zeros((len(rows), BINS)), np.zeros((len(rows), BINS))
        for index, row in enumerate(rows):
            if given[index] and row.emotion is not None:
                confidence = predicted[index, labels.index(row.emotion)]
                slot = min(int(confidence * BINS), BINS - 1)
                gaps[index, slot] = float(row.emotion == dominant[index]) - confidence
                members[index, slot] = 1.0
        return statistics_of([*gaps.T, *members.T], list(given & np.array([d is not None for d in dominant])))

    def value(self, sums: FloatArray) -> FloatArray:
        """Calibration errors (...) of (..., 2 B)."""
        gaps, members = np.split(sums, 2, axis=-1)
        return ratio(np.abs(gaps).sum(-1), members.sum(-1))

    def fields(self) -> dict[str, str]:
        """Bins and dominance rule."""
        return {"bins": str(BINS), "dominance": dominance_rule(self.context.task.protocol).name}

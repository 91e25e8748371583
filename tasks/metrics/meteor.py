"""METEOR 1.5 from its match statistics.

The jar answers each (candidate, reference) pair with 23 numbers: length of candidate and reference, function words
of both, then for each matcher (exact, stem, synonym, paraphrase) the matched content words of candidate and reference
and the matched function words of candidate and reference, then chunks and matched words of candidate and reference.
Scores are functions of (sums of) these numbers, so the jar is asked once per pair and corpus METEOR of any subset of
paintings follows by addition.

Source: Denkowski & Lavie 2014, Meteor Universal; parameters of the English ranking task.
"""

from __future__ import annotations

import numpy as np

from harness.tasks.metrics.base import FloatArray

ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
MATCHER_WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])
"""Exact, stem, synonym, paraphrase."""

COLUMNS = 23
"""Numbers in a statistics row."""

CHUNKS = 20
"""Index of the number of chunks."""


def additive(statistics: FloatArray) -> FloatArray:
    """Rows (n, 23) ready to be summed: a candidate matched whole in one chunk counts no chunk, as in the jar."""
    candidate, reference = statistics[:, 0], statistics[:, 1]
    chunks, matched_candidate, matched_reference = statistics[:, 20], statistics[:, 21], statistics[:, 22]
    whole = (chunks == 1) & (matched_candidate == candidate) & (matched_reference == reference)
    rows = statistics.copy()
    rows[whole, CHUNKS] = 0.0
    return rows


def score(sums: FloatArray) -> FloatArray:
    """METEOR (...) of summed `additive` rows (..., 23).

    With weighted precision P and recall R: F = P R / (alpha P + (1 - alpha) R), score = F (1 - gamma f^beta) for
    f = chunks per matched word. 0 where nothing matches, NaN where there is no text at all.
    """
    lengths, function_words = sums[..., 0:2], sums[..., 2:4]  # candidate, reference
    matches = sums[..., 4:20].reshape(*sums.shape[:-1], 4, 2, 2)  # matcher, content|function, candidate|reference
    by_kind = np.einsum("m,...mkt->...kt", MATCHER_WEIGHTS, matches)
    weighted = DELTA * by_kind[..., 0, :] + (1 - DELTA) * by_kind[..., 1, :]
    total = DELTA * (lengths - function_words) + (1 - DELTA) * function_words
    share = np.divide(weighted, total, out=np.zeros_like(weighted), where=total > 0)
    precision, recall = share[..., 0], share[..., 1]
    harmonic = _quotient(precision * recall, ALPHA * precision + (1 - ALPHA) * recall)
    fragmentation = _quotient(sums[..., CHUNKS], (sums[..., 21] + sums[..., 22]) / 2)
    scores = harmonic * (1 - GAMMA * fragmentation**BETA)
    return np.where(lengths.sum(-1) > 0, scores, np.nan)


def _quotient(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)

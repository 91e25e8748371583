"""Small scores that steer a training; published numbers come from the harness's metrics, not from here."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

_WORD = re.compile(r"\w+(?:['’]\w+)?")


def words(text: str) -> list[str]:
    """Lower-cased words without punctuation."""
    return _WORD.findall(text.lower())


def corpus_bleu(hypotheses: Sequence[str], references: Sequence[Sequence[str]], order: int = 4) -> float:
    """Corpus BLEU (Papineni et al. 2002) of uniform weights, closest reference length, no smoothing.

    Args:
        hypotheses: one text per item.
        references: one or more texts per item.
        order: longest n-gram.

    Returns:
        0..1; 0 where an order has no match.
    """
    matches, totals = [0] * order, [0] * order
    hypothesis_length = reference_length = 0
    for hypothesis, texts in zip(hypotheses, references, strict=True):
        said, wanted = words(hypothesis), [words(text) for text in texts]
        hypothesis_length += len(said)
        reference_length += min((abs(len(w) - len(said)), len(w)) for w in wanted)[1]
        for n in range(1, order + 1):
            grams = _ngrams(said, n)
            best: Counter[tuple[str, ...]] = Counter()
            for reference in wanted:
                best |= _ngrams(reference, n)
            matches[n - 1] += (grams & best).total()
            totals[n - 1] += grams.total()
    if not all(matches):
        return 0.0
    precision = sum(math.log(m / t) for m, t in zip(matches, totals, strict=True)) / order
    brevity = min(0.0, 1 - reference_length / hypothesis_length)
    return math.exp(precision + brevity)


def _ngrams(tokens: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))

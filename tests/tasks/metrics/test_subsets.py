"""Corpus BLEU and METEOR of random subsets, against the tools asked about those subsets alone."""

from __future__ import annotations

import contextlib
import io
import random
from typing import Any

import pytest
from metric_rows import ContextFor, captions_of, golden_rows
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.meteor.meteor import Meteor as OfficialMeteor

from harness.plan.registry import metric_registry
from harness.tasks.metrics.base import AdditiveMetric, Context, ScoredExample

SUBSETS = [sorted(random.Random(seed).sample(range(40), size)) for seed, size in enumerate((1, 2, 7, 18, 25, 39))]


def by_sums(name: str, rows: list[ScoredExample], context: Context, subset: list[int]) -> float:
    metric: AdditiveMetric = metric_registry().load(name)(context)
    return float(metric.value(metric.statistics(rows).values[subset].sum(0)))


def tokenised(rows: list[ScoredExample], context: Context, subset: list[int]) -> list[tuple[str, list[str]]]:
    captions_of(context).prepare(
        text for r in rows for text in (r.explanation or "", *(a.explanation for a in r.references))
    )
    tokens = captions_of(context).tokens
    return [(tokens(rows[i].explanation or ""), [tokens(a.explanation) for a in rows[i].references]) for i in subset]


@pytest.mark.parametrize("subset", SUBSETS, ids=len)
def test_corpus_bleu(golden: dict[str, Any], context_for: ContextFor, subset: list[int]) -> None:
    rows = golden_rows(golden["sentences"]["items"])
    context = context_for(rows)
    pairs = tokenised(rows, context, subset)
    with contextlib.redirect_stdout(io.StringIO()):
        gts, res = {i: refs for i, (_, refs) in enumerate(pairs)}, {i: [c] for i, (c, _) in enumerate(pairs)}
        expected, _ = Bleu(4).compute_score(gts, res)
    found = [by_sums(f"bleu_{order}", rows, context, subset) for order in (1, 2, 3, 4)]
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("subset", SUBSETS, ids=len)
def test_corpus_meteor(
    golden: dict[str, Any], context_for: ContextFor, official_meteor: OfficialMeteor, subset: list[int]
) -> None:
    """The jar's own EVAL, which adds up the statistics that it was asked for with all references at once."""
    rows = golden_rows(golden["sentences"]["items"])
    context = context_for(rows)
    pairs = tokenised(rows, context, subset)
    gts, res = {i: refs for i, (_, refs) in enumerate(pairs)}, {i: [c] for i, (c, _) in enumerate(pairs)}
    expected, _ = official_meteor.compute_score(gts, res)
    assert by_sums("meteor", rows, context, subset) == pytest.approx(expected, abs=1e-9)

"""`harness.metrics`: metrics in one call each, on plain lists."""

from __future__ import annotations

import doctest
import math

import pytest

from harness import metrics
from harness.tasks.metrics import METRICS
from harness.tasks.metrics.java import find_java
from harness.types import UserError

ELSEWHERE = {"spice", "emotional_alignment", "ea_cross_entropy", "consistency", "vad_coverage", "tokens", "cost_usd",
             "latency_p50_s", "latency_p95_s", "said_true", "gave_up", "wheel_precision",
             "wheel_recall"}  # fmt: skip
"""Metrics of a run: of usage, of a classifier trained on its task, of jars that come with no package, of statements."""


def test_the_examples_of_the_documentation_hold() -> None:
    for module in (metrics, *map(_module, ("captions", "style", "languages"))):
        failed, tried = doctest.testmod(module)
        assert tried
        assert not failed, module.__name__


def _module(name: str) -> object:
    import importlib

    return importlib.import_module(f"harness.tasks.metrics.{name}")


def test_every_metric_is_a_call_or_named_here_as_one_that_needs_a_run() -> None:
    for name in METRICS:
        family = name.removesuffix("_answered")
        for ending in ("_valence", "_arousal", "_dominance", "_v", "_a", "_d", "_1", "_2", "_3", "_4"):
            family = family.removesuffix(ending)
        family = {"top": "top_k", "ece_shares": "ece"}.get(family, family)
        assert name in ELSEWHERE or hasattr(metrics, name) or hasattr(metrics, family), name


@pytest.mark.skipif(find_java() is None, reason="no Java runtime")
def test_texts_are_tokenised_as_coco_does() -> None:
    assert metrics.rouge_l(["The sea, calm."], [["the sea calm"]]) == 1.0
    assert metrics.rouge_l(["The sea, calm."], [["the sea calm"]], protocol="artemis-plain") < 1.0


def test_lists_of_different_length_are_a_mistake_in_one_line() -> None:
    with pytest.raises(UserError, match="2 predictions, 1 annotations"):
        metrics.accuracy(["awe", "fear"], ["awe"])
    with pytest.raises(UserError, match="gives labels without explanations"):
        metrics.rouge_l([""], [["x"]], protocol="artemis-plain")


def test_what_cannot_be_computed_is_nan() -> None:
    assert math.isnan(metrics.accuracy(["awe"], [["awe", "fear"]]))

"""Every recorded value of the official code that the metrics cover."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from metric_rows import EMOTIONS, ContextFor, golden_rows

from harness.registry import metric_registry
from harness.tasks.metrics.base import AdditiveMetric, FloatArray
from harness.tasks.metrics.caption_engine import CaptionEngine
from harness.tasks.metrics.dominance import half_without_tie, majority
from harness.tasks.metrics.java import MeteorProcess
from harness.tasks.metrics.novelty import Corpus, LCSNovelty
from harness.tasks.metrics.style import SIMILE_MARKERS
from harness.types import histogram

OFFICIAL = {
    "bleu_1": "Bleu_1",
    "bleu_2": "Bleu_2",
    "bleu_3": "Bleu_3",
    "bleu_4": "Bleu_4",
    "rouge_l": "ROUGE_L",
    "cider_d": "CIDEr",
    "meteor": "METEOR",
}
CASES = [
    (part, protocol, name)
    for part, protocol in (("ptb", "coco-ptb"), ("edge", "coco-ptb"), ("raw_no_ptb", "artemis-plain"))
    for name in OFFICIAL
    if not (part == "raw_no_ptb" and name == "meteor")
]


def corpus_and_items(
    golden: dict[str, Any], context_for: ContextFor, part: str, protocol: str, name: str
) -> tuple[float, FloatArray]:
    rows = golden_rows(golden["sentences"]["edge_items" if part == "edge" else "items"])
    metric: AdditiveMetric = metric_registry().load(name)(context_for(rows, protocol))
    values, eligible = metric.statistics(rows)
    assert eligible.all()
    return float(metric.value(values.sum(0))), metric.value(values)


@pytest.mark.parametrize(("part", "protocol", "name"), CASES)
def test_caption_scores(golden: dict[str, Any], context_for: ContextFor, part: str, protocol: str, name: str) -> None:
    corpus, items = corpus_and_items(golden, context_for, part, protocol, name)
    expected, tolerance = golden["expected"][part], 1e-6 if name == "meteor" else 1e-9
    assert corpus == pytest.approx(expected["corpus"][OFFICIAL[name]], abs=tolerance)
    np.testing.assert_allclose(items, expected["per_item"][OFFICIAL[name]], rtol=0, atol=tolerance)


def test_plain_meteor_is_the_mean_of_recorded_scores(golden: dict[str, Any], meteor_process: MeteorProcess) -> None:
    expected = golden["expected"]["ptb"]
    candidates, references = expected["tokenized_candidates"], expected["tokenized_references"]
    engine = CaptionEngine("artemis-plain", meteor_process, references)
    from harness.tasks.metrics import meteor

    scores = meteor.score(engine.meteor(candidates, references))
    np.testing.assert_allclose(scores, expected["per_item"]["METEOR"], atol=1e-6)


@pytest.mark.parametrize("part", ["ptb", "edge"])
def test_tokenised_strings(golden: dict[str, Any], context_for: ContextFor, part: str) -> None:
    items = golden["sentences"]["edge_items" if part == "edge" else "items"]
    captions = context_for(golden_rows(items)).captions
    expected = golden["expected"][part]
    captions.prepare([text for item in items for text in (item["candidate"], *item["references"])])
    assert [captions.tokens(item["candidate"]) for item in items] == expected["tokenized_candidates"]
    assert [[captions.tokens(r) for r in i["references"]] for i in items] == expected["tokenized_references"]


def test_dominance_of_recorded_lists(golden: dict[str, Any]) -> None:
    for case in golden["expected"]["dominant_rule"]:
        votes = {e: case["list"].count(i) for i, e in enumerate(EMOTIONS) if i in case["list"]}
        for found, (dominates, index) in (
            (majority(votes), case["sevlm"]),
            (half_without_tie(votes), case["artemis"]),
        ):
            assert found == (EMOTIONS[index] if dominates else None), case


def test_dominance_of_recorded_paintings(golden: dict[str, Any]) -> None:
    rows = golden_rows(golden["sentences"]["items"])
    recorded = golden["expected"]["emotional_alignment"]
    for rule, key in ((majority, "dominant_sevlm"), (half_without_tie, "dominant_artemis")):
        expected = [EMOTIONS[i] if dominates else None for dominates, i in recorded[key]]
        assert [rule(histogram(row.references)) for row in rows] == expected


def test_majority_of_recorded_distributions(golden: dict[str, Any]) -> None:
    for case in golden["expected"]["proc_distribution"]:
        votes = {e: round(1000 * share) for e, share in zip(EMOTIONS, case["distribution"], strict=True)}
        assert majority(votes) == case["emotion"], case


def test_metaphors(golden: dict[str, Any]) -> None:
    recorded = golden["expected"]["metaphor"]
    assert [any(m in s for m in SIMILE_MARKERS) for s in recorded["sentences"]] == recorded["is_metaphor"]


def test_metaphor_share(golden: dict[str, Any], context_for: ContextFor) -> None:
    rows = golden_rows(golden["sentences"]["items"])
    metric: AdditiveMetric = metric_registry().load("metaphor")(context_for(rows))
    share = metric.value(metric.statistics(rows).values.sum(0))
    assert share == pytest.approx(golden["expected"]["apply_basic_evaluations"]["Metaphors"]["mean"], abs=1e-9)


def test_longest_common_subsequences(golden: dict[str, Any]) -> None:
    sentences, recorded = golden["sentences"], golden["expected"]["lcs"]
    corpus = Corpus([text.split() for text in sentences["train_utterances"]])
    lengths = [corpus.lcs_lengths(item["candidate"].lower().split()) for item in sentences["items"]]
    assert [found.max() for found in lengths] == recorded["max"]
    assert [found.argmax() for found in lengths] == recorded["argmax"]
    np.testing.assert_allclose([found.mean() for found in lengths], recorded["mean"], atol=1e-9)


def test_novelty_of_the_official_sample(golden: dict[str, Any], context_for: ContextFor) -> None:
    sentences = golden["sentences"]

    class Sampled(LCSNovelty):
        utterances, captions = sentences["lcs_sample"]

    items = [item | {"candidate": item["candidate"].lower()} for item in sentences["items"]]
    rows = golden_rows(items)
    metric = Sampled(context_for(rows, "artemis-plain", tuple(sentences["train_utterances"])))
    expected = golden["expected"]["apply_basic_evaluations"]["max-LCS"]["mean"]
    assert metric.value(rows) == pytest.approx(expected, abs=1e-9)

"""What holds for every metric: rows are independent, subsets add up, non-answers, signatures, reasons."""

from __future__ import annotations

import dataclasses
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from metric_checks import evaluate
from metric_rows import ContextFor, make_row

from harness.plan.registry import metric_registry
from harness.tasks.metrics import METRICS
from harness.tasks.metrics.base import AdditiveMetric, Metric, ScoredExample, SetMetric, traits
from harness.tasks.metrics.labels import Accuracy, LabelRecall
from harness.types import Answer, Failed, Refusal, Unparsed

POISONS = [
    "carriage\rreturn\r\n",
    "line\u2028separator\u2029",
    "next\x85line \x0b\x0c\x1c\x1d\x1e",
    "nul\x00byte",
    "emoji \U0001f600\U0001f3fd and \ud83d alone",
    "the storm rises over a dark sea today " * 625,
    "",
    "nan",
    "<b>bold</b> <script>alert('x')</script> & < >",
    "a ||| b ||| c",
    "SCORE ||| x ||| y\nEVAL ||| 1.0",
    "'\"unbalanced `` quotes",
    "٣ 中文 \u202egnol\u202c \ufeff",
]


def load(name: str) -> type[Metric]:
    found: type[Metric] = metric_registry().load(name)
    return found


ADDITIVE = [name for name in METRICS if issubclass(load(name), AdditiveMetric)]
HAD = [name for name in ADDITIVE if name != "spice" and (name != "bert_score" or find_spec("bert_score"))]
"""Those that can be had here: SPICE's jars come with no package, bert-score is an extra."""


@pytest.mark.parametrize("name", HAD)
def test_statistics_of_a_subset_are_the_subset_of_the_statistics(
    name: str, panel: list[ScoredExample], context_for: ContextFor
) -> None:
    metric = load(name)(context_for(panel, train=("the sea",)))
    assert isinstance(metric, AdditiveMetric)
    whole, part = metric.statistics(panel), metric.statistics(panel[10:35])
    np.testing.assert_array_equal(part.values, whole.values[10:35])
    np.testing.assert_array_equal(part.eligible, whole.eligible[10:35])
    assert not whole.values[~whole.eligible].any()


@pytest.mark.parametrize("name", HAD)
def test_value_maps_stacks_of_sums(name: str, panel: list[ScoredExample], context_for: ContextFor) -> None:
    metric = load(name)(context_for(panel, train=()))
    assert isinstance(metric, AdditiveMetric)
    values = metric.statistics(panel).values
    stack = np.stack([values[:30].sum(0), values[30:].sum(0), values.sum(0)])
    np.testing.assert_allclose(metric.value(stack), [metric.value(row) for row in stack], rtol=1e-12)
    low, high = metric.bounds
    assert (metric.value(stack) >= (low if low is not None else -np.inf)).all()
    assert (metric.value(stack) <= (high if high is not None else np.inf)).all()
    assert not np.isfinite(metric.value(np.zeros_like(stack))).any()


def test_poisoned_answers_move_no_other_row(panel: list[ScoredExample], context_for: ContextFor) -> None:
    """Strange text in every third answer; the others' statistics stay the same to the last bit."""
    clean = panel[: 3 * len(POISONS)]
    dirty = list(clean)
    for i, poison in enumerate(POISONS):
        dirty[3 * i] = dataclasses.replace(clean[3 * i], outcome=Answer("awe", poison))
    others = np.array([i % 3 != 0 for i in range(len(clean))])
    contexts = [context_for(clean, train=(), asked_anew=True) for _ in range(2)]
    for name in HAD:
        before, after = (load(name)(context) for context in contexts)
        assert isinstance(before, AdditiveMetric)
        assert isinstance(after, AdditiveMetric)
        left, right = before.statistics(clean), after.statistics(dirty)
        assert (left.values[others].tobytes(), left.eligible[others].tobytes()) == (
            right.values[others].tobytes(),
            right.eligible[others].tobytes(),
        ), name
        assert np.isfinite(right.values).all(), name


def test_poisoned_references_move_no_other_row(panel: list[ScoredExample], context_for: ContextFor) -> None:
    """Of the tokens and of the metrics without document frequencies."""
    clean = panel[:30]
    dirty = [
        dataclasses.replace(
            row, references=tuple(dataclasses.replace(a, explanation=POISONS[i % 13]) for a in row.references)
        )
        if i % 2
        else row
        for i, row in enumerate(clean)
    ]
    contexts = [context_for(clean, asked_anew=True) for _ in range(2)]
    for name in ("bleu_4", "rouge_l", "meteor"):
        left, right = (
            load(name)(context).statistics(rows)  # type: ignore[attr-defined]
            for context, rows in zip(contexts, (clean, dirty), strict=True)
        )
        assert left.values[::2].tobytes() == right.values[::2].tobytes(), name


@pytest.mark.parametrize("outcome", [Refusal("no"), Unparsed("?"), Failed("timeout", "")])
def test_non_answers_stay_in_label_denominators_and_out_of_text(
    outcome: Refusal | Unparsed | Failed, context_for: ContextFor
) -> None:
    rows = [make_row(Answer("awe", "a calm sea"), ["awe"] * 3), make_row(outcome, ["awe"] * 3)]
    context = context_for(rows)
    expected = {
        "accuracy": (0.5, 2),
        "accuracy_artemis": (0.5, 2),
        "accuracy_answered": (1.0, 1),
        "annotator_mass": (0.5, 2),
        "macro_f1": (2 / 3, 2),
        "balanced_accuracy": (0.5, 2),
        "polarity_accuracy": (0.5, 2),
        "rouge_l": (0.0, 1),
        "mean_length": (3.0, 1),
    }
    for name, (value, n) in expected.items():
        metric = load(name)(context)
        assert isinstance(metric, AdditiveMetric)
        statistics = metric.statistics(rows)
        assert (float(metric.value(statistics.values.sum(0))), int(statistics.eligible.sum())) == (
            pytest.approx(value),
            n,
        ), name


def test_label_recall_weighs_paintings_by_share(context_for: ContextFor) -> None:
    """Shares of awe 3/4, 1/2, 1/4, 0; the first and the third are answered with awe: (0.75 + 0.25) / 1.5."""
    votes = [["awe"] * 3 + ["fear"], ["awe", "fear"], ["awe"] + ["fear"] * 3, ["fear"]]
    rows = [make_row(Answer(e, "x"), v) for e, v in zip(("awe", "fear", "awe", "awe"), votes, strict=True)]
    metric = Accuracy(context_for(rows)).for_emotion("awe")
    assert isinstance(metric, LabelRecall)
    statistics = metric.statistics(rows)
    assert float(metric.value(statistics.values.sum(0))) == pytest.approx(1 / 1.5)
    assert statistics.eligible.tolist() == [True, True, True, False]
    assert "annotated-recall" in metric.signature("emotion")


@pytest.mark.parametrize(
    ("name", "answers", "reason"),
    [
        ("ece", [Answer("awe", "x")], "the model gives no probabilities"),
        ("brier", [Answer("awe", "x", {"awe": 1.0})], "the model's probabilities are all 0 or 1"),
        ("bleu_4", [Answer("awe", "")], "the model gives labels without explanations"),
        ("cost_usd", [Answer("awe", "x")], "no price is recorded"),
    ],
)
def test_reasons(name: str, answers: list[Answer], reason: str, context_for: ContextFor) -> None:
    metric = load(name)(context_for([make_row(answer, ["awe"]) for answer in answers]))
    assert metric.lacking({trait for answer in answers for trait in traits(answer)}) == reason


def test_signature_names_every_choice(panel: list[ScoredExample], context_for: ContextFor) -> None:
    signature = load("cider_d")(context_for(panel)).signature("all")
    assert signature.startswith("cider_d|protocol:coco-ptb|tok:ptb3|engine:pycocoevalcap-")
    assert signature.endswith("|df:split|refs:all|pre:none|version:1")
    plain = load("cider_d")(context_for(panel, "artemis-plain")).signature("leave_one_out")
    assert "protocol:artemis-plain|tok:space" in plain
    assert "refs:leave_one_out" in plain


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_describes_itself(name: str) -> None:
    metric = load(name)
    assert metric.name == name
    assert issubclass(metric, AdditiveMetric | SetMetric)
    assert metric.source
    assert metric.family in ("label", "probability", "rating", "text", "affect", "style", "cost")
    first = (metric.__doc__ or "").strip().partition("\n")[0]
    assert first.endswith((".", ":")) or len(first) > 40
    assert not (metric.proportion and metric.bounds != (0.0, 1.0))


@pytest.mark.parametrize("name", METRICS)
def test_reports_are_told_how_to_show_every_metric(name: str) -> None:
    record = load(name).record()
    assert record["label"] != name
    assert record["description"].endswith(".")
    assert record["group"] != "other"


def test_an_image_that_cannot_be_opened_has_no_clip_score(
    panel: list[ScoredExample], context_for: ContextFor, tmp_path: Path
) -> None:
    gone = [
        dataclasses.replace(row, example=dataclasses.replace(row.example, image=tmp_path / "gone.jpg"))
        for row in panel[:3]
    ]
    some = [*panel[:9], *gone]
    assert evaluate("clip_score", some, context_for(some)) == evaluate("clip_score", panel[:9], context_for(some))

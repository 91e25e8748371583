"""The share of a lead that is kept, against plain numpy on made-up runs; who is compared; differences along slices."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from scoring_tables import TASK, painting

from harness.score.headline import AGREEMENT, Contest, contest, headline_record
from harness.score.results import TaskScores, score_task
from harness.store.run_folder import RowKey
from harness.types import Answer, Example, Outcome

LABELS = ("joy", "calm", "fear")
TASK_OF_LABELS = dataclasses.replace(TASK, metrics=("accuracy", "annotator_mass"), slices=("style",))
SIDES = Contest("small", ("large",), "majority", ())


def images(count: int, seed: int) -> list[Example]:
    """Five annotators each, who agree more or less."""
    draw = np.random.default_rng(seed)
    found = []
    for number in range(count):
        shares = draw.dirichlet([0.4, 0.4, 0.4])
        felt = draw.choice(LABELS, 5, p=shares)
        one = painting(f"p{number}", *((str(emotion), "so") for emotion in felt))
        found.append(dataclasses.replace(one, meta={"style": ("Baroque", "Rococo")[number % 2]}))
    return found


def answers(examples: list[Example], right: float, seed: int) -> dict[str, Outcome]:
    """The commonest label with a probability of `right`, else any."""
    draw = np.random.default_rng(seed)
    commonest = [max(LABELS, key=lambda label: e.emotion_histogram.get(label, 0)) for e in examples]
    said = [label if draw.random() < right else str(draw.choice(LABELS)) for label in commonest]
    return {e.id: Answer(label, "") for e, label in zip(examples, said, strict=True)}


def scored(examples: list[Example], rows: dict[str, dict[str, Outcome]], replicates: int = 4000) -> TaskScores:
    keyed = {RowKey(name): said for name, said in rows.items()}
    return score_task(TASK_OF_LABELS, examples, None, keyed, split="test", replicates=replicates, sides=SIDES)


def by_numpy(examples: list[Example], rows: dict[str, dict[str, Outcome]]) -> tuple[float, float, float]:
    """Share and percentile interval of accuracy over images with a majority, from 10,000 resamples."""
    counted = [e for e in examples if max(e.emotion_histogram.values()) > 2]
    right = np.array(
        [
            [rows[name][e.id].emotion == max(LABELS, key=lambda x: e.emotion_histogram.get(x, 0)) for e in counted]  # type: ignore[union-attr]
            for name in ("small", "large", "majority")
        ],
        dtype=float,
    )
    drawn = np.random.default_rng(99).integers(0, len(counted), (10_000, len(counted)))
    small, large, majority = (one[drawn].mean(axis=1) for one in right)
    low, high = np.quantile((small - majority) / (large - majority), [0.025, 0.975])
    small, large, majority = right.mean(axis=1)
    return float((small - majority) / (large - majority)), float(low), float(high)


def share_of(scores: TaskScores, metric: str = "accuracy") -> dict[str, Any]:
    (found,) = [record for record in scores.shares if record["metric"] == metric]
    return found


@pytest.mark.slow  # each a second
@pytest.mark.parametrize(("small", "large", "seed"), [(0.4, 0.8, 1), (0.7, 0.75, 2), (0.1, 0.9, 3)])
def test_share_and_interval_agree_with_numpy(small: float, large: float, seed: int) -> None:
    examples = images(600, seed)
    rows = {"small": answers(examples, small, seed + 10), "large": answers(examples, large, seed + 20)}
    rows["majority"] = {e.id: Answer("joy", "") for e in examples}
    found = share_of(scored(examples, rows))
    share, low, high = by_numpy(examples, rows)
    assert found["share"] == pytest.approx(share)
    # BCa with a wider t quantile against percentiles: a tenth of the width apart at most
    assert found["low"] == pytest.approx(low, abs=0.1 * (high - low))
    assert found["high"] == pytest.approx(high, abs=0.1 * (high - low))


def test_a_known_answer() -> None:
    """Of 300 images majority has 100 right, large these and 100 more, small these and 50 of them: half of the lead."""
    examples = [painting(f"p{i}", *[("joy" if i < 100 else "fear", "so")] * 3) for i in range(300)]
    said = {"majority": 100, "small": 150, "large": 200}
    rows: dict[str, dict[str, Outcome]] = {
        name: {
            e.id: Answer(("joy" if i < 100 else "fear") if i < right else "calm", "") for i, e in enumerate(examples)
        }
        for name, right in said.items()
    }
    found = share_of(scored(examples, rows))
    assert (found["share"], found["n"], found["reason"]) == (pytest.approx(0.5), 300, None)
    assert found["values"] == pytest.approx([0.5, 2 / 3, 1 / 3])
    # the share of 100 images, as 50 of them: 0.5 +- 1.96 * sqrt(0.25 / 100)
    assert (found["low"], found["high"]) == pytest.approx((0.402, 0.598), abs=0.015)


def test_without_a_lead_there_is_no_share() -> None:
    examples = images(200, 5)
    rows = {"small": answers(examples, 0.5, 1), "large": {e.id: Answer("fear", "") for e in examples}}
    rows["majority"] = answers(examples, 0.9, 2)
    found = share_of(scored(examples, rows, 200))
    assert (found["share"], found["low"], found["reason"]) == (
        None,
        None,
        "the larger model does not beat the majority line",
    )


def test_a_lead_within_chance_has_a_share_but_no_interval() -> None:
    examples = [painting(f"p{i}", ("joy", "so"), ("joy", "so"), ("calm", "so")) for i in range(60)]
    rows: dict[str, dict[str, Outcome]] = {
        name: {e.id: Answer("joy" if i < right else "fear", "") for i, e in enumerate(examples)}
        for name, right in (("small", 32), ("large", 31), ("majority", 30))
    }
    found = share_of(scored(examples, rows, 200))
    assert (found["share"], found["low"], found["high"]) == (pytest.approx(2.0), None, None)
    assert "not beyond chance" in found["reason"]


def test_differences_run_along_slices_and_agreement() -> None:
    examples = images(300, 8)
    rows = {"small": answers(examples, 0.3, 1), "large": answers(examples, 0.9, 2)}
    rows["majority"] = {e.id: Answer("joy", "") for e in examples}
    scores = scored(examples, rows, 400)
    wanted = {
        (d["key"], d["value"]): d for d in scores.differences if (d["a"], d["b"]) == ("small", "large")
        and d["metric"] == "annotator_mass"
    }  # fmt: skip
    assert {key for key, _ in wanted} == {AGREEMENT, "style"}
    mine = [e for e in examples if e.meta["style"] == "Rococo"]
    mass = [np.mean([e.share(rows[name][e.id].emotion) for e in mine]) for name in ("small", "large")]  # type: ignore[union-attr]
    assert wanted["style", "Rococo"]["difference"] == pytest.approx(mass[0] - mass[1])
    assert wanted["style", "Rococo"]["n"] == len(mine)
    levels = {value: d["n"] for (key, value), d in wanted.items() if key == AGREEMENT}
    counts = [max(e.emotion_histogram.values()) for e in examples]
    assert levels == {
        "80 % or more agree": sum(c >= 4 for c in counts),
        "more than half agree": sum(c == 3 for c in counts),
        "no majority": sum(c <= 2 for c in counts),
    }


def manifest(*models: tuple[str, str, int | None, int | None]) -> dict[str, Any]:
    return {
        "models": [{"model": name, "adapter": adapter} for name, adapter, _, _ in models],
        "runs": [
            {
                "task": "t",
                "model": name,
                "control": None,
                "parameters": size,
                "observed": {"trained_parameters": trained},
            }
            for name, _, size, trained in models
        ],
    }


def test_the_smallest_trained_model_stands_against_all_larger_ones() -> None:
    found = contest(
        manifest(
            ("random", "hf-vlm", 1_000, None),
            ("sevlm", "sevlm", 5_000, 500),
            ("bigger", "sevlm", 9_000, 4_000),
            ("gpt", "openai", None, None),
            ("llava", "hf-vlm", 7_000_000, None),
            ("common", "majority", 0, None),
            ("human", "human", None, None),
        ),
        "t",
    )
    assert found == Contest("sevlm", ("bigger", "llava", "gpt"), "common", ("human",))
    assert found.names == ("sevlm", "bigger", "llava", "gpt", "common")
    assert contest(manifest(("common", "majority", 0, None)), "t") is None
    assert contest(manifest(("a", "hf-vlm", 7, None), ("b", "hf-vlm", 5, None)), "t") == Contest("b", ("a",), None, ())


def test_the_record_turns_tested_differences_round() -> None:
    tested = {"task": "t", "metric": "accuracy", "a": "large", "b": "small", "p": 0.01, "n": 9}
    results = {
        "cells": [],
        "comparisons": [
            tested | {"emotion": None, "difference": 0.2, "low": 0.1, "high": 0.4, "p_holm": 0.01},
            tested | {"emotion": "joy", "difference": 0.2, "low": 0.1, "high": 0.4, "p_holm": 0.04},
            tested | {"emotion": "fear", "difference": -0.2, "low": -0.3, "high": 0.4, "p_holm": 0.5},
        ],
    }
    share = {"metric": "accuracy", "small": "small", "large": "large", "majority": None, "share": None, "n": 9}
    record = headline_record(Contest("small", ("large",), None, ()), results, "t", [share])
    (larger,) = record["larger"]
    (kept,) = larger["shares"]
    assert (kept["difference"], kept["difference_low"], kept["difference_high"]) == (-0.2, -0.4, -0.1)
    assert larger["emotions"] == {"metric": "accuracy", "better": [], "worse": ["joy"], "undecided": ["fear"]}
    assert larger["ratios"] == {"parameters": None, "latency_p50_s": None, "cost_usd": None}

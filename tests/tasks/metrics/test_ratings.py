"""Agreement with ratings where there is little to agree with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from metric_rows import make_row

from harness.tasks.metrics.base import AdditiveMetric, Context, Metric, ScoredExample, traits
from harness.tasks.metrics.ratings import CCC, RMSE, Pearson
from harness.types import Answer, Refusal, Task

CCC_VALENCE, PEARSON_VALENCE, RMSE_VALENCE = (family.variant("valence") for family in (CCC, Pearson, RMSE))
TASK = Task("t", "jsonl", ("awe", "fear"), ratings={"valence": (1.0, 7.0)})


def rows(*pairs: tuple[float, float | None]) -> list[ScoredExample]:
    found = []
    for human, model in pairs:
        outcome = Refusal("no") if model is None else Answer("awe", "", ratings={"valence": model})
        row = make_row(outcome, ["awe"])
        found.append(replace(row, example=replace(row.example, ratings={"valence": human})))
    return found


def value(metric: type[Metric], found: list[ScoredExample]) -> float:
    made = metric(Context(TASK))
    assert isinstance(made, AdditiveMetric)
    return float(made.value(made.statistics(found).values.sum(0)))


def test_by_hand() -> None:
    """x = 2, 4, 6 and y = 3, 4, 8: means 4 and 5, variances 8/3 and 14/3, covariance 10/3."""
    found = rows((2, 3), (4, 4), (6, 8), (7, None))
    assert value(CCC_VALENCE, found) == pytest.approx((20 / 3) / (8 / 3 + 14 / 3 + 1))
    assert value(PEARSON_VALENCE, found) == pytest.approx((10 / 3) / np.sqrt(8 / 3 * 14 / 3))
    assert value(RMSE_VALENCE, found) == pytest.approx(np.sqrt((1 + 0 + 4) / 3))


def test_a_constant_agrees_with_nothing_and_correlates_with_nothing() -> None:
    found = rows(*((1 + i * 0.37, 3.1415926) for i in range(15)))
    assert value(CCC_VALENCE, found) == 0.0
    assert np.isnan(value(PEARSON_VALENCE, found))


def test_perfect_agreement() -> None:
    found = rows(*((1 + i * 0.37, 1 + i * 0.37) for i in range(15)))
    assert value(CCC_VALENCE, found) == pytest.approx(1.0)
    assert value(RMSE_VALENCE, found) == pytest.approx(0.0, abs=1e-7)


def test_it_applies_where_the_task_has_the_scale_and_numbers_are_given() -> None:
    assert CCC_VALENCE.applies(TASK)
    assert not CCC_VALENCE.applies(replace(TASK, ratings={"arousal": (0.0, 1.0)}))
    metric = CCC_VALENCE(Context(TASK))
    assert isinstance(metric, AdditiveMetric)
    assert metric.lacking(set(traits(Answer("awe", "")))) == "the model gives no number for valence"
    assert metric.lacking(set(traits(Answer("awe", "", ratings={"valence": 2.0})))) is None
    assert "scale:1..7" in metric.signature("all")

"""Mean and deviation over models of one group."""

from __future__ import annotations

from typing import Any

import pytest

from harness.score.results import group_records

MODELS = [{"model": m, "group": g} for m, g in (("a", "x"), ("b", "x"), ("c", "x"), ("d", "y"), ("e", None))]


def cell(model: str, value: float | None, **more: Any) -> dict[str, Any]:
    plain = {"task": "t", "split": "test", "model": model, "control": None, "metric": "accuracy", "value": value}
    return plain | {"emotion": None, "conditioned_on": None, "slice": None, "references": "all"} | more


def test_mean_and_deviation_of_a_worked_example() -> None:
    (record,) = group_records(MODELS, [cell(m, v) for m, v in zip("abcde", (0.4, 0.5, 0.9, 1.0, 1.0), strict=True)])
    assert (record["group"], record["models"], record["mean"]) == ("x", ["a", "b", "c"], pytest.approx(0.6))
    assert record["sd"] == pytest.approx(((0.04 + 0.01 + 0.09) / 2) ** 0.5)


def test_emotions_are_apart_and_controls_slices_and_gaps_left_out() -> None:
    awe = {"emotion": "awe", "conditioned_on": "annotated"}
    cells = [cell(m, 0.5, **awe) for m in "abc"]
    cells += [cell(m, 0.1, control="blank") for m in "abc"] + [cell(m, 0.1, slice={"key": "s"}) for m in "abc"]
    cells += [cell(m, None if m == "b" else 0.2, metric="brier") for m in "abc"]
    (record,) = group_records(MODELS, cells)
    assert (record["emotion"], record["sd"]) == ("awe", 0.0)
    assert group_records([{"model": "a"}], [cell("a", 1.0)]) == []

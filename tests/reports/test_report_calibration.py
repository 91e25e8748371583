"""Reliability diagrams: what results.json holds, as drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from page_tree import Element
from run_builder import examples, outcomes, write_run

from harness.reports.labels import LEFT, SIDE, TOP, Calibration, calibrations
from harness.reports.view import Run, gather
from harness.store.run_folder import RowKey


def slot(number: int, n: int, confidence: float, accuracy: float) -> dict[str, Any]:
    low, high = accuracy - 0.1, accuracy + 0.1
    return {"slot": number, "n": n, "confidence": confidence, "accuracy": accuracy, "low": low, "high": high}


def record(model: str, slots: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    plain = {"task": "tiny", "model": model, "control": None, "bins": 15, "n": sum(one["n"] for one in slots)}
    return plain | {"error": 0.125, "confidence": 0.8, "accuracy": 0.7, "contradicted": 0.25, "slots": slots} | more


def diagrams(path: Path, records: list[dict[str, Any]]) -> list[Calibration]:
    asked = examples(path / "images")
    run = write_run(path / "run", {RowKey("small"): outcomes(asked, 0), RowKey("large"): outcomes(asked, 1)}, asked)
    run.save_results(run.results() | {"calibration": records})
    (view,) = gather([Run.read(0, run)])
    return calibrations(view)


def test_bins_are_drawn_in_proportion(tmp_path: Path) -> None:
    slots = [slot(7, 1, 0.5, 1.0), slot(13, 3, 0.91, 2 / 3)]
    (found,) = diagrams(tmp_path, [record("small", slots)])
    assert (found.row.label, found.n, found.error, found.contradicted) == ("small", 4, 0.125, 0.25)
    first, second = found.marks
    assert second.x == pytest.approx(LEFT + 0.91 * SIDE, abs=0.1)
    assert second.y == pytest.approx(TOP + SIDE / 3, abs=0.1)
    assert second.top < second.y < second.bottom
    assert second.left == pytest.approx(LEFT + SIDE * 13 / 15, abs=0.1)
    assert first.bar == pytest.approx(second.bar / 3, abs=0.1)


def test_diagrams_follow_the_rows_and_unknown_rows_have_none(tmp_path: Path) -> None:
    some = [slot(3, 2, 0.2, 0.5)]
    records = [record("large", some), record("gone", some), record("small", some), record("small", [], control="blank")]
    assert [found.row.label for found in diagrams(tmp_path, records)] == ["small", "large"]
    assert diagrams(tmp_path / "other", [record("small", some, task="other")]) == []


def test_the_page_draws_rows_that_give_probabilities(page: Element) -> None:
    figures = page.one("section", id="tiny-calibration").all("figure")
    assert [figure.one("bdi").text for figure in figures] == ["large"]
    caption = figures[0].one("figcaption").text
    assert "n 9" in caption
    assert "likelier than the answer given: 25.0 %" in caption
    assert len(figures[0].all("circle")) == 2

"""Scoring in blocks, and outcomes read from their file one by one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from scoring_tables import TASK, cell, painting, random_table, score

from harness.score import cells
from harness.store.outcomes import StoredOutcomes
from harness.types import Answer, Outcome, UserError


def test_blocks_change_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    examples, rows = random_table(2, 40)
    whole = score(rows, examples, replicates=50)
    monkeypatch.setattr(cells, "BLOCK", 7)
    blocks = score(rows, examples, replicates=50)
    assert blocks.cells == whole.cells
    assert blocks.comparisons == whole.comparisons
    assert blocks.confusion == whole.confusion


def test_a_block_without_explanations_counts_in_a_row_that_explains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "BLOCK", 1)
    examples = [painting("a", ("joy", "the sea")), painting("b", ("joy", "the sea"))]
    rows: dict[str, Outcome] = {"a": Answer("joy", ""), "b": Answer("joy", "the sea")}
    found = cell(score({"m": rows}, examples), "rouge_l")
    assert (found["value"], found["n"]) == (0.5, 2)


def test_stored_outcomes_are_those_of_the_last_lines(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(
        '{"id": "a", "kind": "failed", "error": {"type": "timeout", "message": ""}}\n'
        '\n{"emotion": "joy", "explanation": "the sea", "id": "b \\u00e9"}\n'
        '{"id": "a", "emotion": "calm", "explanation": "a wood"}\n{"id": "c", "emo'
    )
    stored = StoredOutcomes(path)
    assert {id_: outcome.emotion for id_, outcome in stored.items() if isinstance(outcome, Answer)} == {
        "a": "calm",
        "b é": "joy",
    }
    with pytest.raises(KeyError):
        stored["c"]


def test_a_wrong_line_is_named_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(
        '{"id": "a", "emotion": "calm", "explanation": "x"}\n{"id": "b", "emotion": 3, "explanation": "x"}\n'
    )
    with pytest.raises(UserError, match=r"m\.jsonl:2: .*emotion"):
        score({"m": StoredOutcomes(path)}, [painting("a", ("joy", "x")), painting("b", ("joy", "x"))])  # type: ignore[dict-item]


def test_captions_without_labels_have_text_metrics_only() -> None:
    examples, _ = random_table(1, 12)
    scores = score({"m": {e.id: Answer("", "a dark sea") for e in examples}}, examples)
    assert cell(scores, "accuracy")["unavailable"] == "the model gives explanations without labels"
    assert cell(scores, "rouge_l")["n"] == 12


def test_rounded_probabilities_and_a_subnormal_one_lose_no_metric() -> None:
    """Nine labels rounded to two decimals sum to anything from .955 to 1.045."""
    labels = tuple("abcdefghi")
    task = dataclasses.replace(TASK, emotions=labels, polarity={}, metrics=("js_divergence", "brier"))
    examples = [painting("p", ("a", "x")), painting("q", ("a", "x"))]
    rounded = dict.fromkeys(labels, 0.116)
    rows: dict[str, Outcome] = {
        "p": Answer("a", "x", rounded),
        "q": Answer("a", "x", {"a": 1.0, "b": 5e-324}),
    }
    found = score({"m": rows}, examples, task)
    # the second is certain and right; the first says 1/9 each: (8/9)^2 + 8/81
    assert cell(found, "brier")["value"] == pytest.approx((64 / 81 + 8 / 81) / 2)
    assert cell(found, "js_divergence")["value"] is not None

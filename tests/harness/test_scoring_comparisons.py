"""Paired comparisons of models, and what scores may depend on."""

from __future__ import annotations

import pytest
from scoring_tables import GOOD, cell, random_table, score

from harness.score.statistics import holm
from harness.types import Answer, Outcome


def test_comparisons_are_paired_and_corrected_within_their_family() -> None:
    examples, rows = random_table(3, 40)
    scores = score(rows, examples, replicates=200)
    overall = [c for c in scores.comparisons if c["emotion"] is None]
    assert len(overall) == 3 * 5
    assert [c["p_holm"] for c in overall] == pytest.approx(holm([c["p"] for c in overall]))
    assert all(c["low"] <= c["difference"] <= c["high"] for c in overall)
    per_emotion = [c for c in scores.comparisons if c["emotion"] and c["metric"] == "accuracy"]
    assert len(per_emotion) == 3 * 3
    assert [c["p_holm"] for c in per_emotion] == pytest.approx(holm([c["p"] for c in per_emotion]))
    both = [e for e in examples if all(isinstance(rows[m][e.id], Answer) for m in ("m0", "m1"))]
    (text,) = [c for c in overall if (c["a"], c["b"], c["metric"]) == ("m0", "m1", "rouge_l")]
    assert text["n"] == len(both)


def test_a_difference_is_that_of_the_cells_when_all_are_answered() -> None:
    examples, rows = random_table(2, 20)
    answered: dict[str, dict[str, Outcome]] = {
        m: {i: o if isinstance(o, Answer) else Answer("joy", "the sun") for i, o in found.items()}
        for m, found in rows.items()
    }
    scores = score(answered, examples)
    for c in scores.comparisons:
        where = {"emotion": c["emotion"], "conditioned_on": "annotated"} if c["emotion"] else {}
        left, right = (cell(scores, c["metric"], m, **where)["value"] for m in (c["a"], c["b"]))
        assert c["difference"] == pytest.approx(left - right)


def test_equal_models_do_not_differ_and_opposite_ones_do() -> None:
    examples, _ = random_table(0, 30)
    right: dict[str, Outcome] = {e.id: Answer(e.annotations[0].emotion, e.annotations[0].explanation) for e in examples}
    wrong: dict[str, Outcome] = {e.id: Answer("joy", "nothing here") for e in examples}
    scores = score({"x": right, "y": right, "z": wrong}, examples)
    for c in (c for c in scores.comparisons if c["emotion"] is None and c["metric"] == "rouge_l"):
        same = {c["a"], c["b"]} == {"x", "y"}
        assert (c["p"] == 1.0) if same else (c["p_holm"] < 0.05)


def test_few_common_paintings_have_a_difference_but_no_test() -> None:
    scores = score({"m": GOOD, "k": GOOD})
    assert all((c["p"], c["low"], c["p_holm"]) == (None, None, None) for c in scores.comparisons)
    assert all(c["difference"] == 0 for c in scores.comparisons)


# ----------------------------------------------------------------------------------------- stability


def test_scores_depend_on_seed_alone() -> None:
    examples, rows = random_table(2, 25)
    first, again = score(rows, examples, seed=1), score(rows, examples, seed=1)
    assert first == again
    assert score(rows, examples, seed=2).cells != first.cells


def test_one_model_does_not_move_another() -> None:
    examples, rows = random_table(3, 25)
    together, alone = score(rows, examples), score({"m1": rows["m1"]}, examples)
    assert [c for c in together.cells if c["model"] == "m1"] == alone.cells


def test_a_slice_scores_as_if_it_were_all_there_is() -> None:
    """To the ends of its intervals, given the document frequencies of the whole split."""
    examples, rows = random_table(1, 40)
    part = [e for e in examples if e.meta["style"] == "x"]
    within = score(rows, examples)
    alone = score({"m0": {e.id: rows["m0"][e.id] for e in part}}, part, whole_split=examples)
    numbers = ("value", "low", "high", "n")
    for metric in ("accuracy", "annotator_mass", "macro_f1", "bleu_1", "rouge_l", "cider_d", "unique"):
        sliced = cell(within, metric, "m0", slice={"key": "style", "value": "x"})
        whole = cell(alone, metric, "m0")
        assert [sliced[key] for key in numbers] == [whole[key] for key in numbers], metric

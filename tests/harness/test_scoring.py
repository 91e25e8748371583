"""Scores of small tables worked out by hand, and the contract of their records."""

from __future__ import annotations

import dataclasses
import json
import threading
from typing import NoReturn

import pytest
from scoring_tables import EXAMPLES, GOOD, TASK, cell, painting, random_table, score

from harness.score.results import Resources
from harness.score.statistics import wilson
from harness.store.run_folder import RowKey
from harness.tasks.metrics.alignment import EmotionReader
from harness.types import Answer, Failed, Outcome, Refusal, Unparsed, UserError

CELL_KEYS = {
    "task", "split", "model", "control", "metric", "value", "low", "high", "n", "emotion", "conditioned_on", "slice",
    "references", "protocol", "signature", "unavailable",
}  # fmt: skip
COMPARISON_KEYS = {"task", "metric", "emotion", "a", "b", "difference", "low", "high", "p", "p_holm", "n"}

# ------------------------------------------------------------------------------------- worked by hand


def test_overall_cells_of_a_worked_table() -> None:
    """Dominant: joy, fear, none, calm. Answered: joy, calm, fear, refusal."""
    scores = score({"m": GOOD})
    accuracy = cell(scores, "accuracy")
    assert (accuracy["value"], accuracy["n"]) == (pytest.approx(1 / 3), 3)
    assert (accuracy["low"], accuracy["high"]) == pytest.approx(tuple(wilson(1, 3)))
    assert accuracy["signature"] == "accuracy|dominance:>half|refs:all|pre:none|version:1"
    mass = cell(scores, "annotator_mass")
    assert (mass["value"], mass["n"]) == (pytest.approx((2 / 3 + 0 + 1 / 2 + 0) / 4), 4)
    assert cell(scores, "macro_f1")["value"] == pytest.approx((1 + 0 + 0) / 3)
    assert (cell(scores, "rouge_l")["value"], cell(scores, "rouge_l")["n"]) == (pytest.approx(1.0), 3)
    assert cell(scores, "unique")["n"] == 3
    assert (cell(scores, "tokens")["value"], cell(scores, "tokens")["n"]) == (12, 1)


def test_coverage_counts_every_kind_and_the_missing_fail() -> None:
    rows: dict[str, Outcome] = {"a": GOOD["a"], "b": Unparsed("hm"), "c": Refusal()}
    (coverage,) = score({"m": rows}).coverage
    assert coverage == {
        "task": "t", "model": "m", "control": None, "examples": 4, "answered": 1, "refused": 1, "unparsed": 1, "failed": 1,
        "truncated": 0,
        "languages": {"en": 1},
    }  # fmt: skip


def test_a_missing_outcome_scores_like_a_failure() -> None:
    missing = {id_: outcome for id_, outcome in GOOD.items() if id_ != "d"}
    failed = missing | {"d": Failed("timeout", "")}
    assert score({"m": missing}).cells == score({"m": failed}).cells


def test_confusion_has_a_column_for_no_answer() -> None:
    (confusion,) = score({"m": GOOD}).confusion
    assert confusion["labels"] == ["joy", "calm", "fear"]
    assert confusion["counts"] == [[1, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0]]


def test_the_reliability_diagram_shows_the_very_number_of_the_leaderboard() -> None:
    """Half of two annotators say joy: no majority, so an answer of .8 is judged by the share it has, .5; then 1 by .9."""
    examples = [painting("a", ("joy", "x"), ("calm", "y")), painting("b", ("joy", "x"), ("joy", "y"))]
    answers: dict[str, Outcome] = {
        "a": Answer("joy", "x", {"joy": 0.8, "calm": 0.2}),
        "b": Answer("joy", "y", {"joy": 0.9, "calm": 0.1}),
    }
    task = dataclasses.replace(TASK, metrics=("ece", "ece_shares"))
    scores = score({"m": answers}, examples, task)
    (diagram,) = scores.calibration
    assert (diagram["n"], diagram["error"]) == (2, pytest.approx((0.3 + 0.1) / 2))
    assert (cell(scores, "ece_shares")["n"], cell(scores, "ece_shares")["value"]) == (2, diagram["error"])
    assert [(s["slot"], s["n"], s["confidence"], s["accuracy"]) for s in diagram["slots"]] == [
        (12, 1, pytest.approx(0.8), pytest.approx(0.5)),
        (13, 1, pytest.approx(0.9), pytest.approx(1.0)),
    ]
    assert (diagram["slots"][1]["low"], diagram["slots"][1]["high"]) == tuple(wilson(1, 1))
    assert (cell(scores, "ece")["n"], cell(scores, "ece")["value"]) == (
        1,
        pytest.approx(0.1),
    )  # by at least half, no tie


def test_dominance_follows_the_protocol() -> None:
    """Two against two of calm and fear is a tie; two of four without a tie dominates only in artemis-plain."""
    examples = [painting("a", ("joy", "x"), ("joy", "x"), ("calm", "x"), ("fear", "x"))]
    rows = {"m": {"a": Answer("joy", "x")}}
    (plain,) = score(rows, examples).confusion
    assert plain["counts"][0][0] == 1
    task = dataclasses.replace(TASK, protocol="coco-ptb", metrics=("accuracy", "accuracy_artemis"))
    scores = score(rows, examples, task)
    assert scores.confusion[0]["counts"] == [[0] * 4] * 3
    assert (cell(scores, "accuracy")["n"], cell(scores, "accuracy_artemis")["n"]) == (0, 1)


def test_emotion_views_of_a_worked_table() -> None:
    scores = score({"m": GOOD})
    annotated = cell(scores, "accuracy", emotion="fear", conditioned_on="annotated")
    # fear was felt before b (share 1, answered calm) and c (share 1/2, answered fear)
    assert (annotated["value"], annotated["n"]) == (pytest.approx(0.5 / 1.5), 2)
    assert "annotated-recall" in annotated["signature"]
    text = cell(scores, "rouge_l", emotion="calm", conditioned_on="annotated")
    # a, answered "a bright day" against "still water" only: 0; c, "deep water" against "still water": 1 of 2
    assert (text["value"], text["n"]) == (pytest.approx((0 + 0.5) / 2), 2)
    assert "refs:emotion" in text["signature"]
    assert cell(scores, "rouge_l", emotion="joy", conditioned_on="reference")["n"] == 1
    assert cell(scores, "accuracy", emotion="fear", conditioned_on="predicted")["unavailable"]
    assert cell(scores, "annotator_mass", emotion="fear", conditioned_on="predicted")["value"] == 0.5


def test_slices_follow_the_meta_keys_of_the_task() -> None:
    scores = score({"m": GOOD})
    realism = cell(scores, "annotator_mass", slice={"key": "style", "value": "realism"})
    assert (realism["value"], realism["n"]) == (pytest.approx(0.25), 2)


def test_same_emotion_references() -> None:
    scores = score({"m": GOOD})
    found = cell(scores, "rouge_l", references="same_emotion")
    # b answered calm, which nobody felt there: no reference
    assert (found["value"], found["n"]) == (pytest.approx(1.0), 2)
    assert {c["metric"] for c in scores.cells if c["references"] == "same_emotion"} == {"bleu_1", "rouge_l", "cider_d"}


def test_a_person_is_scored_without_the_held_out_annotation() -> None:
    people: dict[str, Outcome] = {
        "a": Answer("joy", "a bright day", held_out=0),
        "b": Answer("fear", "wolves near", held_out=1),
        "c": Failed("one annotation", ""),
    }
    scores = score({"human": people, "m": GOOD})
    assert {c["references"] for c in scores.cells if c["model"] == "human"} == {"leave_one_out"}
    # left over: a has joy and calm (no dominant emotion), b has fear; c and d have nobody held out
    human = cell(scores, "accuracy", "human", "leave_one_out")
    assert (human["value"], human["n"]) == (1.0, 1)
    assert cell(scores, "annotator_mass", "human", "leave_one_out")["value"] == pytest.approx((1 / 2 + 1) / 2)
    text = cell(scores, "rouge_l", "human", "leave_one_out")
    assert (text["n"], text["value"]) == (2, 0.0)
    model = cell(scores, "rouge_l", "m", "leave_one_out")
    # "a bright day" against "the sun is out" and "still water": 0; "a dark wood" against itself: 1
    assert (model["n"], model["value"]) == (2, pytest.approx(0.5))
    assert cell(scores, "accuracy", "m")["n"] == 3
    pairs = {(c["a"], c["b"], c["metric"]): c for c in scores.comparisons if c["emotion"] is None}
    assert pairs["human", "m", "annotator_mass"]["n"] == 2


def test_a_crowd_is_scored_against_the_other_half() -> None:
    """Half of a and of b answers; a person's row beside it keeps its own references."""
    crowd: dict[str, Outcome] = {
        "a": Answer("joy", "a bright day", {"joy": 1.0}, held_out=(1, 0)),
        "b": Answer("fear", "a dark wood", {"fear": 1.0}, held_out=(0,)),
    }
    people: dict[str, Outcome] = {"b": Answer("fear", "wolves near", held_out=1)}
    scores = score({"crowd": crowd, "human": people, "m": GOOD})
    assert {c["references"] for c in scores.cells if c["model"] == "crowd"} == {"leave_half_out"}
    # left over: a has calm, b has fear; the crowd answers joy and fear, m answers joy and calm
    assert cell(scores, "accuracy", "crowd", "leave_half_out")["value"] == 0.5
    assert (cell(scores, "accuracy", "m", "leave_half_out")["value"], cell(scores, "accuracy", "m")["n"]) == (0.0, 3)
    assert cell(scores, "rouge_l", "m", "leave_half_out")["n"] == 2
    assert cell(scores, "rouge_l", "m", "leave_one_out")["n"] == 1
    assert {(c["a"], c["b"]) for c in scores.comparisons} == {("crowd", "m"), ("human", "m")}


def test_document_frequencies_are_those_of_the_whole_split() -> None:
    """A part of the paintings scores the same, painting by painting, as within the whole split."""
    examples, rows = random_table(1, 12)
    task = dataclasses.replace(TASK, metrics=("cider_d",))
    part = examples[:5]
    outcomes = {e.id: rows["m0"][e.id] for e in part}
    alone, within = score({"m": outcomes}, part, task), score({"m": outcomes}, part, task, whole_split=examples)
    singles = [
        cell(score({"m": {e.id: outcomes[e.id]}}, [e], task, is_part=True, whole_split=examples), "cider_d")["value"]
        for e in part
    ]
    known = [value for value in singles if value is not None]
    assert cell(within, "cider_d")["value"] == pytest.approx(sum(known) / len(known), abs=1e-12)
    assert cell(within, "cider_d")["value"] != pytest.approx(cell(alone, "cider_d")["value"])


def test_no_cider_of_a_part_of_a_split_that_is_not_available() -> None:
    examples, rows = random_table(1, 12)
    task = dataclasses.replace(TASK, metrics=("cider_d", "rouge_l"))
    part = score({"m": {e.id: rows["m0"][e.id] for e in examples[:5]}}, examples[:5], task, is_part=True)
    assert cell(part, "cider_d")["value"] is None
    assert "the whole split, which is not available" in cell(part, "cider_d")["unavailable"]
    assert cell(part, "rouge_l")["value"] is not None


def test_an_error_of_training_the_classifier_is_raised_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    monkeypatch.setattr(threading, "excepthook", told.append)

    def obtain() -> NoReturn:
        raise OSError("no space left")

    before = set(threading.enumerate())
    resources = Resources(reader=EmotionReader(obtain))
    with pytest.raises(OSError, match="no space left"):
        score({"m": GOOD}, task=dataclasses.replace(TASK, metrics=("consistency",)), resources=resources)
    for thread in set(threading.enumerate()) - before:
        thread.join()
    assert told == []


# ----------------------------------------------------------------------------------------- contract


def test_records_have_the_keys_of_the_contract_and_are_json() -> None:
    examples, rows = random_table(3, 30)
    scores = score(rows, examples, replicates=100)
    assert all(c.keys() == CELL_KEYS for c in scores.cells)
    assert all(c.keys() == COMPARISON_KEYS for c in scores.comparisons)
    for record in (*scores.cells, *scores.comparisons, *scores.coverage, *scores.confusion):
        json.dumps(record, allow_nan=False)
    for c in scores.cells:
        assert (c["value"] is None) == (c["unavailable"] is not None)
        assert (c["low"] is None) == (c["high"] is None)
        assert c["low"] is None or c["low"] <= c["high"]
    places = [
        json.dumps([c[k] for k in ("model", "control", "metric", "emotion", "conditioned_on", "slice", "references")])
        for c in scores.cells
    ]
    assert len(set(places)) == len(places)


def test_every_emotion_has_its_cells_even_when_empty() -> None:
    scores = score({"m": {"a": Answer("joy", "x")}}, [painting("a", ("joy", "x"))])
    for view in ("annotated", "reference", "predicted"):
        empty = cell(scores, "rouge_l", emotion="fear", conditioned_on=view)
        assert (empty["value"], empty["n"], empty["unavailable"]) == (None, 0, "no example counts here")


def test_intervals_follow_the_kind_of_metric() -> None:
    examples, rows = random_table(1, 30)
    scores = score(rows, examples, replicates=200)
    for metric in ("annotator_mass", "macro_f1", "bleu_1", "cider_d"):
        found = cell(scores, metric, "m0")
        assert found["low"] < found["value"] < found["high"], metric
    assert cell(scores, "unique", "m0")["low"] is None
    few = score({"m0": {e.id: rows["m0"][e.id] for e in examples[:9]}}, examples[:9])
    assert cell(few, "annotator_mass", "m0")["low"] is None
    assert cell(few, "accuracy", "m0")["low"] is not None


def test_resamples_keep_the_emotions_that_macro_f1_averages_over() -> None:
    """A model that is always right loses a class's share where a resample misses the only painting of that class."""
    emotions = ["joy"] * 11 + ["calm"] * 11 + ["fear"]
    examples = [painting(f"p{i}", (emotion, "a")) for i, emotion in enumerate(emotions)]
    right: dict[str, Outcome] = {e.id: Answer(e.annotations[0].emotion, "a") for e in examples}
    wrong: dict[str, Outcome] = {e.id: Refusal("no") for e in examples}
    scores = score({"m": right, "k": wrong}, examples)
    found = cell(scores, "macro_f1")
    assert (found["value"], found["high"]) == (1.0, 1.0)
    assert found["low"] == pytest.approx(2 / 3)
    (difference,) = [c for c in scores.comparisons if c["metric"] == "macro_f1"]
    assert (difference["difference"], difference["low"]) == (1.0, pytest.approx(2 / 3))


def test_unavailable_metrics_are_cells_with_a_reason() -> None:
    labels_only: dict[str, Outcome] = {e.id: Answer("joy", "") for e in EXAMPLES}
    scores = score({"m": labels_only})
    assert cell(scores, "bleu_1")["unavailable"] == "the model gives labels without explanations"
    assert cell(scores, "brier")["unavailable"] == "the model gives no probabilities"
    assert cell(scores, "accuracy")["value"] is not None


def test_without_java_text_metrics_say_so_and_labels_are_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.tasks.metrics import java

    monkeypatch.setattr(java, "find_java", lambda: None)
    task = dataclasses.replace(TASK, protocol="coco-ptb", metrics=("accuracy", "bleu_4", "meteor", "mean_length"))
    scores = score({"m": GOOD}, task=task)
    assert cell(scores, "accuracy")["value"] is not None
    for metric in ("bleu_4", "meteor", "mean_length"):
        assert cell(scores, metric)["unavailable"] == "no Java runtime found; install sevlm-harness[java]"


def test_metrics_of_labels_alone_start_no_java(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr("harness.tasks.metrics.caption_engine.ptb_tokenise", lambda texts: asked.append(texts) or texts)
    for metrics, starts in ((("accuracy", "tokens"), False), (("accuracy", "unique"), True)):
        score({"m": GOOD}, task=dataclasses.replace(TASK, protocol="coco-ptb", metrics=metrics))
        assert bool(asked) is starts


def test_copied_needs_the_training_split() -> None:
    task = dataclasses.replace(TASK, metrics=("copied",))
    assert cell(score({"m": GOOD}, task=task), "copied")["unavailable"]
    train = [painting("z", ("joy", "A  bright day"))]
    assert cell(score({"m": GOOD}, task=task, train=train), "copied")["value"] == pytest.approx(1 / 3)


def test_controls_are_rows_of_their_own_and_are_not_compared() -> None:
    scores = score({RowKey("m", None): GOOD, RowKey("m", "blank"): GOOD})
    blank = [c for c in scores.cells if c["control"] == "blank"]
    assert {c["metric"] for c in blank} == set(TASK.metrics or ())
    assert all(c["emotion"] is None and c["references"] == "all" for c in blank)
    assert [c["control"] for c in scores.coverage] == [None, "blank"]
    assert scores.comparisons == []


@pytest.mark.parametrize(
    ("outcomes", "message"),
    [
        ({"zz": Refusal()}, "m: 1 outcomes of ids that task t lacks: zz"),
        ({"a": Answer("rage", "x")}, "example a: emotion 'rage' is not one of joy, calm, fear"),
        ({"a": Answer("joy", "x", {"joy": 0.5})}, "emotion_probs sum to 0.5, expected 1"),
        ({"a": Answer("joy", "x", {"rage": 1.0})}, "emotion_probs names rage"),
        ({"a": Answer("joy", "x", held_out=3)}, "held_out 3 of 3 annotations"),
    ],
)
def test_outcomes_that_do_not_fit_the_task_are_user_errors(outcomes: dict[str, Outcome], message: str) -> None:
    with pytest.raises(UserError, match=message):
        score({"m": outcomes})


def test_repeated_examples_and_unknown_metrics_are_user_errors() -> None:
    with pytest.raises(UserError, match="repeated: a"):
        score({"m": GOOD}, [*EXAMPLES, EXAMPLES[0]])
    with pytest.raises(UserError, match="did you mean"):
        score({"m": GOOD}, task=dataclasses.replace(TASK, metrics=("acuracy",)))


def test_two_people_must_hold_out_the_same_annotation() -> None:
    first: dict[str, Outcome] = {"a": Answer("joy", "a bright day", held_out=0)}
    second: dict[str, Outcome] = {"a": Answer("calm", "still water", held_out=2)}
    with pytest.raises(UserError, match="separate runs"):
        score({"human": first, "human2": second})

"""Ratings by people: drawn in balance, read strictly, checked, and turned into strengths that hold the truth."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.judge.ratings import (
    Rating,
    agreement,
    bradley_terry,
    check_raters,
    direct_pairs,
    krippendorff_alpha,
    metrics_by_people,
    read_ratings,
    store_ratings,
    win_rates,
)
from harness.judge.results import add_opinions
from harness.judge.study import Study, Unit, load_studies, plan_study, save_study
from harness.score.predictions import read_opinions
from harness.store.run_folder import RowKey, RunFolder
from harness.types import UserError

QUESTION = {"better": "Which is better?"}


def test_pairs_are_drawn_in_balance_and_a_tenth_comes_again_with_sides_exchanged(run: RunFolder) -> None:
    study = plan_study(run, "pairs", 30, criteria=QUESTION)
    (units,) = study.raters
    first = [u for u in units if u.repeats is None]
    assert len(first) == 30
    assert set(Counter(frozenset((u.left, u.right)) for u in first).values()) == {10}
    repeats = [u for u in units if u.repeats is not None]
    assert len(repeats) == 3
    for unit in repeats:
        original = study.units()[str(unit.repeats)]
        assert (unit.left, unit.right, unit.example) == (original.right, original.left, original.example)


def test_raters_share_a_quarter(run: RunFolder) -> None:
    study = plan_study(run, "pairs", 20, criteria=QUESTION, raters=3)
    shown = [{(u.task, u.example, frozenset((u.left, u.right))) for u in units} for units in study.raters]
    assert len(shown[0] & shown[1] & shown[2]) == 5
    assert len(shown[0] | shown[1] | shown[2]) == 5 + 3 * 15


def test_every_rater_sees_the_pairs_of_rows_equally_often(run: RunFolder) -> None:
    study = plan_study(run, "pairs", 20, criteria=QUESTION, raters=3)
    for units in study.raters:
        counts = Counter(frozenset((u.left, u.right)) for u in units if u.repeats is None)
        assert sorted(counts.values()) in ([6, 7, 7], [6, 6, 8], [5, 7, 8])


def test_the_same_seed_draws_the_same_study_and_it_is_kept(run: RunFolder) -> None:
    study = plan_study(run, "items", 10, criteria={"plausible": "Plausible?"}, seed=3)
    save_study(run, study)
    assert load_studies(run) == {study.name: study}
    assert plan_study(run, "items", 10, criteria={"plausible": "Plausible?"}, seed=3) == study
    assert plan_study(run, "items", 10, criteria={"plausible": "Plausible?"}, seed=4) != study


def test_a_run_without_two_models_has_no_pairs(run: RunFolder) -> None:
    for row in ("large", "other"):
        (run.path / "outcomes" / "tiny" / f"{row}.jsonl").unlink()
    with pytest.raises(UserError, match="no two models"):
        plan_study(run, "pairs", 5, criteria=QUESTION)


def pair(
    rater: str, example: str, left: str, right: str, choice: str, seconds: float = 4.0, again: str | None = None
) -> Rating:
    return Rating(rater, Unit(f"{example}{left}{right}{again}", "t", example, left, right, again), choice, {}, seconds)


def test_a_rater_who_contradicts_repeats_or_rushes_is_listed_with_the_reason() -> None:
    careful = [pair("a", str(i), "x", "y", "left") for i in range(5)]
    careful += [pair("a", str(i), "y", "x", "right", again=careful[i].unit.item) for i in range(2)]
    sided = [pair("b", str(i), "x", "y", "left") for i in range(5)]
    sided += [pair("b", str(i), "y", "x", "left", again=sided[i].unit.item) for i in range(2)]
    quick = [pair("c", str(i), "x", "y", "left", seconds=0.2) for i in range(5)]
    first, second, third = check_raters([*careful, *sided, *quick])
    assert (first.problem, first.n, first.repeated, first.consistent) == ("", 5, 2, 2)
    assert second.problem == "answered 0 of 2 repeated items the same way"
    assert third.problem == "took 0.2 s an item"


def test_strengths_of_two_rows_are_the_log_odds_of_their_wins() -> None:
    ratings = [pair("a", str(i), "x", "y", "left" if i < 30 else "right") for i in range(40)]
    strengths = {s.row: s for s in bradley_terry(ratings)}
    # (30 + .1) : (10 + .1) with the pseudo-wins; strengths sum to 0
    assert strengths["x"].strength == pytest.approx(np.log(30.1 / 10.1) / 2, abs=1e-6)
    assert strengths["y"].strength == pytest.approx(-strengths["x"].strength)
    assert strengths["x"].low is not None
    assert strengths["x"].low < strengths["x"].strength < (strengths["x"].high or 0)


def test_few_examples_give_no_interval() -> None:
    ratings = [pair("a", str(i), "x", "y", "left") for i in range(9)]
    assert bradley_terry(ratings)[0].low is None


def test_win_rates_count_ties_half() -> None:
    ratings = [pair("a", "1", "x", "y", "left"), pair("a", "2", "y", "x", "tie"), pair("a", "3", "x", "y", "right")]
    rates = {(r["model"], r["emotion"]): (r["win_rate"], r["n"]) for r in win_rates(ratings, {("t", "1"): "awe"})}
    assert rates["x", None] == (0.5, 3)
    assert rates["x", "awe"] == (1.0, 1)


def test_alpha_equals_krippendorffs_published_example() -> None:
    # Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", section C: nominal .743, ordinal .815
    nan = np.nan
    table = np.array(
        [
            [1, 2, 3, 3, 2, 1, 4, 1, 2, nan, nan, nan],
            [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, nan, 3],
            [nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, nan],
            [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, nan],
        ]
    )
    assert krippendorff_alpha(table, "nominal") == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(table, "ordinal") == pytest.approx(0.815, abs=5e-4)


def test_agreement_does_not_depend_on_the_sides() -> None:
    ratings = [pair("a", str(i), "x", "y", "left" if i % 2 else "right") for i in range(8)]
    ratings += [pair("b", str(i), "y", "x", "right" if i % 2 else "left") for i in range(8)]
    found = agreement(ratings)
    assert found["alpha"] == pytest.approx(1.0)
    assert found["kappas"] == [{"a": "a", "b": "b", "kappa": pytest.approx(1.0), "n": 8}]


def test_the_metric_that_people_follow_wins() -> None:
    draw = np.random.default_rng(0)
    quality = {("t", str(i), row): float(draw.normal()) for i in range(80) for row in "xy"}
    ratings = [
        pair(rater, str(i), "x", "y", "left" if quality["t", str(i), "x"] > quality["t", str(i), "y"] else "right")
        for i in range(80)
        for rater in "abc"
    ]
    noise = {key: float(draw.normal()) for key in quality}
    blurred = {key: value + 0.7 * noise[key] for key, value in quality.items()}
    table = metrics_by_people(
        ratings, {"noise": noise, "blurred": blurred, "true": quality, "constant": dict.fromkeys(quality, 1.0)}, {}
    )
    assert [line["metric"] for line in table][:2] == ["true", "blurred"]
    best, constant = table[0], next(line for line in table if line["metric"] == "constant")
    assert (best["agreement"], best["n"]) == (1.0, 80)
    assert (constant["agreement"], constant["ties"]) == (0.5, 80)
    assert next(line for line in table if line["metric"] == "noise")["low"] < 0.5


def test_raters_who_disagree_decide_by_majority() -> None:
    ratings = [pair(r, "1", "x", "y", c) for r, c in (("a", "left"), ("b", "left"), ("c", "right"))]
    ratings += [pair(r, "2", "x", "y", c) for r, c in (("a", "left"), ("b", "right"))]
    table = metrics_by_people(
        ratings, {"m": {("t", "1", "x"): 2.0, ("t", "1", "y"): 1.0, ("t", "2", "x"): 0.0, ("t", "2", "y"): 0.0}}, {}
    )
    assert [(line["agreement"], line["n"]) for line in table] == [(1.0, 1)]


def test_two_rows_are_compared_directly_over_images() -> None:
    ratings = [pair(r, "1", "x", "y", c) for r, c in (("a", "left"), ("b", "left"), ("c", "right"))]
    ratings += [pair(r, "2", "y", "x", c) for r, c in (("a", "left"), ("b", "right"))]
    ratings += [pair("a", "3", "y", "x", "left"), pair("a", "4", "y", "x", "right")]
    (found,) = direct_pairs(ratings)
    assert (found["a"], found["b"], found["n"]) == ("x", "y", 4)
    assert found["win_rate"] == (1 + 0.5 + 0 + 1) / 4
    z, p, n = 1.959964, 2.5 / 4, 4
    centre, half = (p + z * z / 2 / n), z * np.sqrt(p * (1 - p) / n + z * z / 4 / n / n)
    wilson = (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)
    assert (found["low"], found["high"]) == pytest.approx(wilson, abs=1e-6)


STUDY = Study("s", "pairs", QUESTION, ((Unit("i1", "t", "e", "x", "y"),),))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"study": "other", "item": "i1", "rater": "r", "choice": "left"}, "study 'other'"),
        ({"study": "s", "item": "nosuch", "rater": "r", "choice": "left"}, "item 'nosuch'"),
        (
            {"study": "s", "item": "i1", "rater": "r", "choice": "up"},
            "choice must be one of left, right, tie, got 'up'",
        ),
        ({"study": "s", "item": "i1", "choice": "left"}, "a rater's name"),
        ({"study": "s", "item": "i1", "rater": "r", "choice": "left", "seconds": "4"}, "number of seconds"),
    ],
)
def test_a_line_that_no_page_wrote_is_refused_with_its_place(
    tmp_path: Path, line: dict[str, object], message: str
) -> None:
    path = tmp_path / "ratings.jsonl"
    path.write_text(json.dumps(line) + "\n")
    with pytest.raises(UserError, match=r"ratings\.jsonl:1: ") as caught:
        read_ratings([path], {"s": STUDY})
    assert message in str(caught.value)


@given(
    st.dictionaries(
        st.sampled_from(["study", "item", "rater", "choice", "scores", "seconds"]),
        st.sampled_from(["s", "i1", "left", 3, None, [], {}, 1.5, True]),
    )
)
def test_any_line_is_a_rating_or_a_user_error(
    tmp_path_factory: pytest.TempPathFactory, line: dict[str, object]
) -> None:
    path = tmp_path_factory.mktemp("any") / "r.jsonl"
    path.write_text(json.dumps(line) + "\n")
    try:
        (rating,) = read_ratings([path], {"s": STUDY})
    except UserError:
        return
    assert rating.choice in ("left", "right", "tie")


@pytest.mark.slow
def test_every_text_metric_is_measured_by_people(run: RunFolder) -> None:
    """People prefer `small`, whose words are closest to what was said; `length` is in the table."""
    study = plan_study(run, "pairs", 60, criteria=QUESTION)
    save_study(run, study)
    order = ("small", "large", "other")
    lines = []
    for unit in study.units().values():
        better = min((unit.left, str(unit.right)), key=order.index)
        choice = "left" if better == unit.left else "right"
        lines.append({"study": study.name, "rater": "r", "item": unit.item, "choice": choice, "seconds": 4.0})
    path = run.path.parent / "downloaded.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    store_ratings(run, [path])
    store_ratings(run, [path])  # the same file again changes nothing
    people = add_opinions({}, run)["people"]
    assert people["ratings"] == len(lines)
    assert [s["row"] for s in people["strengths"]] == list(order)
    said = read_opinions(run.path, "tiny", RowKey("small"))
    shown = Counter(u.example for u in study.units().values() if u.repeats is None and "small" in (u.left, u.right))
    assert {id_: [o.said for o in own] for id_, own in said.items()} == {
        id_: [f"preferred in {n} of {n} pairs"] for id_, n in shown.items()
    }
    table = {line["metric"]: line for line in people["metrics"] if line["emotion"] is None}
    # `small` has the fewest words that nobody said: precision falls with each `and wide`
    assert table["bleu_1"]["agreement"] == 1.0
    assert table["mean_length"]["agreement"] == 0.0
    assert table["bleu_1"]["n"] == len(lines) - sum(u.repeats is not None for u in study.units().values())


def test_studies_of_different_criteria_are_read_together(run: RunFolder) -> None:
    lines = []
    for criterion, score in (("plausible", 4), ("specific", 2)):
        study = plan_study(run, "items", 12, criteria={criterion: f"How {criterion}?"})
        save_study(run, study)
        for unit in study.raters[0]:
            given = {"study": study.name, "rater": "one", "item": unit.item, "seconds": 5.0}
            lines.append(given | {"scores": {criterion: score}})
    path = run.path / "back.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    store_ratings(run, [path])
    people = add_opinions({}, run)["people"]
    assert {(cell["criterion"], cell["value"]) for cell in people["scores"]} == {("plausible", 4.0), ("specific", 2.0)}
    assert sum(cell["n"] for cell in people["scores"]) == 24
    assert set(people["agreement"]) == {"plausible", "specific"}
    said = [o.said for row in run.rows("tiny") for own in read_opinions(run.path, "tiny", row).values() for o in own]
    assert set(said) == {"plausible 4, specific 2 (1 raters)"}
    assert len(said) == 12

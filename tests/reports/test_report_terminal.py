"""The terminal table, against hand-written text."""

from __future__ import annotations

from typing import Any

from harness.reports.terminal import leaderboard_table
from harness.score.results import metric_records
from harness.store.run_folder import RunFolder

FACTS = {"metrics": metric_records(), "headlines": ["accuracy", "cider_d"]}


def cell(model: str, metric: str, value: float | None, **more: Any) -> dict[str, Any]:
    plain = {"task": "t", "model": model, "control": None, "metric": metric, "value": value, "low": None, "high": None}
    return plain | {"n": 5, "emotion": None, "slice": None, "references": "all", "unavailable": None} | more


def coverage(model: str, answered: int, control: str | None = None) -> dict[str, Any]:
    return {"task": "t", "model": model, "control": control, "examples": 100, "answered": answered}


def test_table_is_aligned_sorted_and_marked() -> None:
    results = {
        "cells": [
            cell("weak", "accuracy", 0.5, low=0.4, high=0.61),
            cell("weak", "cider_d", None, unavailable="no Java"),
            cell("strong", "accuracy", 0.75, low=0.7, high=0.8),
            cell("strong", "cider_d", 1.25),
            cell("strong", "bleu_1", 0.9),
            cell("strong", "accuracy", 0.1, emotion="awe"),
            cell("strong", "accuracy", 0.1, slice={"key": "style", "value": "x"}),
            cell("shy", "accuracy", 0.99),
            cell("human", "accuracy", 0.6, references="leave_one_out", n=3),
            cell("other", "accuracy", 0.6, task="another"),
        ],
        "coverage": [coverage("weak", 100), coverage("strong", 95), coverage("shy", 94), coverage("human", 100)],
    }
    assert leaderboard_table(FACTS | results, "t") == (
        "               Accuracy ↑  CIDEr-D ↑  answered\n"
        "-------  ----------------  ---------  --------\n"
        "strong   75.0 [70.0–80.0]       1.25    95/100\n"
        "human ‡              60.0          –   100/100\n"
        "weak     50.0 [40.0–61.0]          –   100/100\n"
        "shy †                99.0          –    94/100\n"
        "t: percent and 95 % intervals; CIDEr-D from 0 to 10.\n"
        "n: Accuracy 3–5, CIDEr-D 5.\n"
        "† answered below 95 % of the images: not ranked.\n"
        "‡ against the remaining annotators: compare it with the scores on these in the report only.\n"
    )


def test_wide_letters_keep_the_columns() -> None:
    results = {"cells": [cell("絵画", "accuracy", 0.5), cell("abcd", "accuracy", 0.25)], "coverage": []}
    lines = leaderboard_table(FACTS | results, "t").splitlines()
    assert lines[2:4] == ["絵画        50.0         –", "abcd        25.0         –"]


def test_a_task_without_scores_says_so(run: RunFolder) -> None:
    assert leaderboard_table(run.results(), "absent") == "absent: no scores\n"


def test_controls_are_named(run: RunFolder) -> None:
    assert "\nsmall (blank)" in leaderboard_table(run.results(), "tiny")


def test_a_group_of_trainings_is_a_line_with_mean_and_deviation() -> None:
    group = {"group": "sevlm", "models": ["s1", "s2"], "task": "t", "metric": "accuracy", "emotion": None}
    group |= {"references": "all", "mean": 0.5, "sd": 0.0141}
    results = {
        "cells": [cell(name, "accuracy", value) for name, value in (("s1", 0.49), ("s2", 0.51))],
        "groups": [group, group | {"emotion": "awe"}, group | {"task": "u"}, group | {"metric": "unheard_of"}],
    }
    assert leaderboard_table(FACTS | results, "t").endswith("\nsevlm (2 trainings): Accuracy 50.0 ± 1.4\n")

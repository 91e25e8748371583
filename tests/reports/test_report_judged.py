"""The section *Judged*: scores with intervals, a warning instead of a column, what a judge is worth, what people said."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

from page_tree import parse
from run_builder import standard_run

from harness.reports.build import build_report, report_text
from harness.score.predictions import Opinion, read_opinions, write_opinions
from harness.store.run_folder import RowKey, RunFolder

HOSTILE = "<script>window.pwned = 9</script>"


def worth(tells: bool) -> dict[str, Any]:
    share, low, high = (0.9, 0.8, 0.95) if tells else (0.5, 0.4, 0.6)
    return {
        "question": "Is it so?",
        "repeatability": {"differ": 0.2, "alpha": 0.71, "n": 50},
        "discrimination": {"prefers_true": share, "low": low, "high": high, "n": 50, "tells": tells},
        "length": {"rho": 0.3, "n": 50},
        "people": None,
    }


def with_opinions(run: RunFolder) -> RunFolder:
    results = run.results()
    task = run.manifest()["tasks"][0]["name"]
    model = results["models"][0]["model"]
    cells = [
        {"task": task, "model": m, "criterion": c, "value": 3.456, "low": 3.1, "high": 3.8, "n": 40, "unscored": 2}
        for m in (model, HOSTILE)
        for c in ("fits", "lazy")
    ]
    test = {"difference": 0.4, "low": 0.1, "high": 0.7, "p": 0.001, "p_holm": 0.002, "n": 40}
    judged = {
        "judge": "some-judge",
        "rubric": "explanation",
        "version": 1,
        "digest": "abc",
        "image": True,
        "references": False,
        "repeats": 2,
        "criteria": {"fits": worth(True), "lazy": worth(False)},
        "cells": cells,
        "comparisons": [test | {"task": task, "criterion": "fits", "a": model, "b": HOSTILE}],
        "order": {"consistent": 0.75, "n": 40, "first_wins": 0.6},
        "preferences": [{"task": task, "model": model, "win_rate": 0.6, "n": 40}],
        "unscored": {"refused": 3},
        "questions": 200,
        "same_family": [model],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 50, "cost_usd": 0.01},
    }
    people = {
        "raters": [
            {"rater": HOSTILE, "n": 30, "repeated": 3, "consistent": 0, "seconds": 0.4, "problem": "took 0.4 s"}
        ],
        "ratings": 0,
        "strengths": [{"row": model, "strength": 0.5, "low": 0.1, "high": 0.9, "wins": 12.5, "n": 20}],
        "win_rates": [{"model": model, "emotion": None, "win_rate": 0.625, "n": 20}],
        "pairs": [{"task": task, "a": model, "b": "x", "win_rate": 0.6, "low": 0.4, "high": 0.8, "n": 20}],
        "scores": [],
        "agreement": {"preference": {"alpha": 0.42, "level": "nominal", "shared_items": 9, "kappas": []}},
        "metrics": [
            {"metric": "cider_d", "emotion": None, "agreement": 0.6, "low": 0.4, "high": 0.8, "n": 18, "ties": 1}
        ],
    }
    run.save_results(results | {"judges": [judged], "people": people})
    return run


def test_scores_warnings_and_worth(tmp_path: Path) -> None:
    run = with_opinions(standard_run(tmp_path / "run", tmp_path / "images"))
    page = build_report([run], tmp_path / "report")
    text = parse(page.read_text()).one("section", id="tiny-judged").text
    assert "3.46 [3.10, 3.80]" in text
    assert "lazy has no scores: the judge prefers the true explanation over another image's in 50%" in text
    assert "75% of 40 pairs have the same verdict in both orders; of decided verdicts, the first wins 60%" in text
    assert "1 significant difference" in text
    assert "Of the judge's own family" in text
    assert "+0.50" in text
    assert "left out: took 0.4 s" in text
    assert "alpha 0.42 on 9 shared items" in text
    assert HOSTILE not in page.read_text()
    assert text.count("lazy") == text.count("lazy has no scores") + 1  # its worth is shown, its scores are not


def test_tables_for_papers_and_spreadsheets(tmp_path: Path) -> None:
    run = with_opinions(standard_run(tmp_path / "run", tmp_path / "images"))
    out = build_report([run], tmp_path / "report").parent
    with (out / "judged.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    by_measure = Counter((line["by"], line["measure"]) for line in lines)
    assert by_measure == {
        ("some-judge", "score"): 4,
        **{("some-judge", measure): 2 for measure in ("prefers_true", "differ", "alpha", "rho")},
        ("some-judge", "difference"): 1,
        ("some-judge", "win_rate"): 1,
        ("some-judge", "same_in_both_orders"): 1,
        ("people", "strength"): 1,
        ("people", "win_rate"): 1,
        ("people", "preferred"): 1,
        ("people", "agreement with metric"): 1,
        ("people", "alpha"): 1,
    }
    score = next(line for line in lines if line["measure"] == "score")
    assert (score["value"], score["low"], score["high"], score["n"]) == ("3.456", "3.1", "3.8", "40")
    markdown, latex = ((out / f"judged-tiny.{form}").read_text() for form in ("md", "tex"))
    assert "| --- | ---: |" in markdown
    assert "3.46 \\[3.10, 3.80\\]" in markdown
    assert "lazy has no scores" in markdown
    assert "&lt;script&gt;" in markdown
    assert latex.count(r"\begin{tabular}") == 2  # the judge's, people's strengths
    assert "3.46 [3.10, 3.80]" in latex
    assert markdown in report_text([run], "md")
    run.save_results({k: v for k, v in run.results().items() if k not in ("judges", "people")})
    build_report([run], tmp_path / "report")
    assert not [*out.glob("judged*")]


def test_opinions_stand_beside_each_explanation(tmp_path: Path) -> None:
    run = with_opinions(standard_run(tmp_path / "run", tmp_path / "images"))
    model = run.results()["models"][0]["model"]
    first = next(iter(run.outcomes("tiny", RowKey(model))))
    opinions = [Opinion("some-judge, explanation", "fits 4"), Opinion("people", f"preferred in 1 of 2 pairs {HOSTILE}")]
    write_opinions(run.path, [("tiny", model, first, opinion) for opinion in opinions])
    out = build_report([run], tmp_path / "report").parent
    text = (out / "data" / "tiny-0.js").read_text()
    assert '"opinions":[["some-judge, explanation","fits 4"],["people","preferred in 1 of 2 pairs ' in text
    assert text.count('"opinions"') == 1
    assert HOSTILE not in text
    write_opinions(run.path, [])
    assert read_opinions(run.path, "tiny", RowKey(model)) == {}


def test_a_run_without_judges_has_no_section(tmp_path: Path) -> None:
    page = build_report([standard_run(tmp_path / "run", tmp_path / "images")], tmp_path / "report")
    assert "tiny-judged" not in page.read_text()

"""Several tasks on one page: a table that says who leads where, wording that fits data of labels alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opened import Opened
from page_tree import Element, parse
from run_builder import picture, readings

from harness.reports.build import build_report
from harness.reports.comparisons import lead, summaries
from harness.reports.leaderboard import boards
from harness.reports.view import Run, gather
from harness.score.predictions import write_predictions
from harness.score.results import metric_records
from harness.store.run_folder import RowKey, RunFolder
from harness.tasks.metrics import HEADLINES
from harness.types import Annotation, Answer, Example

LABELS = ("calm", "uneasy", "neither")
VALUES = {"small": 0.8, "majority": 0.5, "far": 0.9}


def cell(model: str, metric: str, value: float, n: int = 40) -> dict[str, Any]:
    return {
        "task": "photos", "split": "test", "model": model, "control": None, "metric": metric, "value": value,
        "low": value - 0.1, "high": value + 0.1, "n": n, "emotion": None, "conditioned_on": None, "slice": None,
        "references": "all", "protocol": "coco-ptb", "signature": metric, "unavailable": None,
    }  # fmt: skip


def photo_run(folder: Path, models: tuple[str, ...] = ("small", "majority")) -> RunFolder:
    """Data of labels alone: another label set, no explanation."""
    run = RunFolder(folder / "photos")
    asked = [
        Example(f"photo {i}", picture(folder / f"{i}.jpg", i), (Annotation(LABELS[i % 3], ""),), {LABELS[i % 3]: 1})
        for i in range(6)
    ]
    entry = {"name": "photos", "title": "Photographs", "version": "1", "emotions": list(LABELS), "split": "test"}
    entry |= {"explanations": False, "examples": 6, "available": 6, "prompts": {"default": "Which?"}}
    manifest = {"schema": 1, "tasks": [entry], "models": [{"model": m, "adapter": m} for m in models], "runs": []}
    run.save_manifest(manifest)
    run.save_examples("photos", asked)
    said = {e.id: Answer("calm", "") for e in asked}
    for model in models:
        with run.open_log("photos", RowKey(model)) as log:
            for id_, outcome in said.items():
                log.append(id_, outcome)
    compared = {"task": "photos", "metric": "accuracy", "emotion": None, "a": "majority", "b": "small", "n": 38}
    compared |= {"difference": -0.3, "low": -0.45, "high": -0.1, "p": 0.001, "p_holm": 0.002}
    counts = {"examples": 6, "answered": 6, "refused": 0, "unparsed": 0, "failed": 0}
    run.save_results(
        {
            "schema": 1, "manifest": {}, "metrics": metric_records(), "headlines": list(HEADLINES), "models": [],
            "comparisons": [compared], "confusion": [],
            "cells": [c for m in models for c in (cell(m, "accuracy", VALUES[m]), cell(m, "macro_f1", 0.4))],
            "coverage": [{"task": "photos", "model": m, "control": None, **counts} for m in models],
        }
    )  # fmt: skip
    return run


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return photo_run(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def both(run: RunFolder, photos: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report's folder of two tasks."""
    return build_report([run, photos], tmp_path_factory.mktemp("both")).parent


@pytest.fixture(scope="module")
def page(both: Path) -> Element:
    return parse((both / "index.html").read_text("utf-8"))


def test_each_line_is_one_task_and_no_line_is_a_mean(run: RunFolder, photos: RunFolder) -> None:
    views = gather([Run.read(i, one) for i, one in enumerate((run, photos))])
    accuracy, *_ = found = summaries(views)
    assert [line.view.name for line in accuracy.lines] == ["tiny", "photos"]
    assert accuracy.labels == ("small", "large", "endpoint", "majority")
    line = accuracy.lines[1]
    assert [one.text for one in line.cells] == ["80.0", "–", "–", "50.0"]
    assert line.cells[1].reason == "not run on this task"
    assert (line.n, line.verdict) == (40, "small better than majority")
    assert line.evidence == "+30.0 [+10.0 to +45.0], p = .002, n 38"
    cider = next(one for one in found if one.info.name == "cider_d")
    assert ([one.view.name for one in cider.lines], cider.absent) == (["tiny"], ("photos",))


def test_the_lead_is_that_of_the_ranked_rows_values(run: RunFolder) -> None:
    """`endpoint` answered too rarely to be ranked; people and controls do not take part."""
    (view,) = gather([Run.read(0, run)])
    for name in ("accuracy", "macro_f1", "cider_d", "latency_p50_s"):
        info = view.info(name)
        found = lead(view, info)
        values = {
            c["model"]: c["value"]
            for c in run.results()["cells"]
            if (c["metric"], c["references"], c["control"]) == (name, "all", None) and not (c["emotion"] or c["slice"])
        }
        ranked = sorted(("small", "large", "majority"), key=values.__getitem__, reverse=bool(info.higher_is_better))
        assert found is not None
        assert values[found.first.id.model] == values[ranked[0]]
        assert values[found.second.id.model] == values[ranked[1]]


def test_rows_of_different_runs_are_not_said_to_differ(photos: RunFolder, tmp_path: Path, run: RunFolder) -> None:
    far = photo_run(tmp_path, ("far",))
    views = gather([Run.read(i, one) for i, one in enumerate((photos, far, run))])
    line = summaries(views)[0].lines[0]
    assert (line.verdict, line.is_significant) == ("far first, small next", False)
    assert line.evidence == "not compared: rows of different runs"


def test_a_lead_that_turns_round_on_the_shared_pictures_is_none(tmp_path: Path, run: RunFolder) -> None:
    """Texts are scored on each row's own answered images, differences on those that both answered."""
    photos = photo_run(tmp_path)
    results = photos.results()
    results["comparisons"][0] |= {"difference": 0.3, "low": 0.1, "high": 0.45}
    photos.save_results(results)
    (line,) = [one for one in summaries(gather([Run.read(0, photos), Run.read(1, run)]))[0].lines if one.n == 40]
    assert line.verdict == "small first, but majority better on the images of both"
    assert not line.is_significant
    board = boards(line.view)[0]
    assert not any(cell.is_best for body in board.bodies for row in body.rows for cell in row.cells)


def test_a_single_task_has_no_summary(run: RunFolder, report: Path) -> None:
    assert summaries(gather([Run.read(0, run)])) == []
    assert "across-tasks" not in (report / "index.html").read_text("utf-8")


def test_several_tasks_begin_with_an_answer_each(page: Element) -> None:
    (leads,) = page.one("section", id="across-tasks").all("ul", css="leads")
    (line,) = leads.all("li")  # the other task was scored by an older version
    assert line.text.startswith("tiny small keeps 33 % of large’s lead")


def test_the_page_says_why_there_is_no_mean(page: Element) -> None:
    section = page.one("section", id="across-tasks")
    assert "Why there is no mean" in section.text
    lines = [tr for tr in section.all("tr") if "photos" in tr.text]
    assert [[strong.text for strong in tr.all("strong")] for tr in lines] == [["80.0"], []]  # accuracy, macro F1


def test_wording_fits_labels_alone(page: Element) -> None:
    """Photographs are no paintings, and no text metric is spoken of where none is scored."""
    told = page.one("section", id="photos-leaderboard").text
    assert "CIDEr" not in told
    assert "text metrics" not in told
    assert "CIDEr-D from 0 to 10" in page.one("section", id="tiny-leaderboard").text
    assert "painting" not in page.one("section", id="photos").text.lower()


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 400])
def test_two_tasks_in_the_browser(open_page: Callable[..., Opened], both: Path, width: int) -> None:
    opened = open_page(width, folder=both)
    page = opened.page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.select_option("#across-tasks [data-field=metric]", "cider_d")
    assert (
        page.eval_on_selector_all("#across-tasks tbody tr", "all => all.filter((one) => one.checkVisibility()).length")
        == 1
    )
    page.click("#across-tasks tbody tr:visible a")
    assert page.evaluate("location.hash") == "#tiny"
    assert page.eval_on_selector_all("[data-samples]", "all => all.map((one) => one.dataset.count)") == ["12", "6"]
    consistency = page.eval_on_selector_all(
        "[data-filter=consistency]", "all => all.map((one) => one.checkVisibility())"
    )
    assert consistency == [True, False]
    assert (opened.messages, opened.network) == ([], [])


@pytest.mark.browser
@pytest.mark.parametrize(("width", "rules"), [(1280, ()), (400, ("color-contrast", "scrollable-region-focusable"))])
def test_several_tasks_are_told_apart_by_ear(
    open_page: Callable[..., Opened], both: Path, width: int, rules: tuple[str, ...]
) -> None:
    pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    from test_report_accessibility import REVEAL, violations

    opened = open_page(width, folder=both)
    opened.page.evaluate(REVEAL)
    assert violations(opened, rules) == []


def test_methods_tell_of_classifier_and_programs(photos: RunFolder, tmp_path: Path) -> None:
    record = {"task": "photos", "kind": "tfidf", "train_utterances": 10926, "test_utterances": 1238}
    record |= {"test_accuracy": 0.5428109854604201, "settings": {"min_count": 2}, "sha256": "8d05ae6464eb2e3987"}
    photos.save_results(photos.results() | {"classifiers": [record], "programs": {"java": 'openjdk "17"'}})
    write_predictions(photos.path, "photos", RowKey("small"), readings(photos.outcomes("photos", RowKey("small")), 1))
    told = parse(build_report([photos], tmp_path).read_text("utf-8")).one("section", id="methods").text
    # Wilson's interval by statsmodels.stats.proportion.proportion_confint(672, 1238, method="wilson")
    assert "tfidf, trained on 10 926 utterances; reads 54.3 % [51.5–57.0] of 1 238 test utterances" in told
    assert "Settings: min_count=2; weights 8d05ae6464eb2e39." in told
    assert 'java openjdk "17"' in told

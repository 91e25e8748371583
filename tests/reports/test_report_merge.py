"""Several runs as one leaderboard, and the warnings that stand above it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from page_tree import parse
from run_builder import EMOTIONS, examples, outcomes, write_run

from harness.reports.build import build_report
from harness.reports.cautions import cautions
from harness.reports.view import Run, gather
from harness.store.run_folder import RowKey, RunFolder
from harness.types import Answer, Example


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> list[Example]:
    return examples(tmp_path_factory.mktemp("merge-pictures"))


def run_of(path: Path, names: list[str], asked: list[Example], **entry: Any) -> RunFolder:
    return write_run(path, {RowKey(name): outcomes(asked, i) for i, name in enumerate(names)}, asked, **entry)


def titles(run: RunFolder, *others: RunFolder) -> list[str]:
    (view,) = gather([Run.read(i, folder) for i, folder in enumerate((run, *others))])
    return [caution.title for caution in cautions(view)]


def test_two_runs_of_a_task_become_one_leaderboard(tmp_path: Path, asked: list[Example]) -> None:
    first = run_of(tmp_path / "first", ["small", "large"], asked)
    second = run_of(tmp_path / "second", ["large", "endpoint"], asked)
    out = build_report([first, second], tmp_path / "out").parent
    page = parse((out / "index.html").read_text(encoding="utf-8"))
    board = page.one("section", id="tiny-leaderboard").all("table", css="board")[0]
    labels = {line.attributes["data-row"] for line in board.one("tbody", css="model").all("tr")}
    assert labels == {"small", "large (run 1)", "large (run 2)", "endpoint"}
    assert (out / "results-1.json").is_file()
    assert (out / "results-2.json").is_file()
    assert "Run 2: second" in page.one("section", id="methods").text


def test_another_split_is_another_leaderboard(tmp_path: Path, asked: list[Example]) -> None:
    first = run_of(tmp_path / "first", ["small"], asked)
    second = run_of(tmp_path / "second", ["small"], asked, split="val")
    page = parse(build_report([first, second], tmp_path / "out").read_text(encoding="utf-8"))
    assert [s.attributes["id"] for s in page.all("section", css="task")] == ["tiny", "tiny-2"]
    assert (tmp_path / "out" / "data" / "tiny-2-index.js").is_file()
    warnings = [aside.text for aside in page.all("aside", css="cautions")]
    assert "Not merged. second ran this task with split val, not test" in warnings[0]
    assert "Not merged. first ran this task with split test, not val" in warnings[1]


def test_another_version_and_label_set_are_named_as_the_reason(tmp_path: Path, asked: list[Example]) -> None:
    first = run_of(tmp_path / "first", ["small"], asked)
    second = run_of(tmp_path / "second", ["small"], asked, version="2", emotions=[*EMOTIONS[::-1]])
    text = build_report([first, second], tmp_path / "out").read_text(encoding="utf-8")
    assert "second ran this task with version 2, not 1 and other labels, or in another order" in text


def test_two_tasks_stand_one_after_the_other(tmp_path: Path, asked: list[Example]) -> None:
    first = run_of(tmp_path / "first", ["small"], asked)
    second = run_of(tmp_path / "second", ["small"], asked, task="other")
    page = parse(build_report([first, second], tmp_path / "out").read_text(encoding="utf-8"))
    assert [s.attributes["id"] for s in page.all("section", css="task")] == ["tiny", "other"]


def test_runs_on_different_paintings_are_warned_of(tmp_path: Path, asked: list[Example]) -> None:
    first = run_of(tmp_path / "first", ["small"], asked)
    second = run_of(tmp_path / "second", ["large"], asked[:8])
    assert "Different images" in titles(first, second)
    assert "Different images" not in titles(first, first)


def test_metrics_computed_in_different_ways_are_warned_of(tmp_path: Path, asked: list[Example]) -> None:
    first, second = (run_of(tmp_path / name, [name], asked) for name in ("one", "two"))
    assert "Different signatures" not in titles(first, second)
    results = dict(second.results())
    for cell in results["cells"]:
        if cell["metric"] == "consistency":
            cell["signature"] = "consistency|clf:lstm-0123|refs:all|version:1"
        elif cell["metric"] == "spice":  # without a value nothing is put side by side
            cell["signature"] = "spice|version:2"
    second.save_results(results)
    (view,) = gather([Run.read(i, folder) for i, folder in enumerate((first, second))])
    (caution,) = [one for one in cautions(view) if one.title == "Different signatures"]
    assert "alike: Consistency." in caution.text
    assert caution.is_grave


def test_illustrative_limited_and_small_runs_are_warned_of(tmp_path: Path, asked: list[Example]) -> None:
    quiet = titles(run_of(tmp_path / "plain", ["small"], asked))
    assert quiet == ["Few images", "Rare emotions", "Uncommitted code"]
    loud = titles(run_of(tmp_path / "loud", ["small"], asked, illustrative=True, available=5833))
    assert loud == ["Illustrative data", "Limited run", *quiet]


def test_illustrative_data_is_named_in_the_agreed_words(tmp_path: Path, asked: list[Example]) -> None:
    run = run_of(tmp_path / "run", ["small"], asked, illustrative=True)
    text = build_report([run], tmp_path / "out").read_text(encoding="utf-8")
    assert "Machine-written illustration, never to be reported as a result." in text


def test_failures_and_silence_name_the_row(tmp_path: Path, asked: list[Example]) -> None:
    rows = {RowKey("good"): outcomes(asked, 0), RowKey("shaky"): outcomes(asked, 1, failing=True)}
    (view,) = gather([Run.read(0, write_run(tmp_path / "run", rows, asked))])
    texts = {caution.title: caution.text for caution in cautions(view)}
    assert "shaky: 8 of 12" in texts["Answered below 95\u00a0%"]
    assert texts["Failures"].startswith("shaky: 2 of 12.")
    assert "good" not in texts["Failures"] + texts["Answered below 95\u00a0%"]


def test_rare_emotions_are_counted(tmp_path: Path, asked: list[Example]) -> None:
    run = run_of(tmp_path / "run", ["small"], asked)
    results = run.results()
    for cell in results["cells"]:
        if cell["conditioned_on"] == "annotated":
            cell["n"] = {"anger": 1, "fear": 9, "awe": 10}.get(cell["emotion"], 50)
    run.save_results(results)
    (view,) = gather([Run.read(0, run)])
    (text,) = [c.text for c in cautions(view) if c.title == "Rare emotions"]
    assert text == "Fewer than 10 images have an annotation of: anger 1, fear 9."


def test_the_half_width_is_wilsons(tmp_path: Path, asked: list[Example]) -> None:
    run = run_of(tmp_path / "run", ["small"], asked)
    results = run.results()
    for cell in results["cells"]:
        if cell["metric"] == "accuracy" and cell["emotion"] is None and cell["slice"] is None:
            cell["n"] = 50
    run.save_results(results)
    (view,) = gather([Run.read(0, run)])
    (text,) = [c.text for c in cautions(view) if c.title == "Few images"]
    # Wilson's 95 % interval of 25 out of 50 is 0.3664 … 0.6336.
    assert "50 images" in text
    assert "±\u00a013 points" in text


def test_a_model_that_failed_wholly_still_has_its_row(tmp_path: Path, asked: list[Example]) -> None:
    rows = {RowKey("good"): outcomes(asked, 0), RowKey("gone"): {}}
    run = write_run(tmp_path / "run", rows | {RowKey("gone"): outcomes(asked, 1)}, asked)
    results = run.results()
    results["cells"] = [c for c in results["cells"] if c["model"] != "gone"]
    for entry in results["coverage"]:
        if entry["model"] == "gone":
            entry |= {"answered": 0, "failed": 12}
    run.save_results(results)
    page = parse(build_report([run], tmp_path / "out").read_text(encoding="utf-8"))
    line = page.one("section", id="tiny-leaderboard").all("table")[0].one("tr", data_row="gone")
    assert "not measured for this row" in line.text
    assert "0.0" in line.text


def test_label_only_rows_need_no_text(tmp_path: Path, asked: list[Example]) -> None:
    rows = {RowKey("labels"): {e.id: Answer("awe", "") for e in asked}}
    assert build_report([write_run(tmp_path / "run", rows, asked)], tmp_path / "out").is_file()

"""The leaderboard: order, marks, bold only beyond chance, reasons for missing numbers."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
from page_tree import Element, parse
from run_builder import comparison, examples, outcomes, write_run

from harness.reports.build import build_report
from harness.reports.leaderboard import boards
from harness.reports.view import Run, gather
from harness.score.results import group_records
from harness.store.run_folder import RowKey, RunFolder


def board_of(page: Element) -> Element:
    return page.one("section", id="tiny-leaderboard").all("table", css="board")[0]


def cell(page: Element, row: str, metric: str) -> Element:
    table = board_of(page)
    headers = table.one("thead").all("tr")[1].all("th")
    column = [h.attributes.get("data-metric") for h in headers].index(metric)
    line = table.one("tr", data_row=row)
    return [e for e in line.children if isinstance(e, Element)][column]


def test_rows_are_grouped_and_sorted_by_accuracy(page: Element, run: RunFolder) -> None:
    accuracy = {
        (c["model"], c["control"]): c["value"]
        for c in run.results()["cells"]
        if c["metric"] == "accuracy" and c["emotion"] is None and c["slice"] is None
    }
    bodies = board_of(page).all("tbody")
    assert [b.attributes["class"] for b in bodies] == ["model", "reference", "control", "published"]
    models = [line.attributes["data-row"] for line in bodies[0].all("tr")]
    ranked = [m for m in models if m != "endpoint"]
    assert models[-1] == "endpoint"
    assert ranked == sorted(ranked, key=lambda m: -accuracy[m, None])
    assert [line.attributes["data-row"] for line in bodies[2].all("tr")[1:]] == ["small, blank image"]


def test_a_row_answered_too_rarely_is_marked(page: Element) -> None:
    endpoint = board_of(page).one("tr", data_row="endpoint")
    assert endpoint.attributes["data-ranked"] == "no"
    assert "†" in endpoint.text
    assert cell(page, "endpoint", "answered").text == "66.7" + "8/12"
    assert [cell(page, "endpoint", kind).text for kind in ("refused", "unparsed", "failed")] == ["1", "1", "2"]
    assert board_of(page).one("tr", data_row="small").attributes["data-ranked"] == "yes"


def test_numbers_are_scaled_and_carry_their_interval(page: Element, run: RunFolder) -> None:
    found = {
        c["metric"]: c
        for c in run.results()["cells"]
        if c["model"] == "large" and c["emotion"] is None and c["slice"] is None and c["references"] == "all"
    }
    macro, cider = found["macro_f1"], found["cider_d"]
    assert cell(page, "large", "macro_f1").text == (
        f"{100 * macro['value']:.1f}{100 * macro['low']:.1f}–{100 * macro['high']:.1f}"
    )
    assert cell(page, "large", "cider_d").text.startswith(f"{cider['value']:.2f}{cider['low']:.2f}–")
    assert float(cell(page, "large", "macro_f1").attributes["data-value"] or "") == macro["value"]
    assert cell(page, "large", "plugin_metric").text == "3.142"
    assert cell(page, "large", "parameters").text == "1.00 M"


def test_counts_that_differ_from_the_heading_are_printed(page: Element) -> None:
    header = board_of(page).one("th", data_metric="bleu_4")
    assert header.one("span", css="ci").text == "n 12 ?"
    assert cell(page, "endpoint", "bleu_4").text.endswith("n 8")
    assert "n " not in cell(page, "large", "bleu_4").text


def test_a_missing_number_gives_its_reason(page: Element) -> None:
    spice = cell(page, "small", "spice")
    assert spice.text == "–not available: SPICE is not installed <b>here</b>"
    assert spice.attributes["title"] == "SPICE is not installed <b>here</b>"
    assert "data-value" not in spice.attributes


def test_published_rows_are_apart_hidden_and_sourced(page: Element) -> None:
    body = board_of(page).one("tbody", css="published")
    assert "hidden" in body.attributes
    assert "reported by a different group" in body.text
    assert "65.6" in body.text
    assert "BLEU-1 54.2" in body.text


def test_the_human_row_is_explained_and_comparable_in_its_own_table(page: Element) -> None:
    section = page.one("section", id="tiny-leaderboard")
    assert "no ceiling" in section.text
    held_out = section.all("table", css="board")[1]
    assert held_out.one("tr", data_row="human")
    assert held_out.one("tr", data_row="large")
    assert [h.attributes.get("data-metric") for h in held_out.one("thead").all("tr")[1].all("th")] == [None, "bleu_4"]


def test_a_human_row_without_ordinary_cells_shows_the_held_out_ones(tmp_path: Path, run: RunFolder) -> None:
    copy = RunFolder(tmp_path / "run")
    copy.save_manifest(run.manifest())
    copy.save_examples("tiny", run.examples("tiny"))
    results = run.results()
    results["cells"] = [
        c for c in results["cells"] if c["model"] != "human" or c["references"] == "leave_one_out" or c["emotion"]
    ]
    copy.save_results(results)
    page = parse(build_report([copy], tmp_path / "out").read_text(encoding="utf-8"))
    assert "‡" in cell(page, "human", "bleu_4").text
    assert cell(page, "human", "accuracy").text.startswith("–")


def test_trainings_of_one_model_have_their_mean_and_deviation(tmp_path: Path, page: Element, run: RunFolder) -> None:
    assert not page.one("section", id="tiny-leaderboard").all("table", css="seeds")
    copy = RunFolder(tmp_path / "run")
    manifest = dict(run.manifest())
    manifest["models"] = [
        m | ({"group": "ours"} if m["model"] in ("small", "large") else {}) for m in manifest["models"]
    ]
    copy.save_manifest(manifest)
    copy.save_examples("tiny", run.examples("tiny"))
    results = dict(run.results())
    results["groups"] = group_records(manifest["models"], results["cells"])
    copy.save_results(results)
    found = parse(build_report([copy], tmp_path / "out").read_text(encoding="utf-8"))
    table = found.one("section", id="tiny-leaderboard").one("table", css="seeds")
    (line,) = table.one("tbody").all("tr")
    assert "2 trainings: small, large" in line.one("th").text
    column = [th.text.split(" ↑")[0] for th in table.all("th", scope="col")].index("Macro F1")
    values = [
        c["value"]
        for c in results["cells"]
        if (c["metric"], c["references"], c["control"]) == ("macro_f1", "all", None)
        and c["model"] in ("small", "large")
    ]
    expected = f"{100 * statistics.fmean(values):.1f} ± {100 * statistics.stdev(values):.1f}"
    assert line.all("td")[column - 1].text == expected


@pytest.mark.parametrize(
    ("p_holm", "low_metric", "expected"),
    [
        (0.012, False, "large"),
        (0.049, False, "large"),
        (0.05, False, None),
        (None, False, None),
        (0.012, True, "small"),
    ],
)
def test_bold_needs_a_significant_lead(
    tmp_path: Path, p_holm: float | None, low_metric: bool, expected: str | None
) -> None:
    asked = examples(tmp_path / "pictures")
    rows = {RowKey("small"): outcomes(asked, 0), RowKey("large"): outcomes(asked, 1)}
    run = write_run(tmp_path / "run", rows, asked)
    results = run.results()
    metric = "brier" if low_metric else "bleu_4"
    for entry in results["cells"]:
        if entry["metric"] == "bleu_4" and entry["emotion"] is None and entry["references"] == "all":
            entry |= {"value": 0.3 if entry["model"] == "large" else 0.2, "metric": metric}
    results["comparisons"] = []
    if p_holm is not None:
        results["comparisons"] = [comparison("tiny", metric, "small", "large", -0.1, p_holm)]
    run.save_results(results)
    (view,) = gather([Run.read(0, run)])
    board = boards(view)[0]
    column = [c.info.name for c in board.columns].index(metric)
    best = [line.row.label for body in board.bodies for line in body.rows if line.cells[column].is_best]
    assert best == ([expected] if expected else [])


def test_an_unranked_row_is_never_bold_nor_the_runner_up(tmp_path: Path) -> None:
    asked = examples(tmp_path / "pictures")
    names = {"small": 0, "large": 1, "endpoint": 2}
    rows = {RowKey(n): outcomes(asked, s, failing=n == "endpoint") for n, s in names.items()}
    run = write_run(tmp_path / "run", rows, asked)
    results = run.results()
    values = {"small": 0.2, "large": 0.3, "endpoint": 0.9}
    for entry in results["cells"]:
        if entry["metric"] == "bleu_4" and entry["emotion"] is None and entry["references"] == "all":
            entry["value"] = values[entry["model"]]
    results["comparisons"] = [
        comparison("tiny", "bleu_4", "small", "large", -0.1, 0.01),
        comparison("tiny", "bleu_4", "large", "endpoint", -0.6, 0.01),
    ]
    run.save_results(results)
    (view,) = gather([Run.read(0, run)])
    board = boards(view)[0]
    column = [c.info.name for c in board.columns].index("bleu_4")
    assert [r.row.label for b in board.bodies for r in b.rows if r.cells[column].is_best] == ["large"]

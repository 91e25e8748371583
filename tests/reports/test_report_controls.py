"""Controls: what is left without the picture, and the drop."""

from __future__ import annotations

from pathlib import Path

import pytest
from page_tree import Element, parse
from run_builder import examples, outcomes, write_run

from harness.reports.breakdowns import ControlTable, control_tables
from harness.reports.build import build_report
from harness.reports.view import Run, gather
from harness.store.run_folder import RowKey
from harness.tasks.metrics import HEADLINES


def tables(path: Path, values: dict[tuple[str, str | None], float | None]) -> list[ControlTable]:
    asked = examples(path / "pictures", 6)
    rows = {RowKey(model, control): outcomes(asked, i) for i, (model, control) in enumerate(values)}
    run = write_run(path / "run", rows, asked)
    results = run.results()
    for cell in results["cells"]:
        if cell["metric"] == "accuracy" and cell["emotion"] is None and cell["slice"] is None:
            value = values[cell["model"], cell["control"]]
            cell |= {"value": value, "low": None, "high": None, "unavailable": None if value is not None else "gone"}
    run.save_results(results)
    (view,) = gather([Run.read(0, run)])
    return control_tables(view)


def test_the_drop_is_with_minus_without(tmp_path: Path) -> None:
    values = {("a", None): 0.5, ("a", "blank"): 0.31, ("a", "shuffled"): 0.52, ("b", None): 0.4}
    table = tables(tmp_path, values)[0]
    assert (table.info.name, table.controls) == ("accuracy", ("blank", "shuffled"))
    (line,) = table.lines
    assert line.own.text == "50.0"
    assert [(score.text, drop) for score, drop in line.controls] == [("31.0", "+19.0"), ("52.0", "−2.0")]


def test_a_missing_score_gives_no_drop(tmp_path: Path) -> None:
    values = {("a", None): 0.5, ("a", "blank"): None, ("b", None): 0.4, ("b", "shuffled"): 0.1}
    a, b = tables(tmp_path, values)[0].lines
    assert (a.controls[0][0].reason, a.controls[0][1]) == ("gone", "")
    assert (a.controls[1][0].reason, a.controls[1][1]) == ("not measured for this row", "")
    assert b.controls[1][1] == "+30.0"


def test_the_page_has_a_table_for_each_metric(page: Element) -> None:
    section = page.one("section", id="tiny-controls")
    metrics = [option.attributes["value"] for option in section.all("option")]
    assert metrics == [name for name in HEADLINES if not name.startswith("ccc_")]
    line = section.all("tbody")[0].one("tr")
    assert line.one("th").text == "small"
    own, blank, drop = (td.children[0] for td in line.all("td"))
    assert float(drop.replace("−", "-")) == pytest.approx(float(own) - float(blank), abs=0.11)  # type: ignore[union-attr,arg-type]


def test_without_controls_there_is_no_section(tmp_path: Path) -> None:
    assert tables(tmp_path, {("a", None): 0.5}) == []
    asked = examples(tmp_path / "more", 6)
    run = write_run(tmp_path / "plain", {RowKey("a"): outcomes(asked, 0)}, asked)
    page = parse(build_report([run], tmp_path / "out").read_text(encoding="utf-8"))
    assert not page.all("section", id="tiny-controls")

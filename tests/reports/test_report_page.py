"""The page as a document: nothing from outside, nothing executable from data, well-formed and labelled."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from page_tree import Element
from run_builder import HOSTILE, standard_run

from harness.reports.build import build_report
from harness.store.run_folder import RunFolder
from harness.types import UserError


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_every_link_stays_in_the_folder(page: Element, report: Path) -> None:
    targets = [
        value for e in page.walk() for name, value in e.attributes.items() if name in ("href", "src", "action", "data")
    ]
    ids = {e.attributes["id"] for e in page.walk() if "id" in e.attributes}
    assert targets
    for target in targets:
        assert target is not None
        if target.startswith("#"):
            assert target[1:] in ids
        elif target != "data:,":
            assert (report / target).is_file(), target


def test_content_security_policy_is_strict(page: Element) -> None:
    policy = page.one("meta", http_equiv="Content-Security-Policy").attributes["content"]
    assert policy == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'"
    )


def test_no_inline_script_style_or_handler(page: Element) -> None:
    for element in page.walk():
        names = set(element.attributes)
        assert not {name for name in names if name.startswith("on")}, element.attributes
        assert "style" not in names
        assert element.tag != "style"
        if element.tag == "script":
            assert element.attributes["src"]
            assert element.text == ""


def test_what_was_counted_in_the_data_is_shown(page: Element) -> None:
    shown = [[part.text for part in entry.all("dt") + entry.all("dd")] for entry in page.all("div")]
    assert ["examples in test", "12"] in shown
    assert ["words of an explanation", "7 (median <b>words</b>)"] in shown


def test_hostile_texts_are_text(page: Element) -> None:
    assert f"Paintings {HOSTILE['script']}" in page.one("h2", id="tiny-title").text
    assert HOSTILE["script"] in [th.text for th in page.one("section", id="tiny-slices").all("th", scope="row")]
    assert HOSTILE["handler"] in page.one("tbody", css="published").text
    assert any(HOSTILE["closing"] in pre.text for pre in page.one("section", id="methods").all("pre"))


def test_the_same_run_renders_to_the_same_bytes(run: RunFolder, report: Path, tmp_path: Path) -> None:
    again = build_report([run], tmp_path / "again").parent
    assert files(again) == files(report)
    assert files(build_report([run], again).parent) == files(report)


def test_files_of_an_earlier_rendering_are_removed(run: RunFolder, tmp_path: Path) -> None:
    for stale in ("data/tiny-7.js", "thumbs/0123-240.jpg"):
        (tmp_path / stale).parent.mkdir(exist_ok=True)
        (tmp_path / stale).write_text("old")
    (tmp_path / "mine.txt").write_text("kept")
    build_report([run], tmp_path)
    names = set(files(tmp_path))
    assert "mine.txt" in names
    assert not names & {"data/tiny-7.js", "thumbs/0123-240.jpg"}
    assert not [name for name in names if name.endswith(".tmp")]


def test_ids_are_unique_and_labels_resolve(page: Element) -> None:
    ids = [e.attributes["id"] for e in page.walk() if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    for element in page.walk():
        if "aria-labelledby" in element.attributes:
            assert set((element.attributes["aria-labelledby"] or "").split()) <= set(ids)


def test_tables_have_captions_and_scoped_headers(page: Element) -> None:
    tables = page.all("table")
    assert len(tables) > 10
    for table in tables:
        assert table.one("caption").text
        assert all(th.attributes.get("scope") in ("col", "row", "colgroup", "rowgroup") for th in table.all("th"))
        for row in table.all("tbody")[0].all("tr"):
            assert row.all("th"), row.text


def test_landmarks_skip_link_and_form_labels(page: Element) -> None:
    assert page.one("html").attributes["lang"] == "en"
    assert page.one("a", css="skip").attributes["href"] == "#main"
    assert len(page.all("main")) == len(page.all("h1")) == 1
    for control in [*page.all("select"), *page.all("input")]:
        assert control.parent is not None
        assert control.parent.tag == "label"
        assert control.parent.text


def test_styles_and_scripts_load_nothing() -> None:
    assets = Path(__file__).resolve().parents[2] / "reports" / "assets"
    for path in assets.iterdir():
        text = path.read_text(encoding="utf-8")
        assert "@import" not in text
        assert "url(" not in text
        assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text), path.name
        assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|fetch\(", text), (
            path.name
        )


def test_downloads_hold_the_results(report: Path, run: RunFolder) -> None:
    assert json.loads((report / "results.json").read_text(encoding="utf-8")) == run.results()
    lines = (report / "cells.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + len(run.results()["cells"])
    assert lines[0].startswith("run,task,split,model,control,metric,value,low,high,n,emotion")


def test_a_formula_is_not_run_by_a_spreadsheet(tmp_path: Path) -> None:
    run = standard_run(tmp_path / "run", tmp_path / "pictures")
    results = run.results()
    results["cells"][0]["unavailable"] = "=HYPERLINK(1)"
    run.save_results(results)
    text = (build_report([run], tmp_path / "out").parent / "cells.csv").read_text(encoding="utf-8")
    assert ",'=HYPERLINK(1)" in text.splitlines()[1]


def test_a_run_that_is_not_scored_is_a_user_error(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.save_manifest({"schema": 1, "tasks": [], "models": [], "runs": []})
    with pytest.raises(UserError, match="harness score"):
        build_report([run], tmp_path / "out")
    with pytest.raises(UserError, match="at least one run"):
        build_report([], tmp_path / "out")


def test_a_manifest_with_names_only_is_enough(tmp_path: Path, run: RunFolder) -> None:
    bare = RunFolder(tmp_path / "bare")
    bare.save_manifest({"schema": 1, "tasks": [{"name": "tiny"}], "models": [{"model": "small"}], "runs": []})
    bare.save_examples("tiny", run.examples("tiny"))
    bare.save_results({**run.results(), "models": [], "comparisons": []})
    text = build_report([bare], tmp_path / "out").read_text(encoding="utf-8")
    assert "tiny-leaderboard" in text


def test_blur_marks_the_page(run: RunFolder, page: Element, tmp_path: Path) -> None:
    assert 'class="blur"' in build_report([run], tmp_path, blur=True).read_text(encoding="utf-8")
    assert "class" not in page.one("body").attributes

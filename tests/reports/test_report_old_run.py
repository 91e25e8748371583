"""A run folder as an earlier version wrote it (schema 1) still renders, by the command that people type."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from opened import Opened
from page_tree import parse

from harness.cli import main

REPOSITORY = Path(__file__).resolve().parents[2]
EAGER = "one => { one.loading = 'eager'; return one.decode().then(() => one.naturalWidth); }"
RUN = Path(__file__).parent / "kept" / "schema-1"


@pytest.fixture
def in_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kept run names its pictures relative to the repository."""
    monkeypatch.chdir(REPOSITORY)


def test_it_renders_with_its_numbers(in_repository: None, tmp_path: Path) -> None:
    assert main(["report", str(RUN), "--out", str(tmp_path)]) == 0
    results = json.loads((RUN / "results.json").read_text(encoding="utf-8"))
    (accuracy,) = [
        c["value"]
        for c in results["cells"]
        if (c["model"], c["metric"], c["control"], c["emotion"], c["slice"])
        == ("majority", "accuracy", None, None, None)
        and c["references"] == "all"
    ]
    page = parse((tmp_path / "index.html").read_text(encoding="utf-8"))
    board = page.one("section", id="demo-leaderboard").all("table", css="board")[0]
    assert board.one("tr", data_row="majority").all("td")[0].text.startswith(f"{accuracy:.3f}")
    assert "Scored by an older version" in page.one("aside", css="cautions").text
    for section in ("emotions", "confusion", "slices", "controls", "samples"):
        assert page.one("section", id=f"demo-{section}")
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8")) == results


@pytest.mark.browser
def test_its_samples_and_pictures_are_shown(
    in_repository: None, open_page: Callable[..., Opened], tmp_path: Path
) -> None:
    main(["report", str(RUN), "--out", str(tmp_path), "--blur"])
    opened = open_page(folder=tmp_path)
    assert opened.count() == 12
    assert opened.page.eval_on_selector("article img", EAGER) > 100
    assert opened.page.get_attribute("body", "class") == "blur"
    assert opened.messages == []


def test_pictures_are_linked_when_asked(in_repository: None, tmp_path: Path) -> None:
    main(["report", str(RUN), "--out", str(tmp_path), "--pictures", "link"])
    assert not (tmp_path / "thumbs").exists()
    assert "demo_data/images" in (tmp_path / "data" / "demo-0.js").read_text(encoding="utf-8")


def test_an_unknown_way_with_pictures_is_the_users_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(RUN), "--out", str(tmp_path), "--pictures", "hide"]) == 2
    assert "--pictures: expected copy or link, got 'hide'" in capsys.readouterr().err
    assert not (tmp_path / "index.html").exists()

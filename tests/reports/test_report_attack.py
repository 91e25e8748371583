"""The attack set: nothing that comes from outside runs, loads, hides or breaks the page; all of it is shown as text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from attacks import ATTACKS, attacked_run
from opened import Opened
from page_tree import Element, parse

from harness.reports.build import build_report
from harness.reports.samples import whole_text
from harness.store.run_folder import RunFolder


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("attacked")
    return attacked_run(folder / "run", folder / "pictures")


@pytest.fixture(scope="module", params=["copied", "linked"])
def folder(request: pytest.FixtureRequest, attacked: RunFolder) -> Path:
    """The report of the attacked run, with copied and with linked pictures."""
    return build_report([attacked], attacked.path / request.param, copies=request.param == "copied").parent


@pytest.fixture(scope="module")
def attacked_page(attacked: RunFolder) -> Element:
    return parse(build_report([attacked], attacked.path / "copied").read_text(encoding="utf-8"))


def test_the_page_has_no_element_of_the_attackers(attacked_page: Element) -> None:
    allowed = {"svg", "g", "title", "line", "rect", "circle", "text", "input", "script", "meta", "link"}
    for element in attacked_page.walk():
        assert element.tag not in ("iframe", "img", "form", "style", "object", "embed", "base"), element.attributes
        assert not {name for name in element.attributes if name.startswith("on") or name == "style"}
        if element.tag in allowed:
            assert "pwned" not in str(element.attributes.get("src")) + str(element.attributes.get("href"))
    assert len(attacked_page.all("meta", http_equiv="refresh")) == 0
    assert len(attacked_page.all("script")) == 4


def test_texts_are_whole(attacked_page: Element) -> None:
    manifest = attacked_page.one("section", id="methods").text
    for name in ("script", "svg", "style", "css", "iframe", "form", "entity"):
        assert ATTACKS[name] in manifest, name


def test_scripts_hold_one_call_each(folder: Path) -> None:
    for path in (folder / "data").iterdir():
        text = path.read_bytes().decode("utf-8")
        assert text.startswith("window.harness")
        assert text.count("\n") == 1
        assert not set(text) & set("<>&\u2028\u2029")


def used(page: Any) -> Iterator[None]:
    """Work with everything on the page."""
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    yield
    for box in page.query_selector_all("input[type=checkbox]:not([data-filter])"):
        box.evaluate("one => one.click()")
    page.wait_for_timeout(100)
    yield
    for select in page.query_selector_all("[data-switch] select"):
        for number in range(min(3, select.evaluate("one => one.length"))):
            change = "(one, i) => { one.selectedIndex = i; one.dispatchEvent(new Event('change')); }"
            select.evaluate(change, number)
    yield
    for event in ("mouseover", "focus", "load", "error"):
        page.evaluate(f"document.querySelectorAll('*').forEach(one => one.dispatchEvent(new Event('{event}')))")
    yield
    for _ in range(2):
        page.focus("[data-list]")
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(100)
        yield


@pytest.mark.browser
def test_nothing_runs_loads_or_breaks_out(open_page: Callable[..., Opened], folder: Path) -> None:
    width = 400 if folder.name == "copied" else 1280
    opened = open_page(width, folder=folder)
    page = opened.page
    for _ in used(page):
        assert page.evaluate("window.pwned") is None
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.is_visible("h1")
    assert opened.messages == []
    assert opened.network == []
    roots = (folder.resolve().as_uri(), (folder.parents[1] / "pictures").resolve().as_uri(), "data:,")
    assert all(unquote(url).startswith(tuple(map(unquote, roots))) for url in opened.requests)


@pytest.mark.browser
def test_pictures_of_every_name_are_shown(open_page: Callable[..., Opened], folder: Path, attacked: RunFolder) -> None:
    opened = open_page(folder=folder)
    drawn = "all => Promise.all(all.map(one => { one.loading = 'eager'; return one.decode().then(() => one.alt); }))"
    shown = opened.page.eval_on_selector_all("article img", drawn)
    expected = [e for e in list(attacked.examples("attacked"))[:10] if e.image.exists()]
    assert len(shown) == len(expected) - 1
    reasons = opened.page.eval_on_selector_all(".no-image", "all => all.map(one => one.textContent)")
    assert len(reasons) == 2
    assert any("missing <script>" in reason for reason in reasons)


@pytest.mark.browser
def test_hostile_labels_filter_and_link(open_page: Callable[..., Opened], folder: Path, attacked: RunFolder) -> None:
    opened = open_page(folder=folder)
    asked = list(attacked.examples("attacked"))
    for number, example in list(enumerate(asked))[:3]:
        opened.page.select_option("[data-filter=emotion]", index=number + 1)
        assert opened.ids() == [whole_text(example.id)]
        opened.page.goto("about:blank")
        opened.page.go_back()
        opened.page.wait_for_selector("[data-samples][data-count='1']")
        assert opened.ids() == [whole_text(example.id)]

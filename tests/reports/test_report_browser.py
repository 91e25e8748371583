"""The report in a real browser, opened from disk: quiet, self-contained, usable by mouse, keyboard and on a phone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from opened import Opened
from run_builder import HOSTILE

from harness.reports.build import build_report
from harness.store.run_folder import RunFolder

pytestmark = pytest.mark.browser


def controls(page: Any) -> Iterator[None]:
    """Open everything that folds and press everything that can be pressed, one after the other."""
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    yield
    for button in page.query_selector_all("input[type=checkbox], thead button, #theme, article.sample button"):
        button.evaluate("one => one.click()")
        yield
    for select in page.query_selector_all("select"):
        select.evaluate("one => { one.selectedIndex = one.length - 1; one.dispatchEvent(new Event('change')); }")
        yield


@pytest.mark.parametrize("width", [1280, 400])
def test_quiet_self_contained_and_harmless(open_page: Callable[..., Opened], width: int) -> None:
    opened = open_page(width)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    for _ in controls(opened.page):
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    opened.page.click("[data-reset]")
    opened.page.wait_for_selector("article.sample")
    opened.page.evaluate(
        "document.querySelectorAll('article *').forEach(one => one.dispatchEvent(new Event('mouseover')))"
    )
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.page.evaluate("window.pwned") is None
    assert opened.messages == []
    prefix = opened.folder.resolve().as_uri() + "/"
    assert opened.network == []
    assert all(unquote(url).startswith((unquote(prefix), "data:,")) for url in opened.requests), opened.requests


def test_wide_tables_scroll_in_their_own_box_under_a_fixed_first_column(open_page: Callable[..., Opened]) -> None:
    page = open_page(400).page
    box = page.query_selector("#tiny-leaderboard .scroll")
    assert box.evaluate("one => one.scrollWidth > one.clientWidth")
    left = "one => one.querySelector('tbody th').getBoundingClientRect().left"
    before = box.evaluate(left)
    box.evaluate("one => { one.scrollLeft = 200; }")
    assert box.evaluate(left) == before


def row_order(page: Any) -> list[str]:
    found: list[str] = page.eval_on_selector_all(
        "#tiny-leaderboard > .scroll tbody.model tr", "all => all.map(one => one.dataset.row)"
    )
    return [name for name in found if name]


@pytest.mark.parametrize("metric", ["cider_d", "macro_f1", "parameters"])
def test_sorting_follows_results_json(open_page: Callable[..., Opened], run: RunFolder, metric: str) -> None:
    page = open_page().page
    results = run.results()
    if metric == "parameters":
        value = {m["model"]: m["parameters"] for m in results["models"]}
    else:
        value = {
            c["model"]: c["value"]
            for c in results["cells"]
            if c["metric"] == metric and c["references"] == "all" and not (c["emotion"] or c["slice"] or c["control"])
        }
    best_first = sorted(["small", "large"], key=value.__getitem__, reverse=metric != "parameters")
    header = page.query_selector(f"#tiny-leaderboard th[data-metric={metric}]")
    header.query_selector("button").focus()
    page.keyboard.press("Enter")
    assert row_order(page) == [*best_first, "endpoint"]
    assert header.get_attribute("aria-sort") == ("ascending" if metric == "parameters" else "descending")
    assert len(page.query_selector_all("#tiny-leaderboard > .scroll th[aria-sort]")) == 1
    header.query_selector("button").click()
    assert row_order(page) == [*best_first[::-1], "endpoint"]


def test_column_groups_and_published_rows_are_toggled(open_page: Callable[..., Opened]) -> None:
    page = open_page().page
    spice = page.query_selector("#tiny-leaderboard th[data-metric=spice]")
    assert not spice.is_visible()
    page.check("#tiny-leaderboard [data-toggle-group=text-more]")
    assert spice.is_visible()
    page.check("#tiny-leaderboard [data-toggle-published]")
    assert page.query_selector("tbody.published").is_visible()


def test_heatmap_switches_metric_and_view(open_page: Callable[..., Opened]) -> None:
    page = open_page().page
    page.select_option("#tiny-emotions [data-field=metric]", "bleu_4")
    page.select_option("#tiny-emotions [data-field=view]", "predicted")
    shown = page.eval_on_selector_all(
        "#tiny-emotions [data-variant]:not([hidden])",
        "all => all.map(one => one.dataset.metric + ' ' + one.dataset.view)",
    )
    assert shown == ["bleu_4 predicted"]


def test_long_and_strange_texts_are_shown_as_they_are(open_page: Callable[..., Opened]) -> None:
    page = open_page(400).page
    texts = page.eval_on_selector_all("article.sample .answer p", "all => all.map(one => one.textContent)")
    for name in ("script", "closing", "handler", "url", "template", "comment", "long"):
        assert HOSTILE[name] in texts, name
    assert page.eval_on_selector_all(
        "article.sample .answer p", "all => all.every(one => one.dir === 'auto' || one.className)"
    )
    first = page.inner_text("article.sample >> nth=0")
    assert "valence 1.25" in first
    assert "valence -0.50" in first
    assert page.text_content("article.sample >> nth=0 >> details p") == HOSTILE["closing"]
    folded = page.query_selector("p.long")
    height = folded.bounding_box()["height"]
    folded.evaluate("one => one.nextElementSibling.click()")
    assert folded.bounding_box()["height"] > 4 * height


@pytest.mark.parametrize("system", ["light", "dark"])
def test_theme_follows_the_system_until_switched(open_page: Callable[..., Opened], system: str) -> None:
    page = open_page(color_scheme=system).page
    paper = "getComputedStyle(document.body).backgroundColor"
    light, dark = "rgb(255, 255, 255)", "rgb(20, 22, 26)"
    assert page.evaluate(paper) == (dark if system == "dark" else light)
    page.click("#theme")
    assert page.evaluate(paper) == (light if system == "dark" else dark)
    page.reload()
    page.wait_for_selector("article.sample")
    assert page.evaluate(paper) == (light if system == "dark" else dark)


def test_first_tab_stop_skips_to_the_results(open_page: Callable[..., Opened]) -> None:
    page = open_page().page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_printing_leaves_the_controls_out(open_page: Callable[..., Opened]) -> None:
    page = open_page().page
    page.emulate_media(media="print")
    assert not page.is_visible(".controls")
    assert not page.is_visible("section.samples")
    assert page.is_visible("table.board")


def test_blurred_pictures_clear_on_click(open_page: Callable[..., Opened], run: RunFolder, tmp_path: Path) -> None:
    page = open_page(folder=build_report([run], tmp_path, blur=True).parent).page
    style = "getComputedStyle(document.querySelector('.image img')).filter"
    assert page.evaluate(style) == "blur(14px)"
    page.click(".image img")
    assert page.evaluate(style) == "none"


def test_printing_to_pdf_holds_the_tables(open_page: Callable[..., Opened]) -> None:
    data = open_page().page.pdf(prefer_css_page_size=True)
    assert data.startswith(b"%PDF-")
    pages = len(re.findall(rb"/Type\s*/Page\b", data))
    assert 3 <= pages <= 40


@pytest.mark.parametrize(
    ("section", "field", "variant"),
    [
        ("controls", "metric", "cider_d"),
        ("affect", "row", "1"),
        ("confusion", "row", "2"),
        ("slices", "metric", "accuracy"),
        ("pairs", "metric", "cider_d"),
        ("cost", "metric", "macro_f1"),
    ],
)
def test_each_section_shows_what_is_chosen(
    open_page: Callable[..., Opened], section: str, field: str, variant: str
) -> None:
    page = open_page().page
    page.focus(f"#tiny-{section} [data-field={field}]")
    page.select_option(f"#tiny-{section} [data-field={field}]", variant)
    shown = page.eval_on_selector_all(
        f"#tiny-{section} [data-variant]:not([hidden])", f"all => all.map(one => one.dataset.{field})"
    )
    assert shown == [variant]
    assert page.query_selector(f"#tiny-{section} [data-variant]:not([hidden])").is_visible()


def test_the_contents_lead_to_every_section(open_page: Callable[..., Opened]) -> None:
    page = open_page().page
    links = page.eval_on_selector_all(".contents a", "all => all.map(one => one.getAttribute('href'))")
    assert len(links) == 14
    for link in links:
        page.eval_on_selector(f".contents a[href='{link}']", "one => one.click()")
        assert page.evaluate("location.hash") == link
        assert page.query_selector(link).is_visible()

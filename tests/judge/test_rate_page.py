"""The rating page in Chromium: thirty pairs by keyboard, a reload in the middle, the download, the import."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.judge.ratings import check_raters, read_ratings
from harness.judge.study import load_studies, plan_study, save_study, write_pages
from harness.store.run_folder import RunFolder
from harness.types import Answer, RowKey

pytestmark = pytest.mark.browser
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    import shutil

    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium")
    with playwright.sync_playwright() as started:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        chromium = started.chromium.launch(executable_path=found, args=flags)
        yield chromium
        chromium.close()


def page_of(run: RunFolder, out: Path, kind: Any = "pairs", count: int = 30, **options: Any) -> Path:
    criteria = {"better": "Which one?"} if kind == "pairs" else {"plausible": "Plausible?", "specific": "Specific?"}
    study = plan_study(run, kind, count, criteria=criteria)
    save_study(run, study)
    return write_pages(run, study, out, **options)[0]


def opened(browser: Any, path: Path, width: int = 1000, **options: Any) -> tuple[Any, list[str]]:
    page = browser.new_context(viewport={"width": width, "height": 800}, accept_downloads=True, **options).new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
    page.goto(path.as_uri())
    return page, said


def start(page: Any) -> None:
    page.check("#agree")
    page.click("#start")


def test_thirty_pairs_by_keyboard_with_a_reload_in_the_middle(browser: Any, run: RunFolder, tmp_path: Path) -> None:
    page, said = opened(browser, page_of(run, tmp_path / "page.html"))
    start(page)
    assert page.is_visible("#practice")
    page.keyboard.press("ArrowLeft")
    for i in range(15):
        assert page.inner_text("#where") == f"Item {i + 1} of 33"
        page.keyboard.press(("ArrowLeft", "ArrowRight", "ArrowDown")[i % 3])
    page.reload()
    assert page.inner_text("#where") == "Item 16 of 33"
    page.keyboard.press("Backspace")
    assert page.inner_text("#where") == "Item 15 of 33"
    assert page.get_attribute("#answers button >> nth=1", "aria-pressed") == "true"
    for _ in range(19):
        page.keyboard.press("ArrowRight")
    assert page.is_visible("#end")
    with page.expect_download() as download:
        page.click("#download")
    answers = tmp_path / "answers.jsonl"
    download.value.save_as(answers)
    ratings = read_ratings([answers], load_studies(run))
    assert len(ratings) == 33
    assert [r.choice for r in ratings[:3]] == ["left", "right", "tie"]
    assert check_raters(ratings)[0].n == 30
    assert said == []


def test_scores_by_keyboard(browser: Any, run: RunFolder, tmp_path: Path) -> None:
    page, said = opened(browser, page_of(run, tmp_path / "page.html", "items", 6))
    start(page)
    for score in ("4", "5", "3", "1", "2", "4", "3", "5"):  # the first is practice, the last a repeat
        page.keyboard.press(score)
        assert page.is_disabled("#next")
        page.keyboard.press(score)
        page.keyboard.press("Enter")
    with page.expect_download() as download:
        page.click("#download")
    answers = tmp_path / "answers.jsonl"
    download.value.save_as(answers)
    ratings = read_ratings([answers], load_studies(run))
    assert [r.scores["plausible"] for r in ratings] == [5, 3, 1, 2, 4, 3, 5]
    assert said == []


def test_no_model_is_named_and_hostile_texts_stay_texts(browser: Any, run: RunFolder, tmp_path: Path) -> None:
    with run.open_log("tiny", RowKey("hostile")) as log:
        for i in range(24):
            log.append(f"e{i}", Answer("awe", "</script><script>window.pwned = 1</script><img src=x onerror=pwned=2>"))
    path = page_of(run, tmp_path / "page.html")
    page, said = opened(browser, path)
    source = path.read_text().replace("small sees", "").replace("large sees", "").replace("other sees", "")
    assert not any(f'"{row}"' in source for row in ("small", "large", "other", "hostile"))
    start(page)
    for _ in range(34):
        page.keyboard.press("0")
    assert page.evaluate("window.pwned") is None
    assert said == []


@pytest.mark.parametrize(("width", "scheme"), [(1000, "light"), (390, "dark")])
@pytest.mark.parametrize("kind", ["pairs", "items"])
def test_no_accessibility_violation_on_any_screen(
    browser: Any, run: RunFolder, tmp_path: Path, width: int, scheme: str, kind: str
) -> None:
    page, _ = opened(browser, page_of(run, tmp_path / "page.html", kind, 5), width, color_scheme=scheme)
    found = []

    def look() -> None:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        found.extend(axe.Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"])

    look()
    start(page)
    look()
    for _ in range(7):
        for key in ("3", "3", "Enter") if kind == "items" else ("0",):
            page.keyboard.press(key)
    assert page.is_visible("#end")
    look()
    assert [f"{v['id']}: {v['nodes'][0]['html']}" for v in found] == []


def test_sensitive_images_are_blurred_until_clicked(browser: Any, run: RunFolder, tmp_path: Path) -> None:
    page, _ = opened(browser, page_of(run, tmp_path / "page.html", blur=True))
    start(page)
    assert "blurred" in str(page.get_attribute("#image", "class"))
    page.click("#reveal")
    assert "blurred" not in str(page.get_attribute("#image", "class"))


def test_the_data_of_a_page_is_json_that_holds_no_row(run: RunFolder, tmp_path: Path) -> None:
    text = page_of(run, tmp_path / "page.html").read_text()
    data = json.loads(text.split('id="data">')[1].split("</script>")[0])
    assert {*data["items"][0]} == {"item", "image", "sides"}
    assert {*data["items"][0]["sides"][0]} == {"label", "text"}

"""One rendered report for the whole room, its parsed page, and a Chromium to open it in."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opened import Opened
from page_tree import Element, parse
from run_builder import standard_run

from harness.reports.build import build_report
from harness.store.run_folder import RunFolder

CHROMIUM_ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("standard")
    return standard_run(folder / "run", folder / "pictures")


@pytest.fixture(scope="session")
def report(run: RunFolder) -> Path:
    """The report's folder."""
    return build_report([run], run.path / "report").parent


@pytest.fixture(scope="session")
def page(report: Path) -> Element:
    """The parsed index.html."""
    return parse((report / "index.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")  # its event loop keeps others from running in this process
def chromium() -> Iterator[Any]:
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any, report: Path) -> Iterator[Callable[..., Opened]]:
    """Opens a report, the room's by default, in a window of the given width."""
    contexts = []

    def opener(width: int = 1280, fragment: str = "", folder: Path = report, **options: Any) -> Opened:
        contexts.append(chromium.new_context(viewport={"width": width, "height": 900}, **options))
        return Opened.open(contexts[-1], folder, fragment)

    yield opener
    for context in contexts:
        context.close()

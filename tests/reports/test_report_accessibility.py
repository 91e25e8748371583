"""axe-core on the whole page, with everything that can be opened open, in both themes and on a phone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from opened import Opened

from harness.reports.build import build_report
from harness.store.run_folder import RunFolder

pytestmark = pytest.mark.browser
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")

REVEAL = """() => {
  document.querySelectorAll("details").forEach((one) => { one.open = true; });
  document.querySelectorAll("[data-variant], [data-group], tbody.published, .toggles").forEach((one) => {
    one.hidden = false;
  });
}"""


def violations(opened: Opened, rules: tuple[str, ...] = ()) -> list[str]:
    """What axe finds, by all of its rules or by some."""
    options = {"resultTypes": ["violations"]} | ({"runOnly": list(rules)} if rules else {})
    found = axe.Axe().run(opened.page, options=options).response["violations"]
    return [f"{v['id']}: {v['help']}: {node['html'][:200]}" for v in found for node in v["nodes"]]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (400, "light")])
def test_no_violation_with_everything_open(open_page: Callable[..., Opened], width: int, scheme: str) -> None:
    opened = open_page(width, color_scheme=scheme)
    opened.page.check("[data-valence]")
    opened.page.wait_for_selector("article .unpleasant")
    opened.page.evaluate(REVEAL)
    # The themes differ in colours alone.
    assert violations(opened, ("color-contrast",) if scheme == "dark" else ()) == []


def test_no_violation_as_opened_and_blurred(open_page: Callable[..., Opened], run: RunFolder, tmp_path: Path) -> None:
    assert violations(open_page(folder=build_report([run], tmp_path, blur=True).parent)) == []


def test_axe_would_find_one(open_page: Callable[..., Opened]) -> None:
    opened = open_page()
    opened.page.evaluate("document.querySelector('article img').removeAttribute('alt')")
    assert any(found.startswith("image-alt") for found in violations(opened))

"""Screenshots of the report for the documentation, taken in Chromium from a run on the embedded images.

    python scripts/screenshots.py runs/demo [--out docs/images]

Refuses runs on other data: their pictures and texts may not be passed on. Needs Debian's Chromium and playwright.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from harness.reports.build import build_report
from harness.store.run_folder import RunFolder
from harness.types import UserError

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--force-color-profile=srgb",
]
LARGEST = 500_000
"""Bytes of a picture; a larger one is reduced to 256 colours."""


@dataclass(frozen=True)
class Shot:
    """One picture: window in pixels, theme, the element at its top, and how many pixels are drawn for one."""

    name: str
    width: int
    height: int
    theme: str
    top: str
    scale: float = 1.0


SHOTS = (
    Shot("report-1280", 1280, 900, "light", "body"),
    Shot("report-400", 400, 1000, "light", "body", 1.5),
    Shot("report-dark", 1280, 900, "dark", "#demo-leaderboard"),
    Shot("report-emotions", 1920, 1000, "light", "#demo-against"),
    Shot("report-samples", 1280, 1000, "light", "#demo-samples"),
)


def check(run: RunFolder) -> None:
    """Refuse whatever is not the embedded illustration.

    Raises:
        UserError: the run has another task than `demo`.
    """
    names = [task["name"] for task in run.manifest()["tasks"]]
    if names != ["demo"]:
        raise UserError(f"{run.path}: expected a run on the task demo alone, got {', '.join(names)}")


def take(browser: Any, page_url: str, shot: Shot, out: Path) -> Path:
    """Take one picture."""
    size = {"width": shot.width, "height": shot.height}
    context = browser.new_context(
        viewport=size, color_scheme=shot.theme, device_scale_factor=shot.scale, reduced_motion="reduce"
    )
    page = context.new_page()
    page.goto(page_url)
    page.wait_for_selector("article.sample")
    page.eval_on_selector(shot.top, "one => one.scrollIntoView()")
    page.wait_for_timeout(500)
    target = out / f"{shot.name}.png"
    page.screenshot(path=str(target))
    context.close()
    return target


def slim(path: Path) -> None:
    """Compress; reduce to 256 colours where that is not enough."""
    with Image.open(path) as picture:
        whole = picture.convert("RGB")
    whole.save(path, optimize=True)
    if path.stat().st_size > LARGEST:
        whole.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> int:
    """Render the run in a folder that is thrown away and take every picture."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a scored run on the task demo")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "docs" / "images")
    arguments = parser.parse_args()
    run = RunFolder.open(arguments.run)
    check(run)
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page = build_report([run], Path(folder) / "report")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        for shot in SHOTS:
            path = take(browser, page.as_uri(), shot, arguments.out)
            slim(path)
            print(f"{path}  {path.stat().st_size / 1000:.0f} kB")
        browser.close()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"screenshots: {error}")

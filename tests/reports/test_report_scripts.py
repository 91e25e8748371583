"""The report's scripts and styles: linted, and without any way from text to code or to the network."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.reports.build import ASSETS

REPOSITORY = Path(__file__).parents[2]
SCRIPTS = sorted((REPOSITORY / "reports" / "assets").glob("*.js"))
SINKS = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|srcdoc|document\.write|\beval\b|\bFunction\(|\bimport\(|"
    r"\bfetch\(|XMLHttpRequest|WebSocket|sendBeacon|setTimeout\(\s*[\"'`]|createContextualFragment"
)
FLAWS = ("const left = 1;", "if (document.title == 1) document.title = unknownName;", "var old = 1; window.old = old;")


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Biome with the repository's rules."""
    biome = shutil.which("biome", path=Path(sys.executable).parent) or shutil.which("biome")
    if biome is None:
        pytest.skip("Biome is not installed: the dev extra brings it on Linux x86-64 only")
    command = [biome, "lint", "--error-on-warnings", "--colors=off", "."]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_every_script_is_shipped() -> None:
    assert {path.name for path in SCRIPTS} == {name for name in ASSETS if name.endswith(".js")}


@pytest.mark.slow
def test_scripts_and_styles_are_linted() -> None:
    done = lint(REPOSITORY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Checked {len(ASSETS) + 1} files" in done.stdout, done.stdout  # and its own configuration


@pytest.mark.slow
@pytest.mark.parametrize("flaw", FLAWS)
def test_the_linter_sees_flaws(tmp_path: Path, flaw: str) -> None:
    shutil.copy(REPOSITORY / "biome.json", tmp_path)
    folder = tmp_path / "reports" / "assets"
    folder.mkdir(parents=True)
    (folder / "flawed.js").write_text(f'"use strict";\n(() => {{ {flaw} }})();\n', "utf-8")
    assert lint(tmp_path).returncode == 1


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_no_text_becomes_code(script: Path) -> None:
    text = script.read_text("utf-8")
    assert text.startswith('"use strict";\n')
    assert SINKS.findall(text) == []

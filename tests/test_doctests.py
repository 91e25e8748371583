"""Every `>>>` in the code and in README.md is run."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
ROOMS = ("adapters", "harness", "reports", "sevlm", "tasks")


def modules() -> list[str]:
    """Names of the modules that hold an example."""
    names = set()
    for room in ROOMS:
        for path in sorted((REPOSITORY / room).rglob("*.py")):
            if ">>> " in path.read_text(encoding="utf-8"):
                dotted = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
                names.add(dotted if room in ("harness", "sevlm") else f"harness.{dotted}")
    return sorted(names)


@pytest.mark.parametrize("name", modules())
def test_the_examples_of_a_module(name: str) -> None:
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried
    assert not failed


@pytest.mark.slow
def test_the_examples_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("harness.tasks.metrics.java.find_java", lambda: None)  # METEOR has tests of its own
    readme = REPOSITORY / "README.md"
    failed, tried = doctest.testfile(str(readme), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert tried
    assert not failed

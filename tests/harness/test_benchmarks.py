"""Benchmarks run rarely, so what they import is checked here: a name that moved breaks them unseen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def test_every_benchmark_finds_what_it_imports() -> None:
    names = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py"))
    assert names
    code = f"import importlib\nfor name in {names}:\n    importlib.import_module(name)"
    folders = os.pathsep.join(map(str, (ROOT / "benchmarks", ROOT / "tests")))
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": folders}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]

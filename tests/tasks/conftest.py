"""Tiny made-up data for the readers: pictures of one colour, sentences nobody wrote."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from harness.tasks.loading import builtin_cards, load_task
from harness.types import Task

REPOSITORY = Path(__file__).parents[2]
EMOTIONS = load_task(builtin_cards()["artemis"]).emotions


def draw_picture(path: Path, colour: str = "teal") -> Path:
    """Write a tiny picture of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 12), colour).save(path)
    return path


@pytest.fixture(scope="session")
def draw() -> Callable[..., Path]:
    """`draw(path, colour)` writes a tiny picture and returns its path."""
    return draw_picture


@pytest.fixture(scope="session")
def golden_a() -> Path:
    """Part of the made-up fixture written by the official SEVLM code."""
    return Path(__file__).parent / "fixtures" / "sevlm_tiny_A"


@pytest.fixture(scope="session")
def real_artemis() -> Path:
    """Real ArtEmis rows and pictures, for development only."""
    path = Path(os.environ.get("HARNESS_DEV_DATA", REPOSITORY.parent / "shared" / "data")) / "artemis"
    if not path.is_dir():
        pytest.skip(f"{path} is absent (set HARNESS_DEV_DATA)")
    return path


@pytest.fixture
def examples_task(tmp_path: Path) -> Callable[..., Task]:
    """Build a `jsonl` task whose examples file holds the given lines; a mapping is written as JSON."""

    def build(*lines: Mapping[str, Any] | str, emotions: tuple[str, ...] = EMOTIONS) -> Task:
        draw_picture(tmp_path / "a.png")
        text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
        (tmp_path / "examples.jsonl").write_text(text + "\n", encoding="utf-8")
        card = tmp_path / "card.yaml"
        return Task("mine", "jsonl", emotions, options={"examples": "examples.jsonl"}, source=card)

    return build

"""Writing small made-up files: tables, pictures, and rows in the layout of ArtEmis's release."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from harness.tasks.loading import builtin_cards, load_task

NINE = load_task(builtin_cards()["artemis"]).emotions
EIGHT = NINE[:8]


class Layout(NamedTuple):
    """Files to prepare a task from, the number of examples that come of it, and options its card needs."""

    annotations: Path
    images: Path
    examples: int
    options: Mapping[str, Any] = {}


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def table(rows: Sequence[Sequence[object]], end: str = "\n", delimiter: str = ",") -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator=end, delimiter=delimiter).writerows(rows)
    return out.getvalue()


def paint(folder: Path, names: Sequence[str]) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 12), ("teal", "maroon", "gold")[number % 3]).save(folder / name)
    return folder


PAINTINGS = [f"{'Cubism' if i % 2 else 'Rococo'}/ann-other_picture-{i}" for i in range(14)]


def said(i: int, k: int) -> str:
    return f"the grey sky number {i} makes me think of home {k}"


def v1_rows(paintings: Sequence[str], people: int = 3) -> list[tuple[str, str, str, str, int]]:
    return [
        (*name.split("/"), NINE[(i + k // 2) % 9], said(i, k), people)  # type: ignore[misc]
        for i, name in enumerate(paintings)
        for k in range(people)
    ]


HEADER = ("art_style", "painting", "emotion", "utterance", "repetition")

"""Files that are there whole or not at all, whenever a process is killed or a disk fills up."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


def atomic_write(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary neighbour of `path`, then rename it: readers see the old or the new content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, text: str | Iterable[str]) -> None:
    """Write a whole UTF-8 file, given at once or in pieces; lone surrogates are escaped."""

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            file.writelines([text] if isinstance(text, str) else text)

    atomic_write(path, write)


def to_json(value: Any, *, indent: int | None = 1) -> str:
    """Serialise strictly (NaN and infinities are refused) with stable, readable formatting."""
    return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False, sort_keys=False) + "\n"

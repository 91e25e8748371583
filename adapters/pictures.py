"""Decoding many pictures at once, with each failure kept beside its picture."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from harness.types import ImageError, open_image

if TYPE_CHECKING:
    from PIL.Image import Image

DECODING_THREADS = 4
"""Pillow releases the interpreter lock while it decodes, so a few threads hide the reading behind the model."""


def open_all(paths: Sequence[Path]) -> list[Image | ImageError]:
    """Each picture as upright RGB, or the error that says why it cannot be had, in order."""
    with ThreadPoolExecutor(DECODING_THREADS) as threads:
        return list(threads.map(_open, paths))


def _open(path: Path) -> Image | ImageError:
    try:
        return open_image(path)
    except ImageError as error:
        return error

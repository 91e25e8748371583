"""Whether picture files can be decoded, checked as cheaply as the format allows."""

from __future__ import annotations

from pathlib import Path

from harness.images import opened
from harness.types import ImageError


def picture_problem(path: Path) -> str | None:
    """Why `harness.types.open_image` would refuse this file, or None when it decodes.

    The whole file is decoded, so that truncation shows; a JPEG is decoded at an eighth of its size.
    """
    try:
        with opened(path) as picture:
            picture.draft("RGB", (picture.width // 8, picture.height // 8))
            picture.load()
    except ImageError as error:
        return str(error)
    return None

"""Whether picture files can be decoded, checked as cheaply as the format allows."""

from __future__ import annotations

from pathlib import Path

from harness.types import MAX_IMAGE_PIXELS


def picture_problem(path: Path) -> str | None:
    """Why `harness.types.open_image` would refuse this file, or None when it decodes.

    The whole file is decoded, so that truncation shows; a JPEG is decoded at an eighth of its size.
    """
    from PIL import Image

    try:
        with Image.open(path) as picture:
            width, height = picture.size
            if width * height > MAX_IMAGE_PIXELS:
                return f"{width}x{height} pixels"
            picture.draft("RGB", (width // 8, height // 8))
            picture.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return f"{type(error).__name__}: {error}"
    return None

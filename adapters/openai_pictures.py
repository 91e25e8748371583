"""A painting as a data URL: the file itself where it already fits, else a smaller JPEG."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

from harness.types import open_image

if TYPE_CHECKING:
    from PIL.Image import Image

JPEG_QUALITY = 95
MEDIA_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
"""File formats that vision endpoints take."""
ORIENTATION_TAG = 0x0112


def data_url(path: Path, longest_side: int) -> str:
    """Read, check and encode a picture.

    Args:
        path: the picture file.
        longest_side: in pixels; larger pictures are scaled down to it.

    Raises:
        ImageError: the picture cannot be decoded; it is never sent unseen.
    """
    upright = open_image(path)
    media_type = sendable_as_it_is(path, longest_side)
    content = path.read_bytes() if media_type else smaller_jpeg(upright, longest_side)
    return f"data:{media_type or 'image/jpeg'};base64,{base64.b64encode(content).decode('ascii')}"


def sendable_as_it_is(path: Path, longest_side: int) -> str | None:
    """The media type of a file that any endpoint shows as we would: known format, plain colours, upright, one frame."""
    from PIL import Image as pil

    with pil.open(path) as file:
        plain = file.mode in ("RGB", "L") and getattr(file, "n_frames", 1) == 1
        upright = file.getexif().get(ORIENTATION_TAG, 1) == 1
        fits = max(file.size) <= longest_side
        return MEDIA_TYPES.get(str(file.format)) if plain and upright and fits else None


def smaller_jpeg(picture: Image, longest_side: int) -> bytes:
    """JPEG bytes of a picture scaled down (never up) to the given longest side."""
    from PIL.Image import Resampling

    picture.thumbnail((longest_side, longest_side), Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()

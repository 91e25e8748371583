"""A painting as a data URL: the file itself where it already fits, else a smaller JPEG."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

from harness.pictures import ORIENTATION_TAG, opened
from harness.types import open_image

if TYPE_CHECKING:
    from PIL.Image import Image

JPEG_QUALITY = 95
MEDIA_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
"""File formats that vision endpoints take."""


def data_url(path: Path, longest_side: int) -> str:
    """Read, check and encode a picture.

    Args:
        path: the picture file.
        longest_side: in pixels; larger pictures are scaled down to it.

    Raises:
        ImageError: the picture cannot be decoded; it is never sent unseen.
    """
    found = sendable_as_it_is(path, longest_side)
    content, media_type = found or (smaller_jpeg(open_image(path), longest_side), "image/jpeg")
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def sendable_as_it_is(path: Path, longest_side: int) -> tuple[bytes, str] | None:
    """Content and media type of a file that any endpoint shows as we would, else None.

    Such a file is of a known format, in plain colours, upright, and has one frame.
    A JPEG file is whole when its header is sound and its last marker is there: what else may be wrong, decoders do not
    report either. Others are decoded to find out.

    Raises:
        ImageError: the picture cannot be decoded.
    """
    with opened(path) as file:
        media_type = MEDIA_TYPES.get(str(file.format))
        if media_type is None or file.mode not in ("RGB", "L") or max(file.size) > longest_side:
            return None
        if getattr(file, "n_frames", 1) != 1 or file.getexif().get(ORIENTATION_TAG, 1) != 1:
            return None
        content = path.read_bytes()
        if not ends_as_jpeg(content):
            file.draft(None, (1, 1))
            file.load()
        return content, media_type


def ends_as_jpeg(content: bytes) -> bool:
    """Whether a file is a JPEG up to its end-of-image marker (padding may follow)."""
    return content.startswith(b"\xff\xd8") and content.rstrip(b"\0").endswith(b"\xff\xd9")


def smaller_jpeg(picture: Image, longest_side: int) -> bytes:
    """JPEG bytes of a picture scaled down (never up) to the given longest side."""
    from PIL.Image import Resampling

    picture.thumbnail((longest_side, longest_side), Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()

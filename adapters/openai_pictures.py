"""A painting as a data URL: the file itself where it already fits, else a smaller JPEG."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

from harness.types import MAX_IMAGE_PIXELS, ImageError, open_image

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
    content = _content(path)
    media_type = sendable_as_it_is(content, longest_side)
    if media_type is None:
        content = smaller_jpeg(open_image(path), longest_side)
    return f"data:{media_type or 'image/jpeg'};base64,{base64.b64encode(content).decode('ascii')}"


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path.name}: cannot be read ({type(error).__name__})") from None


def sendable_as_it_is(content: bytes, longest_side: int) -> str | None:
    """The media type of a file that any endpoint shows as we would: known format, plain colours, upright, one frame.

    None also for a picture that cannot be decoded to its end. A JPEG file is whole when its header is sound and its
    last marker is there: what else may be wrong, decoders do not report either. Others are decoded to find out.
    """
    from PIL import Image as pil

    try:
        with pil.open(io.BytesIO(content)) as file:
            plain = file.mode in ("RGB", "L") and getattr(file, "n_frames", 1) == 1
            upright = file.getexif().get(ORIENTATION_TAG, 1) == 1
            fits = max(file.size) <= longest_side and file.size[0] * file.size[1] <= MAX_IMAGE_PIXELS
            media_type = MEDIA_TYPES.get(str(file.format)) if plain and upright and fits else None
            if media_type is not None and not ends_as_jpeg(content):
                file.draft(None, (1, 1))
                file.load()
            return media_type
    except (OSError, SyntaxError, ValueError, pil.DecompressionBombError):
        return None


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

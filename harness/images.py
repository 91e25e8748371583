"""Opening image files that nobody vouches for: known formats only, and never more than the limits allow.

Every image that the harness decodes passes `opened`: those shown to models, sent to endpoints, checked by readers and
copied into reports. What cannot be decoded is an `ImageError`, whatever the decoder raised.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING

from harness.errors import ImageError, UserError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS_VARIABLE = "HARNESS_MAX_PIXELS"
"""Environment variable with the most pixels of an image, which child processes inherit."""
MAX_PIXELS = 100_000_000
BYTES_PER_PIXEL = 4
"""A file may have this many bytes for each pixel that is allowed: more is no image in any usual form."""
LONGEST_SHAPE = 200
"""Times that one side may be longer than the other; models scale the shorter side up, which multiplies the longer."""
PLUGINS = {
    "JPEG": "JpegImagePlugin",
    "PNG": "PngImagePlugin",
    "WEBP": "WebPImagePlugin",
    "GIF": "GifImagePlugin",
    "BMP": "BmpImagePlugin",
    "TIFF": "TiffImagePlugin",
    "PPM": "PpmImagePlugin",
    "AVIF": "AvifImagePlugin",
}
"""Pillow's decoders that are tried, by content and not by suffix; others start programs or are seldom looked after."""
SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
ORIENTATION_TAG = 0x0112
TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
"""EXIF orientation -> `PIL.Image.Transpose`."""


def max_pixels() -> int:
    """The most pixels that an image may have: `$HARNESS_MAX_PIXELS`, else 100 million.

    Raises:
        UserError: the variable holds no positive whole number.
    """
    given = os.environ.get(MAX_PIXELS_VARIABLE)
    if given is None:
        return MAX_PIXELS
    if not (given.isascii() and given.isdecimal() and int(given) > 0):
        raise UserError(f"{MAX_PIXELS_VARIABLE}={given!r}: expected a positive whole number, such as {MAX_PIXELS}")
    return int(given)


def open_image(path: Path) -> Image:
    """The first frame of an image file as RGB, upright (EXIF orientation applied).

    Sixteen bits of grey become eight by dropping the lower ones (Pillow would make all but the darkest white).

    Raises:
        ImageError: missing, not a regular file, of no known format, truncated, beyond the limits, or with brightness
            on no known scale (32 bits per channel).
    """
    from PIL import Image as pil

    with opened(path) as image:
        orientation = image.getexif().get(ORIENTATION_TAG, 1)
        # Turned after it is RGB and the file is closed, so that no more than two copies are in memory.
        if image.mode in SIXTEEN_BITS:
            import numpy as np

            high_bytes = np.asarray(image.convert("I")) >> 8  # (H, W) int32, 0..255
            plain = pil.fromarray(high_bytes.astype(np.uint8)).convert("RGB")
        else:
            plain = image.convert("RGB")
    turn = TURNS.get(orientation)
    return plain if turn is None else plain.transpose(pil.Transpose(turn))


@contextmanager
def opened(path: Path) -> Iterator[Image]:
    """An image whose header was read and whose size is allowed; pixels are decoded when asked for.

    Raises:
        ImageError: it cannot be opened, or whatever is done with it in the `with` block cannot be done.
    """
    from PIL import Image as pil

    limit = max_pixels()
    if pil.MAX_IMAGE_PIXELS is not None and limit > pil.MAX_IMAGE_PIXELS:
        pil.MAX_IMAGE_PIXELS = limit  # Pillow's own limit warns; ours refuses
    try:
        found = path.stat()
        if not S_ISREG(found.st_mode):  # opening it may block
            raise ImageError(f"{path.name}: not a regular file")
        if found.st_size > BYTES_PER_PIXEL * limit:
            raise ImageError(f"{path.name}: {found.st_size} bytes exceed the limit of {BYTES_PER_PIXEL * limit}")
        with pil.open(path, formats=_formats()) as image:
            _check_shape(path, image.size, limit)
            if image.mode in ("I", "F"):
                raise ImageError(f"{path.name}: 32 bits per pixel have no known scale of brightness")
            yield image
    except (ImageError, UserError):
        raise
    except FileNotFoundError:
        raise ImageError(f"{path.name}: no such image file") from None
    except pil.DecompressionBombError:
        raise ImageError(f"{path.name}: {_over(limit)}") from None
    except Exception as error:  # decoders raise nearly every type there is, depending on which byte is wrong
        raise ImageError(f"{path.name}: cannot be decoded ({type(error).__name__})") from error


@cache
def _formats() -> tuple[str, ...]:
    """Those of `PLUGINS` that this Pillow has; of its own, `Image.open` would load all forty."""
    from PIL import Image as pil

    for plugin in PLUGINS.values():
        with suppress(ImportError):  # an older Pillow
            import_module(f"PIL.{plugin}")
    return tuple(sorted(PLUGINS.keys() & pil.OPEN.keys()))


def _check_shape(path: Path, size: tuple[int, int], limit: int) -> None:
    width, height = size
    if width * height > limit:
        raise ImageError(f"{path.name}: {width}x{height} {_over(limit)}")
    if max(size) > LONGEST_SHAPE * min(size):
        raise ImageError(f"{path.name}: {width}x{height} pixels: one side is over {LONGEST_SHAPE} times the other")


def _over(limit: int) -> str:
    return f"pixels exceed the limit of {limit}; if you trust it, set {MAX_PIXELS_VARIABLE}"

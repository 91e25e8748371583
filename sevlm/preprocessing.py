"""Pictures to pixel tensors with PIL and torch alone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from sevlm.errors import SEVLMError

if TYPE_CHECKING:
    from sevlm.config import ImageResize, SEVLMConfig

MAX_PIXELS = 100_000_000
"""Larger pictures are refused: a small file can unpack to more than the memory holds. `$SEVLM_MAX_PIXELS` overrides."""
LONGEST_SHAPE = 200
"""Times that one side may be longer than the other: `crop` scales the shorter side up, which multiplies the longer."""
FORMATS = frozenset({"JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF"})
"""Pillow's decoders that are tried; others start programs or are seldom looked after."""


def open_picture(path: Path) -> Image.Image:
    """Decode the first frame of a picture file as RGB, upright.

    Sixteen bits of grey become eight by dropping the lower ones (Pillow would make all but the darkest white).

    Raises:
        SEVLMError: missing, not a regular file, truncated, not a picture, larger than `MAX_PIXELS` or than four bytes
            for each of them, longer than `LONGEST_SHAPE`, or of 32 bits per channel.
    """
    max_pixels = _max_pixels()
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels  # Pillow's own limit warns; ours refuses
    try:
        if not path.is_file() or path.stat().st_size > 4 * max_pixels:
            raise SEVLMError(f"{path.name}: no picture file, or one of more than {4 * max_pixels} bytes")
        Image.init()
        with Image.open(path, formats=sorted(FORMATS & set(Image.OPEN))) as picture:
            width, height = picture.size
            if width * height > max_pixels:
                raise SEVLMError(f"{path.name}: {width}x{height} pixels exceed {max_pixels}")
            if max(width, height) > LONGEST_SHAPE * min(width, height):
                raise SEVLMError(f"{path.name}: {width}x{height}: one side is over {LONGEST_SHAPE} times the other")
            return ImageOps.exif_transpose(_eight_bits(picture, path.name)).convert("RGB")
    except SEVLMError:
        raise
    except Exception as error:  # decoders raise nearly every type there is, depending on which byte is wrong
        raise SEVLMError(f"{path.name}: cannot be read as a picture ({type(error).__name__})") from error


def _max_pixels() -> int:
    given = os.environ.get("SEVLM_MAX_PIXELS", str(MAX_PIXELS))
    if not (given.isascii() and given.isdecimal() and int(given) > 0):
        raise SEVLMError(f"SEVLM_MAX_PIXELS={given!r}: expected a positive whole number, such as {MAX_PIXELS}")
    return int(given)


def _eight_bits(picture: Image.Image, name: str) -> Image.Image:
    if picture.mode in ("I", "F"):
        raise SEVLMError(f"{name}: 32 bits per pixel have no known scale of brightness")
    if not picture.mode.startswith("I;16"):
        return picture
    return Image.fromarray((np.asarray(picture.convert("I")) >> 8).astype(np.uint8))


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the input of an image encoder.

    Attributes:
        size: height and width of the result in pixels.
        mean, std: per channel (red, green, blue), for values in 0..1.
        resize: `squash` gives a square whatever the aspect ratio, bilinear, as the published SEVLM does; `crop`
            brings the shorter side to `size`, bicubic, and cuts the centre, as CLIP does.
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: ImageResize

    @classmethod
    def from_config(cls, config: SEVLMConfig) -> Preprocessing:
        """The preprocessing that a model was trained with."""
        return cls(config.image_size, config.image_mean, config.image_std, config.image_resize)

    def __call__(self, image: Image.Image) -> Tensor:
        """Picture of any size and mode -> (3, size, size) float32."""
        picture = image.convert("RGB")
        square = self._squash(picture) if self.resize == "squash" else self._crop(picture)
        values = torch.from_numpy(np.array(square, dtype=np.float32) / 255.0)  # (H, W, 3)
        normalised = (values - torch.tensor(self.mean)) / torch.tensor(self.std)
        return normalised.permute(2, 0, 1).contiguous()

    def _squash(self, image: Image.Image) -> Image.Image:
        return image.resize((self.size, self.size), Image.Resampling.BILINEAR)

    def _crop(self, image: Image.Image) -> Image.Image:
        """The longer side is rounded down and the offset to even, as torchvision does for CLIP."""
        width, height = image.size
        short = min(width, height)
        scaled = (self.size * width // short, self.size * height // short)
        left, top = (round((side - self.size) / 2) for side in scaled)
        box = (left, top, left + self.size, top + self.size)
        return image.resize(scaled, Image.Resampling.BICUBIC).crop(box)

"""Pictures to pixel tensors with PIL and torch alone."""

from __future__ import annotations

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
"""Larger pictures are refused: a small file can unpack to more than the memory holds."""


def open_picture(path: Path) -> Image.Image:
    """Decode a picture file as RGB, upright.

    Raises:
        SEVLMError: missing, truncated, not a picture, or more than `MAX_PIXELS`.
    """
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise SEVLMError(f"{path.name}: {width}x{height} pixels exceed {MAX_PIXELS}")
            upright: Image.Image = ImageOps.exif_transpose(picture)
            return upright.convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise SEVLMError(f"{path.name}: cannot be read as a picture ({type(error).__name__})") from error


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

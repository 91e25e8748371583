"""Pictures made on the spot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from adapter_samples import Picture
from PIL import Image

os.environ["HF_HUB_OFFLINE"] = "1"  # read when transformers is first imported, which is before any fixture runs


@pytest.fixture
def picture(tmp_path: Path) -> Picture:
    """Write a picture of one colour: `picture("red", name="a.png", size=(40, 30))`."""

    def write(colour: object = "red", name: str = "picture.png", size: tuple[int, int] = (40, 30)) -> Path:
        path = tmp_path / name
        Image.new("RGB", size, colour).save(path)  # type: ignore[arg-type]
        return path

    return write


@pytest.fixture
def corrupt(tmp_path: Path) -> Path:
    path = tmp_path / "corrupt.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    return path

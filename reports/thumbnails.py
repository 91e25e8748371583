"""Small JPEG copies of the images, one per distinct file, under a total size; or links to the originals."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote_from_bytes

from tqdm import tqdm

from harness.images import opened
from harness.types import ImageError, open_image

TOTAL_BYTES = 60_000_000
MANY = 4000
EDGE, EDGE_OF_MANY = 240, 168
QUALITY = 72


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """An image in the report: a file name within `thumbs/`, or a link to the original, or the reason for neither."""

    name: str | None
    size: tuple[int, int] | None
    reason: str = ""
    link: str | None = None

    @property
    def url(self) -> str | None:
        """Where the page finds the image, relative to itself."""
        return f"thumbs/{self.name}" if self.name else self.link


def make_thumbnails(images: Iterable[Path], folder: Path, *, total_bytes: int = TOTAL_BYTES) -> dict[Path, Thumbnail]:
    """Write a thumbnail of each image into `folder`, reusing those that are there from an earlier rendering.

    Args:
        images: image files; equal contents share one thumbnail.
        folder: created when absent.
        total_bytes: images that would exceed this sum, in order, are left out with that reason.
    """
    paths = list(dict.fromkeys(images))
    edge = EDGE if len(paths) <= MANY else EDGE_OF_MANY
    folder.mkdir(parents=True, exist_ok=True)
    # Pillow releases the interpreter lock while it decodes and scales.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = list(
            tqdm(
                pool.map(lambda path: _thumbnail(path, folder, edge), paths),
                total=len(paths),
                desc="thumbnails",
                unit="image",
                disable=None,
                leave=False,
            )
        )
    return _within(dict(zip(paths, made, strict=True)), folder, total_bytes)


def _thumbnail(path: Path, folder: Path, edge: int) -> Thumbnail:
    try:
        with opened(path), path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:24]
        target = folder / f"{digest}-{edge}.jpg"
        if not target.exists():
            _write(path, target, edge)
        return Thumbnail(target.name, _size(target))
    except ImageError as error:
        return Thumbnail(None, None, str(error))


def _write(path: Path, target: Path, edge: int) -> None:
    from PIL import Image

    image = open_image(path)
    image.thumbnail((edge, edge), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    image.save(data, "JPEG", quality=QUALITY, optimize=True)
    # not synced to disk, unlike results: a thumbnail that a crash loses is made again
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{hash(path) & 0xFFFF}.tmp")
    temporary.write_bytes(data.getvalue())
    temporary.replace(target)


def _size(target: Path) -> tuple[int, int]:
    from PIL import Image

    with Image.open(target) as image:
        return image.size


def _within(made: dict[Path, Thumbnail], folder: Path, total_bytes: int) -> dict[Path, Thumbnail]:
    kept: dict[Path, Thumbnail] = {}
    names: set[str] = set()
    used = 0
    for path, thumbnail in made.items():
        if thumbnail.name is not None and thumbnail.name not in names:
            used += (folder / thumbnail.name).stat().st_size
            if used > total_bytes:
                reason = f"left out: the report's images are limited to {total_bytes / 1e6:.0f} MB"
                kept[path] = Thumbnail(None, None, reason)
                continue
            names.add(thumbnail.name)
        kept[path] = thumbnail
    return kept


def link_images(images: Iterable[Path], out: Path) -> dict[Path, Thumbnail]:
    """Links from the page in `out` to the original image files: nothing is copied, and nothing may be moved."""
    return {path: _link(path, out.resolve()) for path in dict.fromkeys(images)}


def _link(path: Path, out: Path) -> Thumbnail:
    try:
        with opened(path) as image:
            scale = EDGE / max(EDGE, *image.size)
            size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    except ImageError as error:
        return Thumbnail(None, None, str(error))
    relative = os.fsencode(os.path.relpath(path.resolve(), out)).replace(os.sep.encode(), b"/")
    return Thumbnail(None, size, link=quote_from_bytes(relative, safe="/"))

"""Decoding many images at once, with each failure kept beside its image."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from harness.images import open_image
from harness.types import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

DECODING_THREADS = 4
"""Pillow releases the interpreter lock while it decodes, so a few threads hide the reading behind the model."""


def open_all(paths: Sequence[Path]) -> list[Image | ImageError]:
    """Each image as upright RGB, or the error that says why it could not be read, in order."""
    with ThreadPoolExecutor(DECODING_THREADS) as threads:
        return list(threads.map(_open, paths))


def _open(path: Path) -> Image | ImageError:
    try:
        return open_image(path)
    except ImageError as error:
        return error


class ImagePrefetcher:
    """Decodes the images of the next batch while a model answers the present one."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(DECODING_THREADS, thread_name_prefix="images")
        self._started: dict[Path, Future[Image | ImageError]] = {}

    def start(self, paths: Sequence[Path]) -> None:
        """Begin with these; an image that was begun before is not decoded twice."""
        for path in paths:
            if path not in self._started:
                self._started[path] = self._threads.submit(_open, path)

    def take(self, paths: Sequence[Path]) -> list[Image | ImageError]:
        """Each image as upright RGB, or the error that says why it could not be read, in order."""
        self.start(paths)
        opened = [self._started[path].result() for path in paths]
        for path in set(paths):
            del self._started[path]
        return opened

    def close(self) -> None:
        """Forget all, and end the threads once they are idle; `start` may be called again."""
        self._started.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._threads = ThreadPoolExecutor(DECODING_THREADS, thread_name_prefix="images")

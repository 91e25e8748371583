"""What models on this machine share: images decoded ahead of them, and statements told apart by their scores."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from harness.images import open_image
from harness.types import Answer, ImageError, Item, Usage

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


# -------------------------------------------------------------------------------------------------------- statements

GREY = (128, 128, 128)
"""What an image without content looks like; how much likelier the image makes a text is measured against it."""


def answer_by_scores(item: Item, scores: Sequence[float], usage: Usage) -> Answer:
    """The label of the best statement; of a single one, `true` if the image speaks for it (a score above 0).

    Args:
        item: its `statements` are what was scored, its `labels` what is answered: one for each, or true and false.
        scores: how much the image speaks for each statement.
        usage: what it cost.
    """
    best = max(range(len(scores)), key=lambda i: scores[i])
    label = item.labels[best] if len(scores) > 1 else item.labels[0 if scores[0] > 0 else 1]
    raw = ", ".join(f"{score:+.4f}" for score in scores)
    return Answer(label, "", raw=f"scores of the statements: {raw}", usage=usage)

"""What models on this machine share: images decoded ahead, batches that fit into memory, and scores of statements."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from harness.images import open_image
from harness.types import Answer, Failed, ImageError, Item, Outcome, Usage

if TYPE_CHECKING:
    from PIL.Image import Image

S = TypeVar("S")
T = TypeVar("T")

DECODING_THREADS = max(4, os.cpu_count() or 1)
"""Pillow releases the interpreter lock while it decodes, so threads hide the reading behind the model."""


def open_all(paths: Sequence[Path]) -> list[Image | ImageError]:
    """Each image as upright RGB, or the error that says why it could not be read, in order."""
    with ThreadPoolExecutor(DECODING_THREADS) as threads:
        return list(threads.map(_open, paths))


def _open(path: Path) -> Image | ImageError:
    try:
        return open_image(path)
    except ImageError as error:
        return error


class ImagePrefetcher(Generic[T]):
    """Decodes the images of the next batch while a model answers the present one.

    Args:
        prepare: what the model wants of an image that is upright RGB; done ahead, too.
    """

    def __init__(self, prepare: Callable[[Image], T]) -> None:
        self._prepare = prepare
        self._threads = ThreadPoolExecutor(DECODING_THREADS, thread_name_prefix="images")
        self._started: dict[Path, Future[T | ImageError]] = {}

    def start(self, paths: Sequence[Path]) -> None:
        """Begin with these; an image that was begun before is not decoded twice."""
        for path in paths:
            if path not in self._started:
                self._started[path] = self._threads.submit(self._read, path)

    def _read(self, path: Path) -> T | ImageError:
        image = _open(path)
        return image if isinstance(image, ImageError) else self._prepare(image)

    def take(self, paths: Sequence[Path]) -> list[T | ImageError]:
        """Each image, prepared, or the error that says why it could not be read, in order."""
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


class FittingBatches:
    """Batches that fit into the GPU's memory: one that does not is halved, and those that follow are no larger.

    Attributes:
        largest: images at once; None for as many as are given.
    """

    def __init__(self) -> None:
        self.largest: int | None = None

    def answers(self, shown: Sequence[S], ask: Callable[[Sequence[S]], list[Outcome]]) -> list[Outcome]:
        """What `ask` answers, in order; a single image that does not fit fails alone."""
        import torch

        outcomes: list[Outcome] = []
        while len(outcomes) < len(shown):
            start = len(outcomes)
            batch = shown[start : start + (self.largest or len(shown))]
            try:
                outcomes += ask(batch)
                continue
            except torch.OutOfMemoryError as error:
                message = str(error).split(". ", 1)[0]
            torch.cuda.empty_cache()  # outside the handler, whose traceback keeps the tensors alive
            if len(batch) == 1:
                outcomes.append(Failed("OutOfMemory", f"one image does not fit into memory: {message}"))
            else:
                self.largest = len(batch) // 2
        return outcomes


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

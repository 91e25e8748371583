"""A loaded local model and what it answers, in this process or (`harness.infer.ray`) on a cluster."""

from __future__ import annotations

import importlib.util
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, get_args

from harness.adapters.base import LocalAdapter
from harness.environment import gpu_name, peak_gpu_memory_gb, reset_peak_gpu_memory
from harness.types import Example, Failed, Item, Outcome, UserError, with_usage

Executor = Literal["local", "ray"]
EXECUTORS: tuple[Executor, ...] = get_args(Executor)
T = TypeVar("T")
AUTO = 0
"""As a batch size: found while answering."""


def check_executor(name: str) -> None:
    """Check that there is such an executor, and that it can be used here.

    Raises:
        UserError: there is not, or its package is missing.
    """
    if name not in EXECUTORS:
        raise UserError(f"--executor {name}: expected one of {', '.join(EXECUTORS)}")
    if name == "ray" and importlib.util.find_spec("ray") is None:
        raise UserError("--executor ray needs the package ray; type: pip install 'sevlm-harness[ray]'")


class Asked(NamedTuple):
    """One question: an item, and its example if the model may see references."""

    item: Item
    example: Example | None = None


@dataclass(frozen=True)
class ModelInfo:
    """Known only once a model is loaded.

    Attributes:
        parameters, observed, cache_key: see the methods of `Adapter`.
        peak_memory_gb: highest memory allocated on a GPU since loading began; None without a GPU.
        gpu: its name, if the model may use one.
        placement: how many workers it had on a cluster, for the manifest.
    """

    parameters: int | None
    observed: Mapping[str, Any]
    cache_key: Mapping[str, Any] | None
    peak_memory_gb: float | None = None
    gpu: str | None = None
    placement: Mapping[str, Any] | None = None


class Model(Protocol):
    """A loaded local model."""

    def answers(self, asked: Iterable[Asked], batch_size: int) -> Iterator[tuple[Item, Outcome]]:
        """Exactly one outcome per item, in any order; `asked` is read as it is worked off; `AUTO` sizes batches itself.

        Raises:
            UserError: the adapter broke its contract, or says that it cannot work at all.
        """

    def info(self) -> ModelInfo:
        """What is known by now."""

    def close(self) -> None:
        """Free what the model took."""


class InProcessModel:
    """An adapter in this process.

    Args:
        adapter: as built; it is loaded here.
        training: examples for `fit`, if the adapter needs some.
        longest_prompt: of the run, for the checks that the adapter makes while it loads.

    Raises:
        UserError: it cannot be loaded.
    """

    def __init__(self, adapter: LocalAdapter, training: Sequence[Example] | None, longest_prompt: str = "") -> None:
        reset_peak_gpu_memory()
        self.adapter = adapter
        self._growth = BatchGrowth()
        adapter.longest_prompt = longest_prompt
        if training is not None:
            adapter.fit(training)
        adapter.load()

    def answers(self, asked: Iterable[Asked], batch_size: int) -> Iterator[tuple[Item, Outcome]]:
        """One outcome per item, in order; the images of the next batch are announced before this one is answered."""
        sizes = (lambda: self._growth.size) if batch_size == AUTO else (lambda: batch_size)
        announced = itertools.chain(batches(asked, sizes), [[]])
        for batch, following in itertools.pairwise(announced):
            items = [one.item for one in batch]
            started = time.monotonic()
            if "references" in self.adapter.needs:
                self.adapter.attach([one.example for one in batch if one.example is not None])
            self.adapter.prefetch([*items, *(one.item for one in following)])
            outcomes = predict(self.adapter, items)
            self._growth.note(len(items), time.monotonic() - started)
            yield from zip(items, outcomes, strict=True)

    def info(self) -> ModelInfo:
        """Size, memory, and what the adapter learned."""
        adapter = self.adapter
        memory, gpu = peak_gpu_memory_gb(), gpu_name()
        return ModelInfo(adapter.parameters(), adapter.runtime_info(), adapter.cache_key(), memory, gpu)

    def close(self) -> None:
        """Close the adapter."""
        self.adapter.close()


def batches(things: Iterable[T], size: int | Callable[[], int]) -> Iterator[list[T]]:
    """Consecutive pieces of at most `size`, which may be asked for anew before each."""
    remaining = iter(things)
    while piece := list(itertools.islice(remaining, size() if callable(size) else size)):
        yield piece


class BatchGrowth:
    """The batch size of `--batch-size auto`: doubled for as long as that answers at least a tenth more images a second.

    A model that runs out of memory answers a batch in parts, which is no quicker, so that memory ends the growth too.

    >>> growth = BatchGrowth()
    >>> for images, seconds in [(1, 1.0), (2, 1.1), (4, 1.3), (8, 2.6)]:
    ...     growth.note(images, seconds)
    >>> growth.size
    4
    """

    def __init__(self, largest: int = 256) -> None:
        self.size, self._largest = 1, largest
        self._rate, self._growing = 0.0, True

    def note(self, images: int, seconds: float) -> None:
        """Hear how long a batch took; one of another size than the present says nothing."""
        if images != self.size or not self._growing:
            return
        rate = images / max(seconds, 1e-9)
        if rate < 1.1 * self._rate:
            self.size, self._growing = max(1, self.size // 2), False
        elif self.size == self._largest:
            self._growing = False
        else:
            self._rate, self.size = rate, min(2 * self.size, self._largest)


def predict(adapter: LocalAdapter, batch: Sequence[Item]) -> list[Outcome]:
    """One outcome per item; a batch that raises is asked again item by item, so one bad image costs one answer."""
    started = time.monotonic()
    try:
        outcomes = adapter.predict(batch)
    except UserError:
        raise
    except Exception as error:
        if len(batch) > 1:
            return [outcome for item in batch for outcome in predict(adapter, [item])]
        outcomes = [Failed(type(error).__name__, str(error))]
    if len(outcomes) != len(batch):
        name = type(adapter).__name__
        raise UserError(f"{name}.predict must return one outcome per item: got {len(outcomes)} for {len(batch)} items")
    share = (time.monotonic() - started) / len(batch)
    return [with_usage(outcome, share) for outcome in outcomes]

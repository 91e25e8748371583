"""The processes of one training: this one alone, or several that `accelerate launch` started.

Several compute the same updates together: each takes its share of an update's batches, gradients are summed, and every
process makes the same step. The first one evaluates, writes files and talks.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sevlm.devices import find_device

T = TypeVar("T")


class Processes:
    """Where this process stands among the others.

    Args:
        device: `cpu`, `cuda`, `cuda:1`; None takes the one that accelerate gives this process. Several processes on
            GPUs get one each, whatever is asked for.

    Attributes:
        device: where this process computes.
        index: 0 for the first.
        count: of all processes.

    Raises:
        SEVLMError: there is no such device.
    """

    def __init__(self, device: str | None = None) -> None:
        from accelerate.state import PartialState

        state: Any = PartialState(cpu=device == "cpu")
        self._state = state
        self.index: int = state.process_index
        self.count: int = state.num_processes
        alone = self.count == 1 and device is not None
        self.device = find_device(device if alone else str(state.device))

    @property
    def first(self) -> bool:
        """Whether this process evaluates and writes."""
        return self.index == 0

    def first_one_first(self) -> AbstractContextManager[None]:
        """A block that the others enter when the first process has left it."""
        context: AbstractContextManager[None] = self._state.main_process_first()
        return context

    def sum(self, values: Tensor) -> Tensor:
        """Sum of a tensor over the processes, the same for all."""
        if self.count == 1:
            return values
        from accelerate.utils.operations import reduce

        total: Tensor = reduce(values, "sum")
        return total

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their sums; parameters without one in every process keep none."""
        if self.count == 1:
            return
        everything = list(parameters)
        present = self.sum(torch.tensor([float(p.grad is not None) for p in everything], device=self.device))
        for parameter, known in zip(everything, present.tolist(), strict=True):
            if known:
                own = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = self.sum(own)

    def from_first(self, value: T) -> T:
        """The first process's value, for all."""
        if self.count == 1:
            return value
        from accelerate.utils.operations import broadcast_object_list

        shared = [value]
        broadcast_object_list(shared)
        return shared[0]

    def wait(self) -> None:
        """Return when all processes have come here."""
        self._state.wait_for_everyone()

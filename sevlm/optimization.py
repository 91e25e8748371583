"""AdamW with the published learning rates, its older rule for epsilon, and the schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeAlias

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

Schedule: TypeAlias = Literal["linear", "cosine"]


class AdamW(torch.optim.AdamW):
    """AdamW as transformers 4 had it: epsilon is added to the *uncorrected* second moment's root.

    torch divides that root by sqrt(1 - beta2^t) before it adds epsilon, which makes the first steps of parameters with
    tiny gradients up to 30 times larger. The two agree when torch's epsilon is scaled the same way at each step.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], epsilon: float = 1e-6) -> None:
        super().__init__(groups, lr=0.0, eps=epsilon, weight_decay=0.0)
        self.epsilon = epsilon
        self.steps_taken = 0

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update."""
        self.steps_taken += 1
        for group in self.param_groups:
            beta2 = group["betas"][1]
            group["eps"] = self.epsilon / (1 - beta2**self.steps_taken) ** 0.5
        loss: float | None = super().step(closure)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The state of torch's AdamW with the number of steps taken."""
        return super().state_dict() | {"steps_taken": self.steps_taken}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a state that `state_dict` gave."""
        state = dict(state_dict)
        self.steps_taken = int(state.pop("steps_taken"))
        super().load_state_dict(state)


def build_optimizer(
    model: nn.Module,
    learning_rate: float,
    vad_learning_rate: float,
    weight_decay: float = 0.0,
    epsilon: float = 1e-6,
) -> AdamW:
    """Four groups, in the published order: VAD encoder and the rest, each with and without weight decay.

    Matrices decay, vectors (biases and norms) do not. The published weight decay is 0.
    """
    groups = []
    for prefix, rate in ((True, vad_learning_rate), (False, learning_rate)):
        own = [p for name, p in model.named_parameters() if name.startswith("vad_encoder.") is prefix]
        matrices = [p for p in own if p.requires_grad and p.ndim >= 2]
        vectors = [p for p in own if p.requires_grad and p.ndim < 2]
        groups.append({"params": matrices, "lr": rate, "weight_decay": weight_decay})
        groups.append({"params": vectors, "lr": rate, "weight_decay": 0.0})
    return AdamW([group for group in groups if group["params"]], epsilon)


def linear_schedule(optimizer: torch.optim.Optimizer, total_steps: int, warmup_steps: int = 0) -> LambdaLR:
    """Learning rates rise from 0 over `warmup_steps`, then fall to 0 at `total_steps`."""
    return LambdaLR(optimizer, lambda step: _remaining(step, total_steps, warmup_steps))


def cosine_schedule(optimizer: torch.optim.Optimizer, total_steps: int, warmup_steps: int = 0) -> LambdaLR:
    """As `linear_schedule`, but falling along half a cosine (Loshchilov & Hutter 2017, without restarts)."""

    def factor(step: int) -> float:
        remaining = _remaining(step, total_steps, warmup_steps)
        return remaining if step < warmup_steps else 0.5 * (1 - math.cos(math.pi * remaining))

    return LambdaLR(optimizer, factor)


SCHEDULES: dict[Schedule, Callable[[torch.optim.Optimizer, int, int], LambdaLR]] = {
    "linear": linear_schedule,
    "cosine": cosine_schedule,
}


def _remaining(step: int, total: int, warmup: int) -> float:
    if step < warmup:
        return step / warmup
    return max(0.0, (total - step) / max(1, total - warmup))

"""What the answers cost, from the usage that outcomes record. Every kind of outcome counts if its usage is known."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from harness.tasks.metrics.base import Features, Metric, ScoredExample, SetMetric
from harness.types import Usage


class _FromUsage(SetMetric):
    """A number per outcome, if it is known."""

    family = "cost"
    higher_is_better = False
    bounds = (0.0, None)
    source = "usage recorded by the runner"

    @abstractmethod
    def amount(self, usage: Usage) -> float | None:
        """The number of one outcome, or None if it is unknown."""

    def features(self, rows: Sequence[ScoredExample]) -> Features:
        """The number of each outcome, and whether it is known."""
        amounts = [self.amount(row.outcome.usage) for row in rows]
        known = np.array([amount is not None for amount in amounts], dtype=bool)
        return Features(np.array([amount or 0 for amount in amounts], dtype=np.float64), known)


class Latency(_FromUsage):
    """A percentile of the seconds per image, answers from the cache left out. Lower is better."""

    decimals = 2
    requires = (("latency", "no latency is recorded (or every answer came from the cache)"),)
    percentile: ClassVar[float]

    @classmethod
    def variant(cls, percentile: str) -> type[Metric]:
        """The latency at a percentile."""
        group, said = {
            "50": ("cost", "Median seconds per image"),
            "95": ("cost-more", "95th percentile of seconds per image"),
        }[percentile]
        return cls.member(
            name=f"latency_p{percentile}_s", percentile=float(percentile), label=f"Latency p{percentile}, s",
            description=f"{said}.", group=group,
        )  # fmt: skip

    def amount(self, usage: Usage) -> float | None:
        """Seconds, unknown for an answer from the cache."""
        return None if usage.cached else usage.latency_s

    def value(self, features: npt.NDArray[Any]) -> float:
        """The percentile, linearly interpolated."""
        return float(np.percentile(features, self.percentile))


class Tokens(_FromUsage):
    """Prompt and completion tokens of the whole run, where both are recorded. Lower is better."""

    name = "tokens"
    label = "Tokens"
    description = "Prompt and completion tokens of the run."
    group = "cost-more"
    style = "si"
    decimals = 0
    requires = (("tokens", "no token counts are recorded"),)

    def amount(self, usage: Usage) -> float | None:
        """Tokens of one outcome."""
        if usage.prompt_tokens is None or usage.completion_tokens is None:
            return None
        return usage.prompt_tokens + usage.completion_tokens

    def value(self, features: npt.NDArray[Any]) -> float:
        """The total."""
        return float(sum(features.tolist()))


class CostUSD(_FromUsage):
    """US dollars of the whole run, as recorded. Lower is better."""

    name = "cost_usd"
    label = "Cost, US$"
    description = "Price of the whole run as the endpoint bills it."
    group = "cost"
    style = "money"
    decimals = 0
    requires = (("cost", "no price is recorded"),)

    def amount(self, usage: Usage) -> float | None:
        """Dollars of one outcome."""
        return usage.cost_usd

    def value(self, features: npt.NDArray[Any]) -> float:
        """The total."""
        return float(sum(features.tolist()))

"""Spending no more than was allowed: each request is paid for, at its largest possible price, before it is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from harness.store.run_folder import RunFolder
from harness.types import UserError


class BudgetReached(Exception):
    """The next request could exceed the budget."""


class Budget:
    """What may be spent in a run, over all of its models and commands.

    Args:
        limit_usd: `--max-cost`.
        spent_usd: what the run has cost so far.
    """

    def __init__(self, limit_usd: float, spent_usd: float = 0.0) -> None:
        self.limit_usd = limit_usd
        self.spent_usd = spent_usd
        self.reserved_usd = 0.0
        self._changed = asyncio.Event()

    def fits(self, usd: float) -> bool:
        """Whether that much may still be spent, should all requests under way cost what they can."""
        return self.spent_usd + self.reserved_usd + usd <= self.limit_usd

    async def reserve(self, usd: float) -> None:
        """Set money aside for a request; waits for requests under way that may turn out cheaper.

        Raises:
            BudgetReached: nothing is under way and the request could exceed the limit.
        """
        while not self.fits(usd):
            if self.reserved_usd <= 1e-12:
                raise BudgetReached
            await self._changed.wait()
        self.reserved_usd += usd

    def settle(self, reserved_usd: float, cost_usd: float) -> None:
        """Replace a reservation by what the request cost."""
        self.reserved_usd = max(0.0, self.reserved_usd - reserved_usd)
        self.spent_usd += cost_usd
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def reached(self) -> UserError:
        """What to tell the user when the run stopped here."""
        return UserError(
            f"--max-cost {self.limit_usd:g}: stopped after ${self.spent_usd:.4f}, because the next request could "
            "exceed it; what was answered is recorded; repeat the command with a higher --max-cost to go on"
        )


def budget_of(folder: RunFolder, tasks: Iterable[str], limit_usd: float | None) -> Budget | None:
    """The budget of a run folder; recorded outcomes, repeated ones too, are paid from it. None without `--max-cost`."""
    if limit_usd is None:
        return None
    rows = [(task, row) for task in tasks for row in folder.rows(task)]
    recorded = (outcome for task, row in rows for _, outcome in folder.each_outcome(task, row))
    return Budget(limit_usd, sum(outcome.usage.cost_usd or 0.0 for outcome in recorded))

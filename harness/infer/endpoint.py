"""Driving an endpoint: bounded workers, retries with jittered backoff for what can succeed, a live progress line."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from tqdm import tqdm

from harness.adapters import EndpointAdapter
from harness.infer.budget import Budget, BudgetReached
from harness.infer.throttle import AdaptiveLimit, PerMinute
from harness.store.outcomes import RequestLog, RequestLogError
from harness.types import Answer, Failed, Item, Outcome, Refusal, RetryableError, Unparsed, Usage, UserError

MAX_ATTEMPTS = 6
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 60.0
OVERLOAD = frozenset({"http-429", "http-503", "http-529", "timeout"})
"""Kinds of failure that say: fewer requests at once."""
MAYBE_BILLED = frozenset({"timeout", "connection", "bad-response", "no-choice"})
"""Kinds of failure after which the endpoint may have done, and billed, the work."""

Record = Callable[[Item, Outcome], None]
T = TypeVar("T")


@dataclass
class Traffic:
    """What the progress line shows: requests under way, waiting to be sent again, and told to slow down."""

    in_flight: int = 0
    retrying: int = 0
    rate_limited: int = 0


def drive(
    adapter: EndpointAdapter,
    items: Iterable[Item],
    concurrency: int,
    record: Record,
    progress: tqdm[Any],
    budget: Budget | None = None,
    requests: RequestLog | None = None,
) -> None:
    """Ask for every item, at most `concurrency` at a time, and record each outcome as it arrives.

    An item is taken from `items` when a worker is free for it. `requests` counts what is sent, retries included.

    Raises:
        UserError: the adapter says that no request can succeed (a bad key, say), or the budget is reached; outcomes so
            far are recorded.
    """
    try:
        run_until_interrupted(_Drive(adapter, concurrency, record, progress, budget, requests).run(iter(items)))
    except BaseExceptionGroup as group:
        raise _first_cause(group) from group
    except BudgetReached:
        assert budget is not None
        raise budget.reached() from None


def run_until_interrupted(work: Coroutine[Any, Any, None]) -> None:
    """`asyncio.run` for work that a first Ctrl-C may end at any step.

    asyncio keeps the interrupt in the task as well, and prints a traceback because nobody fetches it from there.
    """
    interrupted = False

    async def quietly() -> None:
        nonlocal interrupted
        try:
            await work
        except KeyboardInterrupt:
            interrupted = True

    asyncio.run(quietly())
    if interrupted:
        raise KeyboardInterrupt


def _first_cause(error: BaseException) -> BaseException:
    """The first plain exception of a (nested) group of worker failures."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class _Drive:
    """One row's requests, in one event loop."""

    def __init__(
        self,
        adapter: EndpointAdapter,
        concurrency: int,
        record: Record,
        progress: tqdm[Any],
        budget: Budget | None,
        sent: RequestLog | None,
    ) -> None:
        self.adapter, self.record, self.progress, self.budget = adapter, record, progress, budget
        self.sent = sent
        self.limit = AdaptiveLimit(concurrency)
        self.requests = PerMinute(adapter.requests_per_minute) if adapter.requests_per_minute else None
        self.tokens = PerMinute(adapter.tokens_per_minute) if adapter.tokens_per_minute else None
        self.traffic = Traffic()
        self.stopped = False

    async def run(self, items: Iterator[Item]) -> None:
        """Open, ask, close; `BudgetReached` when the budget ended the work early."""
        try:
            await self._open()
            async with asyncio.TaskGroup() as group:
                for _ in range(self.limit.most):
                    group.create_task(self._work(items))
        finally:
            await self.adapter.aclose()
        if self.stopped:
            raise BudgetReached

    async def _open(self) -> None:
        """Let the adapter connect, as with_retries as any request."""
        result = await self._patiently(self.adapter.open)
        if isinstance(result, Failed):
            raise UserError(f"the endpoint does not answer ({result.error_type}): {result.message}")
        if self.budget is not None:
            self.budget.settle(0.0, self.adapter.spent_usd)

    async def _work(self, items: Iterator[Item]) -> None:
        for item in items:  # one iterator that all workers share: each item goes to one of them
            if self.stopped:
                return
            try:
                self.record(item, await self._ask(item))
            except BudgetReached:
                self.stopped = True
                return
            shown = dataclasses.asdict(self.traffic) | {"limit": int(self.limit.limit)}
            self.progress.set_postfix(shown, refresh=False)
            self.progress.update()

    async def _ask(self, item: Item) -> Outcome:
        started, attempts = time.monotonic(), 0

        def send() -> Awaitable[Outcome]:
            nonlocal attempts
            attempts += 1
            return self._send(item)

        try:
            outcome = await self._patiently(send)
        except (UserError, BudgetReached, RequestLogError):
            raise
        except Exception as error:
            outcome = Failed(type(error).__name__, str(error))
        return with_usage(outcome, time.monotonic() - started, attempts)

    async def _patiently(self, action: Callable[[], Awaitable[T]]) -> T | Failed:
        """What the last attempt gave; `Failed` when each could have succeeded and none did."""
        for attempt in range(1, MAX_ATTEMPTS):
            try:
                return await action()
            except RetryableError as error:
                wait = wait_before_retry(attempt, error.retry_after_s)
            self.traffic.retrying += 1
            await asyncio.sleep(wait)
            self.traffic.retrying -= 1
        try:
            return await action()
        except RetryableError as error:
            return Failed(error.kind, str(error))

    async def _send(self, item: Item) -> Outcome:
        """One request, when limits and budget allow it."""
        most = self.adapter.max_usage(item)
        entered = await self.limit.enter()
        report: dict[str, Any] = {}
        try:
            outcome = await self._metered(item, most)
            report["answered"] = True
            return outcome
        except RetryableError as error:
            report["overloaded"] = error.kind in OVERLOAD or error.retry_after_s is not None
            if error.retry_after_s is not None and error.kind == "http-429":
                report["pause_s"] = min(max(error.retry_after_s, 0.0), LONGEST_WAIT_S)
            self.traffic.rate_limited += report["overloaded"]
            raise
        finally:
            self.limit.leave(entered, **report)

    async def _metered(self, item: Item, most: Usage) -> Outcome:
        tokens = (most.prompt_tokens or 0) + (most.completion_tokens or 0)
        if self.requests is not None:
            await self.requests.take(1)
        if self.tokens is not None:
            await self.tokens.take(tokens)
        outcome = await self._paid(item, most.cost_usd)
        used = outcome.usage
        if self.tokens is not None and used.prompt_tokens is not None and used.completion_tokens is not None:
            self.tokens.correct(used.prompt_tokens + used.completion_tokens - tokens)
        return outcome

    async def _paid(self, item: Item, most_usd: float | None) -> Outcome:
        if self.budget is None:
            return await self._counted(item)
        if most_usd is None:
            raise UserError("--max-cost: the price of this model is unknown")
        await self.budget.reserve(most_usd)
        cost = most_usd  # whatever interrupts the request may come after the endpoint did the work
        try:
            outcome = await self._counted(item)
            cost = 0.0 if isinstance(outcome, Failed) else most_usd
            cost = outcome.usage.cost_usd if outcome.usage.cost_usd is not None else cost
            return outcome
        except RetryableError as error:
            cost = most_usd if error.kind in MAYBE_BILLED else 0.0
            raise
        finally:
            self.budget.settle(most_usd, cost)

    async def _counted(self, item: Item) -> Outcome:
        if self.sent is not None:
            self.sent.begin()
        self.traffic.in_flight += 1
        try:
            return await self.adapter.answer(item)
        finally:
            self.traffic.in_flight -= 1


def wait_before_retry(attempt: int, retry_after_s: float | None) -> float:
    """Seconds to wait after the given failed attempt (1, 2, …): as told, else doubling with full jitter above half."""
    if retry_after_s is not None:
        return min(max(retry_after_s, 0.0), LONGEST_WAIT_S) * random.uniform(1.0, 1.1)
    return min(FIRST_WAIT_S * 2.0 ** (attempt - 1), LONGEST_WAIT_S) * random.uniform(0.5, 1.0)


def with_usage(outcome: Outcome, elapsed_s: float, attempts: int | None = None) -> Outcome:
    """The outcome with latency and attempts filled in where the adapter did not give them."""
    usage = outcome.usage
    usage = dataclasses.replace(
        usage,
        latency_s=elapsed_s if usage.latency_s is None else usage.latency_s,
        attempts=attempts if usage.attempts is None else usage.attempts,
    )
    match outcome:
        case Answer() | Refusal() | Unparsed() | Failed():
            return dataclasses.replace(outcome, usage=usage)

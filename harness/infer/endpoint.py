"""Asking an endpoint: bounded workers, retries for what can succeed, a budget that holds, a live progress line."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from tqdm import tqdm

from harness.adapters.base import EndpointAdapter
from harness.infer.throttle import AdaptiveLimit, Clock, PerMinute, Place
from harness.store.outcomes import RequestLog, RequestLogError
from harness.store.run_folder import RunFolder
from harness.types import Failed, Item, Outcome, RetryableError, Usage, UserError, with_usage

BUSY = frozenset({"http-429", "http-503", "http-529", "loading"})
"""Kinds of failure that say: not now."""
OVERLOAD = BUSY | {"timeout"}
"""Kinds of failure that say: fewer requests at once."""
UNBILLED = frozenset({"unreachable", "loading", "ImageError", "no-images"})
"""Kinds of failure before the endpoint did any work; so are all error statuses (`http-…`)."""
SHORTEST_WAIT_S, LONGEST_WAIT_S = 0.001, 60.0
LONGEST_PATIENCE_S = 600.0

Record = Callable[[Item, Outcome], None]
T = TypeVar("T")


# ------------------------------------------------------------------------------------------------------------- retries


@dataclass(frozen=True)
class Patience:
    """How often, and for how long, what failed in passing is tried again.

    Attributes:
        attempts: of a request that fails otherwise than with "not now".
        first_wait_s: before the second attempt; it doubles from one attempt to the next.
        busy_s: for this many seconds, or longer if the endpoint says so, a busy endpoint is asked again.
    """

    attempts: int = 6
    first_wait_s: float = 0.5
    busy_s: float = 120.0

    @classmethod
    def of(cls, adapter: EndpointAdapter) -> Patience:
        """As the adapter's `retry_wait_s` and `patience_s` say."""
        return cls(first_wait_s=adapter.retry_wait_s, busy_s=adapter.patience_s)

    def wait_s(self, attempt: int, retry_after_s: float | None) -> float:
        """Seconds after the given failed attempt (1, 2, …): as told, else doubling with full jitter above half.

        Who says "at once" again and again is not believed: patience is counted in what was waited.
        """
        first = max(self.first_wait_s, SHORTEST_WAIT_S)
        own = min(first * 2.0 ** min(attempt - 1, 60), LONGEST_WAIT_S) * random.uniform(0.5, 1.0)
        if retry_after_s is None:
            return own
        told = min(max(retry_after_s, 0.0), LONGEST_WAIT_S) * random.uniform(1.0, 1.1)
        return told if attempt < self.attempts else max(told, own)

    def lasts(self, attempt: int, waited_s: float, error: RetryableError) -> bool:
        """Whether a request that failed for the given time is worth another attempt."""
        busy_s = max(self.busy_s, min(error.retry_after_s or 0.0, LONGEST_PATIENCE_S))
        return attempt < self.attempts or (error.kind in BUSY and waited_s < busy_s)


async def with_retries(
    action: Callable[[], Awaitable[T]],
    patience: Patience | None = None,
    clock: Clock | None = None,
    traffic: Traffic | None = None,
) -> T:
    """What `action` gives, tried again while that may help.

    Raises:
        RetryableError: that of the last attempt.
    """
    patience, clock, traffic, waited = patience or Patience(), clock or Clock(), traffic or Traffic(), 0.0
    for attempt in itertools.count(1):
        try:
            return await action()
        except RetryableError as error:
            if not patience.lasts(attempt, waited, error):
                raise
            wait = patience.wait_s(attempt, error.retry_after_s)
        traffic.retrying += 1
        await clock.sleep(wait)
        traffic.retrying -= 1
        waited += wait
    raise AssertionError("unreachable")


async def open_endpoint(adapter: EndpointAdapter, budget: Budget | None, clock: Clock) -> None:
    """Let the adapter connect and check its endpoint, as patiently as any request; what that cost is paid.

    Raises:
        UserError: nobody answers, or not as the adapter needs it.
    """
    try:
        await with_retries(adapter.open, Patience.of(adapter), clock)
    except RetryableError as error:
        raise UserError(f"the endpoint does not answer ({error.kind}): {error}; repeat the command to go on") from None
    finally:
        if budget is not None:
            budget.spent_usd += adapter.spent_usd


# -------------------------------------------------------------------------------------------------------------- budget


class BudgetReached(Exception):
    """The next request could exceed the budget."""


class Budget:
    """What may be spent in a run, over all of its models and commands.

    A request is paid for at its largest possible price before it is sent. What that is, only an answer shows: until a
    model's first one, its requests go out one at a time.

    Args:
        limit_usd: `--max-cost`.
        spent_usd: what the run has cost so far.
    """

    def __init__(self, limit_usd: float, spent_usd: float = 0.0) -> None:
        self.limit_usd = limit_usd
        self.spent_usd = spent_usd
        self.reserved_usd = 0.0
        self.answered = False
        self._under_way = 0
        self._changed = asyncio.Event()

    def fits(self, usd: float) -> bool:
        """Whether that much may still be spent, should all requests under way cost what they can."""
        return self.spent_usd + self.reserved_usd + usd <= self.limit_usd

    async def reserve(self, most_usd: Callable[[], float | None]) -> float:
        """Set money aside for a request; waits for requests under way that may turn out cheaper.

        Args:
            most_usd: the request's largest price, as far as it is known when it is asked for.

        Raises:
            BudgetReached: nothing is under way and the request could exceed the limit.
            UserError: the price is unknown.
        """
        while True:
            usd = most_usd()
            if usd is None:
                raise UserError("--max-cost: the price of this model is unknown")
            if self.fits(usd) and (self.answered or not self._under_way):
                break
            if not self._under_way:
                raise BudgetReached
            await self._changed.wait()
        self.reserved_usd += usd
        self._under_way += 1
        return usd

    def settle(self, reserved_usd: float, cost_usd: float) -> None:
        """Replace a reservation by what the request cost."""
        self._under_way -= 1
        self.reserved_usd = self.reserved_usd - reserved_usd if self._under_way else 0.0
        self.spent_usd += cost_usd
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def reached(self) -> UserError:
        """What to tell the user when the run stopped here."""
        return UserError(
            f"--max-cost {self.limit_usd:g}: stopped after ${self.spent_usd:.4f}, because the next request could "
            "exceed it; what was answered is recorded; repeat the command with a higher --max-cost to go on"
        )


def budget_of(folder: RunFolder, tasks: Iterable[str], limit_usd: float) -> Budget:
    """The budget of a run folder, from which everything recorded is paid.

    Requests that nobody told the price of count at the most that they can have cost.
    """
    rows = [(task, row) for task in tasks for row in folder.rows(task)]
    usages = (outcome.usage for task, row in rows for _, outcome in folder.each_outcome(task, row))
    answers = sum((usage.cost_usd or 0.0) + (usage.reserve_usd or 0.0) for usage in usages)
    openings = sum(record.get("opening_usd") or 0.0 for record in folder.manifest()["runs"])
    return Budget(limit_usd, answers + openings)


def billed_usd(result: Outcome | RetryableError) -> float | None:
    """What came of a request cost so much; None: nobody said, and it may have been billed."""
    cost = result.cost_usd if isinstance(result, RetryableError) else result.usage.cost_usd
    if cost is not None:
        return cost
    kind = result.error_type if isinstance(result, Failed) else getattr(result, "kind", "")
    return 0.0 if kind in UNBILLED or kind.startswith("http-") else None


@dataclass
class Bill:
    """What all attempts for one item cost: known, and at most."""

    attempts: int = 0
    paid_usd: float = 0.0
    reserve_usd: float = 0.0

    def add(self, cost_usd: float | None, reserve_usd: float) -> None:
        """Note an attempt: what it cost, or its reserve if nobody said."""
        self.paid_usd += cost_usd or 0.0
        self.reserve_usd += reserve_usd if cost_usd is None else 0.0

    def on(self, outcome: Outcome) -> Outcome:
        """The outcome, with what the attempts cost: beside its own price, or as a reserve if that is unknown."""
        own = outcome.usage.cost_usd
        cost = None if own is None else self.paid_usd
        reserve = self.reserve_usd + (self.paid_usd if own is None else 0.0)
        usage = dataclasses.replace(outcome.usage, cost_usd=cost, reserve_usd=reserve or None)
        return dataclasses.replace(outcome, usage=usage)


# ------------------------------------------------------------------------------------------------------------- driving


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
    clock: Clock | None = None,
) -> None:
    """Ask for every item, at most `concurrency` at a time, and record each outcome as it arrives.

    An item is taken from `items` when a worker is free for it, the first one after the endpoint was checked. `requests`
    counts what is sent, retries included.

    Raises:
        UserError: the adapter says that no request can succeed (a bad key, say), or the budget is reached; outcomes so
            far, and of the requests then under way, are recorded.
    """
    try:
        run_until_interrupted(_Drive(adapter, concurrency, record, progress, budget, requests, clock).run(items))
    except BaseExceptionGroup as group:
        cause: BaseException = group
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        raise cause from group
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
        clock: Clock | None,
    ) -> None:
        self.adapter, self.record, self.progress, self.budget = adapter, record, progress, budget
        self.sent, self.clock, self.patience = sent, clock or Clock(), Patience.of(adapter)
        self.limit = AdaptiveLimit(concurrency, self.clock)
        per_minute = adapter.requests_per_minute, adapter.tokens_per_minute
        self.requests, self.tokens = (PerMinute(rate, self.clock) if rate else None for rate in per_minute)
        self.traffic = Traffic()
        self.stopped = self.answered = False
        self.failure: UserError | RequestLogError | None = None
        self.workers: list[asyncio.Task[None]] = []
        self.sending: set[asyncio.Task[None] | None] = set()

    async def run(self, items: Iterable[Item]) -> None:
        """Open, ask, close; `BudgetReached` when the budget ended the work early."""
        try:
            await open_endpoint(self.adapter, self.budget, self.clock)
            if self.budget is not None:
                self.budget.answered = False  # what this model costs is not known from another
            remaining = iter(items)
            async with asyncio.TaskGroup() as group:
                self.workers = [group.create_task(self._work(remaining)) for _ in range(self.limit.most)]
        finally:
            await self.adapter.aclose()
        if self.failure is not None:
            raise self.failure
        if self.stopped:
            raise BudgetReached

    async def _work(self, items: Iterator[Item]) -> None:
        for item in items:  # one iterator that all workers share: each item goes to one of them
            if self.stopped:
                return
            started, bill = time.monotonic(), Bill()
            try:
                outcome = await with_retries(
                    partial(self._attempt, item, bill), self.patience, self.clock, self.traffic
                )
            except BudgetReached:
                self.stopped = True
                return
            except (UserError, RequestLogError) as error:
                self._fail(error)
                return
            except RetryableError as error:
                if error.kind in BUSY and (error.retry_after_s or 0.0) > LONGEST_PATIENCE_S:
                    told = f"the endpoint asks to wait for {error.retry_after_s:.0f} s"
                    self._fail(UserError(f"{told}: {error}; repeat the command then to go on"))
                    return
                outcome = Failed(error.kind, str(error))
            except Exception as error:
                outcome = Failed(type(error).__name__, str(error))
            self.record(item, with_usage(bill.on(outcome), time.monotonic() - started, bill.attempts))
            self.sending.discard(asyncio.current_task())
            shown = vars(self.traffic) | {"limit": int(self.limit.limit)}
            self.progress.set_postfix(shown, refresh=False)
            self.progress.update()

    def _fail(self, error: UserError | RequestLogError) -> None:
        """End the work, but let the requests be answered that are under way: they are paid for.

        Before the first answer, one request is tried alone, whatever the others seem to do.
        """
        self.stopped, self.failure = True, self.failure or error
        under_way = self.sending if self.answered else set()
        for worker in self.workers:
            if worker not in under_way and worker is not asyncio.current_task():
                worker.cancel()

    async def _attempt(self, item: Item, bill: Bill) -> Outcome:
        """One request, when limits and budget allow it."""
        async with self.limit.place() as place:
            most = self.adapter.max_usage(item)
            if self.requests is not None:
                await self.requests.take(1)
            if self.tokens is not None:
                await self.tokens.take(_tokens(most) or 0)
            reserve = most.cost_usd or 0.0
            if self.budget is not None:
                reserve = await self.budget.reserve(lambda: self.adapter.max_usage(item).cost_usd)
            cost: float | None = None  # whatever interrupts the request may come after the endpoint did the work
            bill.attempts += 1
            self.traffic.in_flight += 1
            self.sending.add(asyncio.current_task())
            try:
                if self.sent is not None:
                    self.sent.begin()
                outcome = await self.adapter.answer(item)
                cost = billed_usd(outcome)
            except (UserError, RequestLogError):
                cost = 0.0
                raise
            except RetryableError as error:
                cost = billed_usd(error)
                self._slow_down(place, error)
                self.sending.discard(asyncio.current_task())
                raise self.failure or error from None
            finally:
                self.traffic.in_flight -= 1
                bill.add(cost, reserve)
                if self.budget is not None:
                    self.budget.settle(reserve, reserve if cost is None else cost)
            place.answered = self.answered = True
            if self.budget is not None:
                self.budget.answered = self.budget.answered or cost is None or not isinstance(outcome, Failed)
            if self.tokens is not None and (used := _tokens(outcome.usage)) is not None:
                self.tokens.correct(used - (_tokens(most) or 0))
            return outcome

    def _slow_down(self, place: Place, error: RetryableError) -> None:
        """Say of a request's place that the endpoint is overloaded, if the error says so."""
        place.overloaded = error.kind in OVERLOAD or bool(error.retry_after_s)
        if error.retry_after_s is not None and error.kind == "http-429":
            place.pause_s = min(max(error.retry_after_s, 0.0), LONGEST_WAIT_S)
        self.traffic.rate_limited += place.overloaded


def _tokens(usage: Usage) -> int | None:
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    return None if prompt is None or completion is None else prompt + completion

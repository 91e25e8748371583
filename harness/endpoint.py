"""Driving an endpoint: bounded workers, retries with jittered backoff for what can succeed, a live progress line."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from harness.adapters import EndpointAdapter
from harness.types import Answer, Failed, Item, Outcome, Refusal, RetryableError, Unparsed, UserError

MAX_ATTEMPTS = 6
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 60.0

Record = Callable[[Item, Outcome], None]


@dataclass
class Traffic:
    """What the progress line shows: requests under way, waiting to be sent again, and told to slow down."""

    in_flight: int = 0
    retrying: int = 0
    rate_limited: int = 0


def drive(
    adapter: EndpointAdapter, items: Sequence[Item], concurrency: int, record: Record, progress: tqdm[Any]
) -> None:
    """Ask for every item, at most `concurrency` at a time, and record each outcome as it arrives.

    Raises:
        UserError: the adapter says that no request can succeed (a bad key, say); outcomes so far are recorded.
    """
    try:
        asyncio.run(_drive(adapter, iter(items), concurrency, record, progress))
    except BaseExceptionGroup as group:
        raise _first_cause(group) from group


def _first_cause(error: BaseException) -> BaseException:
    """The first plain exception of a (nested) group of worker failures."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _drive(
    adapter: EndpointAdapter, items: Iterator[Item], concurrency: int, record: Record, progress: tqdm[Any]
) -> None:
    traffic = Traffic()

    async def worker() -> None:
        for item in items:  # one shared iterator: each item goes to one worker
            record(item, await _ask(adapter, item, traffic))
            progress.set_postfix(dataclasses.asdict(traffic), refresh=False)
            progress.update()

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(worker())


async def _ask(adapter: EndpointAdapter, item: Item, traffic: Traffic) -> Outcome:
    started = time.monotonic()
    for attempt in range(1, MAX_ATTEMPTS + 1):
        traffic.in_flight += 1
        try:
            outcome = await adapter.answer(item)
        except RetryableError as error:
            outcome = Failed(error.kind, str(error))
            wait = wait_before_retry(attempt, error.retry_after_s)
            traffic.rate_limited += error.retry_after_s is not None
        except UserError:
            raise
        except Exception as error:
            return with_usage(Failed(type(error).__name__, str(error)), time.monotonic() - started, attempt)
        else:
            return with_usage(outcome, time.monotonic() - started, attempt)
        finally:
            traffic.in_flight -= 1
        if attempt < MAX_ATTEMPTS:
            traffic.retrying += 1
            await asyncio.sleep(wait)
            traffic.retrying -= 1
    return with_usage(outcome, time.monotonic() - started, MAX_ATTEMPTS)


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

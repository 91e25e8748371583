"""The endpoint adapter in the hands of a test: loaded with few settings, asked all at once."""

from __future__ import annotations

import asyncio
from typing import Any

from tqdm import tqdm

from harness.adapters import EndpointAdapter
from harness.adapters.openai_chat import OpenAIChat
from harness.infer.endpoint import Budget, drive
from harness.infer.throttle import Clock
from harness.types import Item, Outcome


def loaded(url: str, **settings: Any) -> OpenAIChat:
    plain: dict[str, Any] = {"probe": "off", "schema": False, "probabilities": False}
    adapter = OpenAIChat("vision-1", base_url=url, **plain | settings)
    adapter.retry_wait_s = 0.01
    adapter.load()
    return adapter


def check_reachable(adapter: OpenAIChat) -> None:
    async def opened_and_closed() -> None:
        await adapter.open()
        await adapter.aclose()

    asyncio.run(opened_and_closed())


def ask(adapter: OpenAIChat, *items: Item) -> list[Outcome | BaseException]:
    async def all_at_once() -> list[Outcome | BaseException]:
        return await asyncio.gather(*(adapter.answer(one) for one in items), return_exceptions=True)

    return asyncio.run(all_at_once())


def driven(
    adapter: EndpointAdapter,
    *items: Item,
    concurrency: int = 4,
    budget: Budget | None = None,
    clock: Clock | None = None,
    recorded: dict[str, Outcome] | None = None,
) -> list[Outcome]:
    """What a run records about each item."""
    adapter.load()
    found: dict[str, Outcome] = {} if recorded is None else recorded
    with tqdm(disable=True) as progress:
        record = lambda one, outcome: found.update({one.id: outcome})  # noqa: E731
        drive(adapter, items, concurrency, record, progress, budget, clock=clock)
    return [found[one.id] for one in items]

from __future__ import annotations

import asyncio
import time

import pytest
from tqdm import tqdm

from harness.adapters import EndpointAdapter
from harness.infer import endpoint
from harness.infer.budget import Budget
from harness.infer.throttle import AdaptiveLimit, PerMinute
from harness.types import Answer, Item, Outcome, RetryableError, Usage, UserError


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "FIRST_WAIT_S", 0.001)


class Server(EndpointAdapter):
    """Bears `bearable` requests at once and answers 429 to more; prices and latencies as told."""

    def __init__(self, bearable: int = 1000, latency_s: float = 0.002, price: float | None = None) -> None:
        self.bearable, self.latency_s, self.price = bearable, latency_s, price
        self.running = self.most_running = self.rejected = 0
        self.asked: list[str] = []
        self.opened = self.closed = 0

    def fingerprint(self) -> dict[str, object]:
        return {}

    async def open(self) -> None:
        self.opened += 1

    async def aclose(self) -> None:
        self.closed += 1

    def max_usage(self, item: Item) -> Usage:
        return Usage(prompt_tokens=80, completion_tokens=20, cost_usd=None if self.price is None else 2 * self.price)

    async def answer(self, item: Item) -> Outcome:
        if self.running >= self.bearable:
            self.rejected += 1
            raise RetryableError("slow down", kind="http-429")
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        await asyncio.sleep(self.latency_s)
        self.running -= 1
        self.asked.append(item.id)
        return Answer("joy", "light", usage=Usage(prompt_tokens=40, completion_tokens=10, cost_usd=self.price))


def drive(
    server: EndpointAdapter, count: int, concurrency: int = 8, budget: Budget | None = None
) -> dict[str, Outcome]:
    recorded: dict[str, Outcome] = {}
    items = [Item(str(i), None, ("joy",), "p") for i in range(count)]  # type: ignore[arg-type]
    with tqdm(disable=True) as progress:
        endpoint.drive(server, items, concurrency, lambda i, o: recorded.update({i.id: o}), progress, budget)
    return recorded


def test_the_limit_shrinks_once_per_generation_and_grows_slowly() -> None:
    async def act() -> list[float]:
        limit = AdaptiveLimit(64)
        places = [await limit.enter() for _ in range(64)]
        seen = []
        for place in places[:10]:  # one burst of rejections is one piece of news
            limit.leave(place, overloaded=True)
        seen.append(limit.limit)
        limit.leave(places[10], answered=True)
        seen.append(limit.limit)
        for place in places[11:]:
            limit.leave(place)
        await asyncio.sleep(0.002)
        limit.leave(await limit.enter(), overloaded=True)
        seen.append(limit.limit)
        return seen

    first, grown, second = asyncio.run(act())
    assert first == pytest.approx(0.7 * 64)
    assert grown == pytest.approx(first + 1 / first)
    assert second == pytest.approx(0.7 * grown)


def test_a_server_that_grows_slow_gets_fewer_requests() -> None:
    async def act() -> AdaptiveLimit:
        limit = AdaptiveLimit(12)
        now = time.monotonic()
        for latency in [1.0] * 12 + [4.0] * 12:
            limit.running += 1
            limit.leave(now - latency, answered=True)
        return limit

    assert asyncio.run(act()).limit == pytest.approx(0.9 * 12)


def test_never_more_at_once_than_the_limit_and_nobody_waits_for_ever() -> None:
    server = Server(bearable=5)
    recorded = drive(server, 300, concurrency=40)
    assert len(recorded) == 300
    assert all(isinstance(outcome, Answer) for outcome in recorded.values())
    assert server.most_running == 5
    assert server.rejected < 150  # without adaptation most attempts of 40 workers are rejected
    assert (server.opened, server.closed) == (1, 1)


def test_retry_after_pauses_everybody() -> None:
    class Resting(Server):
        starts: list[float] = []  # noqa: RUF012

        async def answer(self, item: Item) -> Outcome:
            self.starts.append(time.monotonic())
            if len(self.starts) == 4:
                raise RetryableError("rest", 0.3, kind="http-429")
            return await super().answer(item)

    server = Resting()
    drive(server, 40, concurrency=2)
    gaps = [b - a for a, b in zip(server.starts, server.starts[1:], strict=False)]
    assert max(gaps) >= 0.25
    assert sum(gap > 0.1 for gap in gaps) == 1


@pytest.mark.parametrize(("attribute", "rate"), [("requests_per_minute", 1200.0), ("tokens_per_minute", 60000.0)])
def test_no_more_starts_than_the_rate_allows(attribute: str, rate: float) -> None:
    server = Server()
    setattr(server, attribute, rate)
    started = time.monotonic()
    drive(server, 40, concurrency=40)
    per_item = 1.0 if attribute == "requests_per_minute" else 50.0
    least = 40 * per_item / (rate / 61) - 1.0  # a second's worth may go at once
    assert least > 0.4
    assert time.monotonic() - started >= 0.9 * least


def test_per_minute_spreads_what_exceeds_a_second() -> None:
    async def act() -> float:
        meter = PerMinute(610.0)  # ten a second
        started = time.monotonic()
        for _ in range(13):
            await meter.take(1)
        return time.monotonic() - started

    assert 0.15 <= asyncio.run(act()) < 1.0


@pytest.mark.parametrize("concurrency", [1, 8])
def test_the_budget_is_never_exceeded_and_nearly_used_up(concurrency: int) -> None:
    server, budget = Server(price=0.01), Budget(0.255)
    with pytest.raises(UserError, match=r"--max-cost 0.255: stopped after \$0.2[0-9]+.*higher --max-cost"):
        drive(server, 100, concurrency, budget)
    assert budget.spent_usd == pytest.approx(0.01 * len(server.asked))
    assert budget.spent_usd <= 0.255
    assert len(server.asked) == 24  # a 25th could have cost 0.02
    assert server.closed == 1


def test_what_was_spent_before_counts() -> None:
    server = Server(price=0.01)
    with pytest.raises(UserError, match="stopped"):
        drive(server, 100, 4, Budget(0.2501, spent_usd=0.20))
    assert len(server.asked) == 4


def test_a_lost_request_is_counted_as_if_it_had_been_billed() -> None:
    class Losing(Server):
        async def answer(self, item: Item) -> Outcome:
            raise RetryableError("gone", kind="timeout")

    budget = Budget(0.1)
    with pytest.raises(UserError, match="stopped"):
        drive(Losing(price=0.01), 100, 2, budget)
    assert budget.spent_usd == pytest.approx(0.1)


def test_an_unknown_price_is_no_price() -> None:
    with pytest.raises(UserError, match="price of this model is unknown"):
        drive(Server(price=None), 3, 2, Budget(1.0))


def test_opening_is_as_patient_as_asking() -> None:
    class Waking(Server):
        async def open(self) -> None:
            self.opened += 1
            if self.opened < 3:
                raise RetryableError("waking up", kind="http-503")

    server = Waking()
    assert len(drive(server, 3)) == 3
    assert server.opened == 3

    class Asleep(Server):
        async def open(self) -> None:
            raise RetryableError("asleep", kind="http-503")

    asleep = Asleep()
    with pytest.raises(UserError, match=r"does not answer \(http-503\): asleep"):
        drive(asleep, 3)
    assert (asleep.asked, asleep.closed) == ([], 1)

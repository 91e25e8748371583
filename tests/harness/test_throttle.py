from __future__ import annotations

import asyncio
import contextlib

import pytest
from tqdm import tqdm

from harness.adapters import EndpointAdapter
from harness.infer import endpoint
from harness.infer.endpoint import Budget
from harness.infer.throttle import AdaptiveLimit, Clock, PerMinute
from harness.types import Answer, Item, Outcome, RetryableError, Usage, UserError


class Hours:
    """A clock on which waiting takes no time."""

    def __init__(self) -> None:
        self.time, self.waits = 0.0, list[float]()

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.time += seconds


class Server(EndpointAdapter):
    """Bears `bearable` requests at once and answers 429 to more; prices and latencies as told."""

    def __init__(self, bearable: int = 1000, latency_s: float = 0.002, price: float | None = None) -> None:
        self.bearable, self.latency_s, self.price = bearable, latency_s, price
        self.running = self.most_running = self.rejected = 0
        self.asked: list[str] = []
        self.opened = self.closed = 0
        self.retry_wait_s = 0.001

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
    server: EndpointAdapter,
    count: int,
    concurrency: int = 8,
    budget: Budget | None = None,
    clock: Clock | None = None,
) -> dict[str, Outcome]:
    recorded: dict[str, Outcome] = {}
    items = [Item(str(i), None, ("joy",), "p") for i in range(count)]  # type: ignore[arg-type]
    with tqdm(disable=True) as progress:
        endpoint.drive(
            server, items, concurrency, lambda i, o: recorded.update({i.id: o}), progress, budget, clock=clock
        )
    return recorded


def test_the_limit_shrinks_once_per_generation_and_grows_slowly() -> None:
    hours = Hours()
    limit = AdaptiveLimit(64, Clock(hours.now, hours.sleep))

    async def requests(*, overloaded: int = 0, answered: int = 0, nothing: int = 0) -> None:
        """As many at once, which end in this order."""
        async with contextlib.AsyncExitStack() as places:
            entered = [await places.enter_async_context(limit.place()) for _ in range(overloaded + answered + nothing)]
            for place in entered[nothing + answered :]:  # the last to enter is the first to leave
                place.overloaded = True
            for place in entered[nothing : nothing + answered]:
                place.answered = True
            hours.time += 1

    asyncio.run(requests(overloaded=10, answered=1, nothing=53))  # one burst of rejections is one piece of news
    grown = 0.7 * 64 + 1 / (0.7 * 64)
    assert limit.limit == pytest.approx(grown)
    hours.time += 1
    asyncio.run(requests(overloaded=1))
    assert limit.limit == pytest.approx(0.7 * grown)


def test_a_server_that_grows_slow_gets_fewer_requests() -> None:
    hours = Hours()
    limit = AdaptiveLimit(12, Clock(hours.now, hours.sleep))

    async def act() -> None:
        for latency in [1.0] * 12 + [4.0] * 12:
            async with limit.place() as place:
                place.answered = True
                hours.time += latency

    asyncio.run(act())
    assert limit.limit == pytest.approx(0.9 * 12)


def test_never_more_at_once_than_the_limit_and_nobody_waits_for_ever() -> None:
    server = Server(bearable=5)
    recorded = drive(server, 300, concurrency=40)
    assert len(recorded) == 300
    assert all(isinstance(outcome, Answer) for outcome in recorded.values())
    assert server.most_running == 5
    assert server.rejected < 150  # without adaptation most attempts of 40 workers are rejected
    assert (server.opened, server.closed) == (1, 1)


def test_retry_after_pauses_everybody() -> None:
    hours = Hours()
    limit = AdaptiveLimit(4, Clock(hours.now, hours.sleep))

    async def act() -> list[float]:
        async with limit.place() as told:
            told.overloaded, told.pause_s = True, 0.3
        starts = []
        for _ in range(3):
            async with limit.place() as place:
                starts.append(place.entered)
        return starts

    assert asyncio.run(act()) == [pytest.approx(0.3)] * 3
    assert hours.waits == [pytest.approx(0.3)]


@pytest.mark.parametrize(("attribute", "rate"), [("requests_per_minute", 1200.0), ("tokens_per_minute", 60000.0)])
def test_no_more_starts_than_the_rate_allows(attribute: str, rate: float) -> None:
    hours, server = Hours(), Server()
    setattr(server, attribute, rate)
    drive(server, 40, concurrency=1, clock=Clock(hours.now, hours.sleep))
    per_item = 1.0 if attribute == "requests_per_minute" else 50.0
    least = 40 * per_item / (rate / 61) - 1.0  # a second's worth may go at once
    assert least > 0.4
    assert 0.9 * least <= hours.time <= 1.2 * least + 0.2


def test_per_minute_spreads_what_exceeds_a_second() -> None:
    hours = Hours()

    async def act() -> None:
        meter = PerMinute(610.0, Clock(hours.now, hours.sleep))  # ten a second
        for _ in range(13):
            await meter.take(1)

    asyncio.run(act())
    assert hours.time == pytest.approx(0.2)


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

    asleep, hours = Asleep(), Hours()
    with pytest.raises(UserError, match=r"does not answer \(http-503\): asleep"):
        drive(asleep, 3, clock=Clock(hours.now, hours.sleep))
    assert (asleep.asked, asleep.closed) == ([], 1)
    assert hours.time > 60

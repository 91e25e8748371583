import asyncio
import random

import pytest
from tqdm import tqdm

from harness.adapters import EndpointAdapter
from harness.infer import endpoint
from harness.types import Answer, Failed, Item, RetryableError, UserError


class Scripted(EndpointAdapter):
    """Answers after the given number of failures per item id; keeps count of what was asked."""

    def __init__(self, failures, error=None):
        self.failures, self.error = dict(failures), error
        self.asked, self.running, self.most_running = {}, 0, 0
        self.retry_wait_s = 0.001

    def fingerprint(self):
        return {}

    async def answer(self, item):
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        await asyncio.sleep(0.001)
        self.running -= 1
        self.asked[item.id] = self.asked.get(item.id, 0) + 1
        if self.asked[item.id] <= self.failures.get(item.id, 0):
            raise self.error or RetryableError("broken", kind="http-500")
        return Answer("joy", "because")


def drive(adapter, ids, concurrency=4, recorded=None):
    recorded = {} if recorded is None else recorded
    items = [Item(i, None, ("joy",), "p") for i in ids]
    with tqdm(disable=True) as progress:
        endpoint.drive(
            adapter,
            items,
            concurrency,
            lambda item, outcome: recorded.setdefault(item.id, []).append(outcome),
            progress,
        )
    return recorded


def test_every_item_is_recorded_once_and_retries_are_counted():
    adapter = Scripted({"3": 2, "5": 99})
    recorded = drive(adapter, [str(i) for i in range(40)])
    assert sorted(recorded, key=int) == [str(i) for i in range(40)]
    assert all(len(outcomes) == 1 for outcomes in recorded.values())
    assert recorded["3"][0].usage.attempts == 3
    assert recorded["0"][0].usage.attempts == 1
    assert recorded["0"][0].usage.latency_s > 0
    (failed,) = recorded["5"]
    assert isinstance(failed, Failed)
    assert (failed.error_type, failed.usage.attempts) == ("http-500", endpoint.Patience().attempts)
    assert adapter.asked["5"] == endpoint.Patience().attempts


def test_never_more_at_once_than_allowed():
    adapter = Scripted({})
    drive(adapter, map(str, range(60)), concurrency=7)
    assert adapter.most_running == 7


def test_what_cannot_succeed_is_asked_once():
    adapter = Scripted({"1": 99}, error=ValueError("no such model"))
    recorded = drive(adapter, ["0", "1"])
    assert adapter.asked == {"0": 1, "1": 1}
    assert recorded["1"][0].error_type == "ValueError"


def test_a_user_error_stops_everything():
    adapter = Scripted({"1": 99}, error=UserError("the key is wrong"))
    with pytest.raises(UserError, match="the key is wrong"):
        drive(adapter, map(str, range(1, 2000)), concurrency=1)
    assert len(adapter.asked) == 1


class OutOfCredits(Scripted):
    """Says so to one item while the others are under way, answers some of those later, and never the last one."""

    def __init__(self):
        super().__init__({})
        self.settled, self.refused = asyncio.Event(), asyncio.Event()

    async def answer(self, item):
        self.asked[item.id] = self.asked.get(item.id, 0) + 1
        if item.id == "refused":
            await self.settled.wait()
            while len(self.asked) < 4:
                await asyncio.sleep(0)
            self.refused.set()
            raise UserError("no credits left")
        if item.id != "first":
            await self.refused.wait()
            await asyncio.sleep(0.01)
        self.settled.set()
        if item.id == "busy":
            raise RetryableError("busy", 60.0, kind="http-429")
        return Answer("joy", "because")


def test_requests_under_way_are_answered_before_a_user_error_stops_everything():
    adapter, recorded = OutOfCredits(), {}
    with pytest.raises(UserError, match="no credits left"):
        drive(adapter, ["first", "refused", "paid", "busy", *map(str, range(100))], concurrency=4, recorded=recorded)
    assert recorded.keys() >= {"first", "paid"}
    assert recorded.keys() & {"refused", "busy"} == set()
    assert len(adapter.asked) <= 6
    assert set(adapter.asked.values()) == {1}


def test_the_first_request_of_all_says_for_the_others_that_none_can_succeed():
    adapter = Scripted({"0": 99}, error=UserError("the key is wrong"))
    adapter.failures = dict.fromkeys(map(str, range(100)), 99)
    with pytest.raises(UserError, match="the key is wrong"):
        drive(adapter, map(str, range(100)), concurrency=8)
    assert len(adapter.asked) <= 8


class Hours:
    """A clock on which waiting takes no time."""

    def __init__(self):
        self.time, self.waits = 0.0, []

    async def sleep(self, seconds):
        self.waits.append(seconds)
        self.time += seconds


def retried(error, patience=None):
    """How often an action that always fails so is tried, and how long that takes."""
    hours, tries = Hours(), []

    async def action():
        tries.append(1)
        raise error

    with pytest.raises(RetryableError):
        asyncio.run(endpoint.with_retries(action, patience, endpoint.Clock(now=lambda: hours.time, sleep=hours.sleep)))
    return len(tries), hours.time


def test_waiting_doubles_up_to_a_limit_and_obeys_the_server():
    patience = endpoint.Patience()
    random.seed(0)
    for attempt, ceiling in [(1, 0.5), (2, 1.0), (3, 2.0), (20, endpoint.LONGEST_WAIT_S), (9999, 60.0)]:
        waits = [patience.wait_s(attempt, None) for _ in range(200)]
        assert ceiling / 2 <= min(waits) <= max(waits) <= ceiling
    assert 3.0 <= patience.wait_s(1, 3.0) <= 3.3
    assert patience.wait_s(1, 1e9) <= 1.1 * endpoint.LONGEST_WAIT_S


def test_what_is_broken_is_tried_six_times_and_what_is_busy_for_two_minutes_or_as_it_says():
    assert retried(RetryableError("broken", kind="http-500"))[0] == 6
    for kind in ("http-429", "http-503", "http-529"):
        tries, seconds = retried(RetryableError("loading", kind=kind))
        assert tries > 6
        assert 120 <= seconds <= 180
    assert 300 <= retried(RetryableError("full", 300.0, kind="http-429"))[1] <= 370
    assert 600 <= retried(RetryableError("tomorrow", 86400.0, kind="http-429"))[1] <= 670
    assert retried(RetryableError("busy", kind="http-429"), endpoint.Patience(busy_s=0.0))[0] == 6


@pytest.mark.parametrize("told_s", [0.0, 0.001, -5.0])
def test_who_says_at_once_for_ever_is_not_asked_without_end(told_s):
    for first_wait_s, most in ((0.5, 16), (0.0, 32)):
        patience = endpoint.Patience(first_wait_s=first_wait_s)
        tries, seconds = retried(RetryableError("now", told_s, kind="http-429"), patience)
        assert tries <= most
        assert 120 <= seconds <= 180

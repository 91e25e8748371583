"""How many requests may be under way, and how many may start in a minute."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

SHRINK, SHRINK_WHEN_SLOW = 0.7, 0.9
SLOW = 2.5
"""A window whose median latency exceeds this many times the best window's says that the endpoint is overloaded."""
SMALLEST_WINDOW = 10
BURST_S = 1.0
WINDOW_S = 60.0


@dataclass(frozen=True)
class Clock:
    """The time in seconds, and how to wait; tests bring their own."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep


@dataclass
class Place:
    """A request's place among those under way, and what is said when it is given back.

    Attributes:
        entered: when it was given.
        answered: the endpoint answered; its latency counts.
        overloaded: the endpoint said that there are too many requests, or took too long.
        pause_s: seconds during which no request may start.
    """

    entered: float
    answered: bool = False
    overloaded: bool = False
    pause_s: float = 0.0


class AdaptiveLimit:
    """A bound on concurrent requests that follows what the endpoint can bear: it grows slowly and shrinks at once.

    It starts at `most`. An overload (429, 503, time-out) takes it to 0.7 of itself, once per generation of requests; a
    window of answers much slower than the best one to 0.9; every answer in time adds 1/limit.

    Args:
        most: the largest number of requests at once.
    """

    def __init__(self, most: int, clock: Clock | None = None) -> None:
        self.most = most
        self.limit = float(most)
        self.running = 0
        self.clock = clock or Clock()
        self._shrunk_at = float("-inf")
        self._resume_at = float("-inf")
        self._latencies: list[float] = []
        self._best = float("inf")
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[Place]:
        """Wait for a place; it is given back at the end, with what was noted in it."""
        while (pause := self._resume_at - self.clock.now()) > 0 or self.running >= int(self.limit):
            await (self.clock.sleep(pause) if pause > 0 else self._changed.wait())
        self.running += 1
        place = Place(self.clock.now())
        try:
            yield place
        finally:
            self.running -= 1
            self._learn(place)
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

    def _learn(self, place: Place) -> None:
        now = self.clock.now()
        self._resume_at = max(self._resume_at, now + place.pause_s)
        if place.overloaded and place.entered > self._shrunk_at:
            self._shrink(SHRINK, now)
        elif place.answered:
            self.limit = min(float(self.most), self.limit + 1 / self.limit)
            self._latencies.append(now - place.entered)
            if len(self._latencies) >= max(SMALLEST_WINDOW, int(self.limit)):
                median = statistics.median(self._latencies)
                self._best = min(self._best, median)
                self._latencies.clear()
                if median > SLOW * self._best:
                    self._shrink(SHRINK_WHEN_SLOW, now)

    def _shrink(self, factor: float, now: float) -> None:
        self.limit = max(1.0, self.limit * factor)
        self._shrunk_at = now
        self._latencies.clear()


@dataclass
class PerMinute:
    """At most `rate` units in any minute, evenly, with bursts of a second (the generic cell rate algorithm).

    Attributes:
        rate: units per minute.
    """

    rate: float
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self._per_s = self.rate / (WINDOW_S + BURST_S)
        self._due = float("-inf")

    async def take(self, amount: float) -> None:
        """Wait until `amount` units may be used."""
        now = self.clock.now()
        due = max(self._due, now - BURST_S)
        self._due = due + amount / self._per_s
        if due > now:
            await self.clock.sleep(due - now)

    def correct(self, amount: float) -> None:
        """Count `amount` more units (fewer when negative) than were taken."""
        self._due += amount / self._per_s

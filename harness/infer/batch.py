"""Asking through a Batch API: write a file, upload it, start a batch, wait, read what came back; each step resumes."""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from harness.adapters.base import Batches, EndpointAdapter
from harness.atomic import write_atomically
from harness.infer.endpoint import (
    Budget,
    BudgetReached,
    Patience,
    Record,
    billed_usd,
    open_endpoint,
    run_until_interrupted,
    with_retries,
)
from harness.infer.throttle import Clock
from harness.store.run_folder import to_json
from harness.types import Failed, ImageError, Item, Outcome, RetryableError, Usage, UserError

MOST_JOBS_PER_ITEM = 3
T = TypeVar("T")


# -------------------------------------------------------------------------------------------------- what was sent where


@dataclass
class Job:
    """One batch.

    Attributes:
        key: sent along with the batch, so that one started just before a crash is found again.
        ids: the items in it.
        left: those whose outcome is not recorded, nor left to another job.
        file, batch: the endpoint's ids of input file and batch, once they are known.
    """

    key: str
    ids: list[str]
    left: list[str]
    file: str | None = None
    batch: str | None = None


class Jobs:
    """All jobs of one row, kept beside its outcomes in a file that is written before and after every step.

    Args:
        path: the file; read when it exists.

    Raises:
        UserError: the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            loaded = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
            self.jobs = [Job(**job) for job in loaded]
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{path}: cannot be read ({error}); it records which batches were paid for") from None

    def add(self, ids: Sequence[str]) -> Job:
        """A new job for some items."""
        job = Job(uuid.uuid4().hex, list(ids), list(ids))
        self.jobs.append(job)
        self.save()
        return job

    def save(self) -> None:
        """Write the file."""
        write_atomically(self.path, to_json([dataclasses.asdict(job) for job in self.jobs]))

    def open(self) -> list[Job]:
        """Jobs of which outcomes are still to be recorded."""
        return [job for job in self.jobs if job.left]

    def attempts(self, item: str) -> int:
        """How many jobs held an item."""
        return sum(item in job.ids for job in self.jobs)


# ------------------------------------------------------------------------------------------------------------- driving


def drive_batches(
    adapter: EndpointAdapter,
    batches: Batches,
    items: Iterable[Item],
    state: Path,
    record: Record,
    progress: tqdm[Any],
    budget: Budget | None = None,
    clock: Clock | None = None,
) -> None:
    """Ask about all items in batches and record each outcome.

    Args:
        items: read once the endpoint was checked.
        state: file that remembers the jobs; the same file resumes them.

    Raises:
        UserError: the endpoint refuses, or the budget is too small for all items; outcomes so far are recorded.
    """
    try:
        run_until_interrupted(_BatchDrive(adapter, batches, Jobs(state), record, progress, budget, clock).run(items))
    except BudgetReached:
        assert budget is not None
        raise budget.reached() from None


class _BatchDrive:
    """One row's batches, in one event loop."""

    def __init__(
        self,
        adapter: EndpointAdapter,
        batches: Batches,
        jobs: Jobs,
        record: Record,
        progress: tqdm[Any],
        budget: Budget | None,
        clock: Clock | None,
    ) -> None:
        self.adapter, self.batches, self.jobs, self.budget = adapter, batches, jobs, budget
        self.waiting: dict[str, Item] = {}
        self._record, self.progress = record, progress
        self.clock, self.patience = clock or Clock(), Patience.of(adapter)

    async def run(self, items: Iterable[Item]) -> None:
        """Finish jobs of an earlier command, then make new ones until every item is recorded."""
        try:
            await open_endpoint(self.adapter, self.budget, self.clock)
            self.waiting = {item.id: item for item in items}
            while self.waiting:
                for job in self.jobs.open():
                    if job.batch is None:
                        await self._start(job)
                if not self._make_jobs():
                    for job in self.jobs.open():
                        await self._finish(job)
        finally:
            await self.adapter.aclose()

    def _make_jobs(self) -> bool:
        """New jobs for items that are in none, no larger than the endpoint takes and no dearer than is allowed.

        Returns:
            Whether there are any.

        Raises:
            BudgetReached: nothing is under way and not even one more item can be paid for.
        """
        under_way = {identifier for job in self.jobs.open() for identifier in job.left}
        free = [item for identifier, item in self.waiting.items() if identifier not in under_way]
        affordable: list[str] = []
        usd = sum(self._most_usd(self.waiting[i]) for i in under_way if i in self.waiting)
        for item in free:
            usd += self._most_usd(item)
            if self.budget is not None and not self.budget.fits(usd):
                break
            affordable.append(item.id)
        if free and not affordable and not under_way:
            raise BudgetReached
        for start in range(0, len(affordable), self.batches.most_requests):
            self.jobs.add(affordable[start : start + self.batches.most_requests])
        return bool(affordable)

    def _most_usd(self, item: Item) -> float:
        if self.budget is None:
            return 0.0
        most = self.adapter.max_usage(item).cost_usd
        if most is None:
            raise UserError("--max-cost: the price of this model is unknown")
        return most

    async def _finish(self, job: Job) -> None:
        """Wait for a batch and record what came back; what may succeed in another batch waits for it.

        Raises:
            UserError: the endpoint refused the batch as a whole; its items are free for another one.
        """
        state = await self._done(lambda: self.batches.state(job.batch or ""))
        while not state.ended:
            self.progress.set_postfix({"batch": job.batch, "answered": state.answered}, refresh=True)
            await self.clock.sleep(self.batches.poll_s)
            state = await self._done(lambda: self.batches.state(job.batch or ""))
        if state.refused:
            job.ids, job.left = [], []
            self.jobs.save()
            raise UserError(f"the endpoint refused batch {job.batch}: {state.refused}; repeat to send it anew")
        lines: dict[str, dict[str, Any]] = {}
        for name in state.files:
            lines |= await self._done(lambda name=name: self.batches.results(name))  # type: ignore[misc]
        known = [identifier for identifier in job.left if identifier in self.waiting]
        for identifier in known:
            attempts = self.jobs.attempts(identifier)
            try:
                outcome = self.batches.outcome(self.waiting[identifier], lines.get(identifier))
            except RetryableError as error:
                if attempts < MOST_JOBS_PER_ITEM:  # the item waits for another job; this request is paid for
                    self.adapter.spent_usd += error.cost_usd or 0.0
                    if self.budget is not None:
                        self.budget.spent_usd += error.cost_usd or 0.0
                    continue
                outcome = Failed(error.kind, str(error), usage=Usage(cost_usd=error.cost_usd))
            unknown = self.adapter.max_usage(self.waiting[identifier]).cost_usd if billed_usd(outcome) is None else None
            usage = dataclasses.replace(outcome.usage, attempts=attempts, reserve_usd=unknown)
            self.record(identifier, dataclasses.replace(outcome, usage=usage))
        job.left = [identifier for identifier in job.left if identifier not in known]
        self.jobs.save()

    async def _start(self, job: Job) -> None:
        """Upload and start a job, unless that happened just before an earlier command was killed.

        Images that cannot be read are recorded; what is too much for one file is free for another job.
        """
        if job.file is None:
            content = self.jobs.path.with_suffix(f".{job.key}.jsonl")
            content.parent.mkdir(parents=True, exist_ok=True)
            written: list[str] = []
            try:
                with content.open("w", encoding="utf-8") as file:
                    for identifier in job.ids:
                        if identifier not in self.waiting:
                            continue
                        try:
                            line = self.batches.line(self.waiting[identifier])
                        except ImageError as error:
                            self.record(identifier, Failed("ImageError", str(error)))
                            continue
                        if written and file.tell() + len(line.encode()) > self.batches.most_bytes:
                            break
                        file.write(line)
                        written.append(identifier)
                job.ids, job.left = written, list(written)
                self.jobs.save()
                if not written:
                    return
                job.file = await self._done(lambda: self.batches.upload(content))
            finally:
                content.unlink(missing_ok=True)
            self.jobs.save()
        job.batch = await self._done(lambda: self._found_or_created(job))
        self.jobs.save()

    async def _found_or_created(self, job: Job) -> str:
        assert job.file is not None
        return await self.batches.find(job.key) or await self.batches.create(job.file, job.key)

    def record(self, identifier: str, outcome: Outcome) -> None:
        """Hand an outcome on; its item waits no longer."""
        self._record(self.waiting.pop(identifier), outcome)
        if self.budget is not None:
            self.budget.spent_usd += (outcome.usage.cost_usd or 0.0) + (outcome.usage.reserve_usd or 0.0)
        self.progress.update()

    async def _done(self, step: Callable[[], Awaitable[T]]) -> T:
        """What a step of a batch gives.

        Raises:
            UserError: it failed, as often as it was tried.
        """
        try:
            return await with_retries(step, self.patience, self.clock)
        except RetryableError as error:
            raise UserError(f"the endpoint does not answer ({error.kind}): {error}; repeat to go on") from None

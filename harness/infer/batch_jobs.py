"""The record of batch jobs beside a run's outcomes: what was sent where, so that nothing is paid for twice."""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.atomic import write_atomically
from harness.store.run_folder import to_json
from harness.types import UserError


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
    """All jobs of one row, kept in a file that is written before and after every step.

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

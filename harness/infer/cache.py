"""The response cache: what a model once said to a prompt about an image need not be asked, or paid for, again.

An entry's key is a SHA-256 over everything that an answer depends on: the adapter and its code, endpoint or weights
and generation settings, the rendered prompt, the labels, and the image's bytes. Failures and refusals are never kept.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import inspect
import json
import sqlite3
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.environment import __version__
from harness.store.outcomes import outcome_from_json, outcome_to_json
from harness.types import Answer, Item, Outcome, Unparsed, UserError

if TYPE_CHECKING:
    from harness.adapters.base import Adapter

TABLE = (
    "CREATE TABLE IF NOT EXISTS responses "
    "(key TEXT PRIMARY KEY, model TEXT NOT NULL, outcome TEXT NOT NULL, asked TEXT) WITHOUT ROWID"
)
INDEX = "CREATE INDEX IF NOT EXISTS responses_by_model ON responses (model)"
WRITE_EVERY_S = 1.0
KNOWN = "SELECT count(*), min(asked), max(asked) FROM responses WHERE model = ?"


def model_identity(adapter: Adapter, cache_key: Mapping[str, Any]) -> dict[str, Any]:
    """Who answers: the adapter's class and its source file, the harness's version, and `cache_key`."""
    cls = type(adapter)
    source = Path(inspect.getfile(cls)).read_bytes()
    code = {"class": cls.__qualname__, "harness": __version__, "source": hashlib.sha256(source).hexdigest()}
    return {"adapter": adapter.name, "code": code, "answers_depend_on": dict(cache_key)}


class ResponseCache:
    """The entries of one model in an SQLite file that all runs share; a thread of its own reads and writes it.

    The file is opened when the first item is looked for: what an endpoint serves is only known once it was asked.

    Args:
        root: the data root; the file is made below it when absent.
        adapter: whose answers they are.
        cache_key: `Adapter.cache_key` of the loaded, opened adapter; if it gives None, nothing is found or kept.
    """

    def __init__(self, root: Path, adapter: Adapter, cache_key: Callable[[], Mapping[str, Any] | None]) -> None:
        self.path = root / "cache" / "responses.sqlite"
        self._adapter, self._cache_key = adapter, cache_key
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="response-cache")
        self._database: sqlite3.Connection | None = None
        self._model: str | None = None
        self._knows_any, self._opened = False, False
        self._failure: BaseException | None = None
        self._kept: list[tuple[Item, Outcome, datetime]] = []
        self._handed_over_at = float("-inf")

    def find(self, item: Item) -> Outcome | None:
        """What is cached about an item; usage says so, and that it cost nothing.

        None for every item if the cache knew nothing of this model when it was opened.

        Raises:
            UserError: the file cannot be opened or is no such database.
        """
        if not self._opened:
            self._open()
        return self._thread.submit(self._find, item).result() if self._knows_any else None

    def store(self, item: Item, outcome: Outcome) -> None:
        """Keep an answer, or a text without a readable label, in the background; nothing else is kept."""
        if self._model is not None and (
            isinstance(outcome, Answer) or (isinstance(outcome, Unparsed) and outcome.raw.strip())
        ):
            self._kept.append((item, outcome, datetime.now(UTC)))
            if time.monotonic() - self._handed_over_at >= WRITE_EVERY_S:
                self._hand_over()

    def close(self) -> None:
        """Finish writing. A cache that could not be written is worth a warning: the answers are in the run."""
        if self._database is not None:
            self._hand_over()
            self._thread.submit(self._database.close).add_done_callback(self._note)
        self._thread.shutdown(wait=True)
        if self._failure is not None:
            print(f"harness: response cache {self.path}: {self._failure}; no answer is lost", file=sys.stderr)

    def _open(self) -> None:
        self._opened = True
        cache_key = self._cache_key()
        if cache_key is None:
            return
        self._model = _digest(model_identity(self._adapter, cache_key))
        try:
            self._database = self._thread.submit(self._connect).result()
            count, first, last = self._thread.submit(self._database.execute, KNOWN, (self._model,)).result().fetchone()
        except (sqlite3.Error, OSError) as error:
            raise UserError(f"response cache {self.path}: {error}; delete the file, or add --no-cache") from error
        self._knows_any = count > 0
        if count:
            days = " to ".join(dict.fromkeys(day[:10] for day in (first, last) if day)) or "of an unknown day"
            print(
                f"harness: {self._adapter.name}: {count} answers of this model are in the response cache ({days}); "
                "they are used for what is asked again (--no-cache asks anew)",
                file=sys.stderr,
            )

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(self.path, timeout=30.0, check_same_thread=False)
        with contextlib.suppress(sqlite3.OperationalError):  # network file systems lack shared memory
            database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute(TABLE)
        if "asked" not in [column[1] for column in database.execute("PRAGMA table_info(responses)")]:
            database.execute("ALTER TABLE responses ADD COLUMN asked TEXT")  # a file of an earlier version
        database.execute(INDEX)
        database.commit()
        return database

    def _find(self, item: Item) -> Outcome | None:
        assert self._database is not None
        key = self._key(item)
        row = self._database.execute("SELECT outcome FROM responses WHERE key = ?", (key,)).fetchone()
        if key is None or row is None:
            return None
        _, outcome = outcome_from_json(json.loads(row[0]))
        usage = dataclasses.replace(outcome.usage, cost_usd=0.0, attempts=0, cached=True, reserve_usd=None)
        return dataclasses.replace(outcome, usage=usage)

    def _hand_over(self) -> None:
        """Let the thread write what was kept."""
        kept, self._kept, self._handed_over_at = self._kept, [], time.monotonic()
        self._thread.submit(self._write, kept).add_done_callback(self._note)

    def _write(self, kept: Sequence[tuple[Item, Outcome, datetime]]) -> None:
        """Write in one transaction: other processes may want to write in between."""
        assert self._database is not None
        rows = [
            (
                key,
                self._model,
                json.dumps(outcome_to_json("", outcome), allow_nan=False),
                at.isoformat(timespec="seconds"),
            )
            for item, outcome, at in kept
            if (key := self._key(item)) is not None
        ]
        self._database.executemany("INSERT OR REPLACE INTO responses VALUES (?, ?, ?, ?)", rows)
        self._database.commit()

    def _note(self, done: Future[None]) -> None:
        self._failure = self._failure or done.exception()

    def _key(self, item: Item) -> str | None:
        """The entry's key; None for an image that cannot be read."""
        try:
            with item.image.open("rb") as file:
                image = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return None
        asked = {"prompt": item.prompt, "labels": list(item.labels), "ratings": dict(item.ratings)}
        return _digest({"model": self._model, "picture": image, "explanations": item.explanations} | asked)


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()

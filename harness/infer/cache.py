"""The response cache: what a model once said to a prompt about a picture need not be asked, or paid for, again.

An entry's key is a SHA-256 over everything that an answer depends on: the adapter and its code, endpoint or weights
and generation settings, the rendered prompt, the labels, and the picture's bytes. Failures and refusals are never kept.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import inspect
import json
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.store.outcomes import outcome_from_json, outcome_to_json
from harness.types import Answer, Item, Outcome, Unparsed, UserError
from harness.version import __version__

if TYPE_CHECKING:
    from harness.adapters.base import Adapter

TABLE = (
    "CREATE TABLE IF NOT EXISTS responses "
    "(key TEXT PRIMARY KEY, model TEXT NOT NULL, outcome TEXT NOT NULL) WITHOUT ROWID"
)
INDEX = "CREATE INDEX IF NOT EXISTS responses_by_model ON responses (model)"


@contextlib.contextmanager
def cache_of(
    adapter: Adapter, depends_on: Mapping[str, Any] | None, root: Path, *, used: bool
) -> Iterator[ResponseCache | None]:
    """The entries of a model below a data root; None where it wants none, or none are to be used.

    Args:
        adapter: loaded or not.
        depends_on: `cache_key` of the loaded adapter.

    Raises:
        UserError: see `ResponseCache`.
    """
    if depends_on is None or not used:
        yield None
        return
    cache = ResponseCache(root / "cache" / "responses.sqlite", model_identity(adapter, depends_on))
    try:
        yield cache
    finally:
        cache.close()


def model_identity(adapter: Adapter, cache_key: Mapping[str, Any]) -> dict[str, Any]:
    """Who answers: the adapter's class and its source file, the harness's version, and `cache_key`."""
    cls = type(adapter)
    source = Path(inspect.getfile(cls)).read_bytes()
    code = {"class": cls.__qualname__, "harness": __version__, "source": hashlib.sha256(source).hexdigest()}
    return {"adapter": adapter.name, "code": code, "answers_depend_on": dict(cache_key)}


class ResponseCache:
    """The entries of one model in an SQLite file that all runs share; a thread of its own reads and writes it.

    Args:
        path: the database file, made when absent.
        model: see `model_identity`.

    Raises:
        UserError: the file cannot be opened or is no such database.
    """

    def __init__(self, path: Path, model: Mapping[str, Any]) -> None:
        self.path = path
        self._model = _digest(model)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="response-cache")
        self._failure: BaseException | None = None
        try:
            self._database = self._thread.submit(self._open).result()
            self._knows_any = self._thread.submit(self._count).result() > 0
        except (sqlite3.Error, OSError) as error:
            self._thread.shutdown()
            raise UserError(f"response cache {path}: {error}; delete the file, or add --no-cache") from error

    def find(self, item: Item) -> Outcome | None:
        """What is cached about an item; usage says so, and that it cost nothing.

        None for every item where the cache knew nothing of this model when it was opened.
        """
        return self._thread.submit(self._find, item).result() if self._knows_any else None

    def store(self, item: Item, outcome: Outcome) -> None:
        """Keep an answer, or a text without a readable label, in the background; nothing else is kept."""
        if isinstance(outcome, Answer) or (isinstance(outcome, Unparsed) and outcome.raw.strip()):
            self._thread.submit(self._store, item, outcome).add_done_callback(self._note)

    def close(self) -> None:
        """Finish writing. A cache that could not be written is worth a warning: the answers are in the run."""
        self._thread.submit(self._close).add_done_callback(self._note)
        self._thread.shutdown(wait=True)
        if self._failure is not None:
            print(f"harness: response cache {self.path}: {self._failure}; no answer is lost", file=sys.stderr)

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(self.path, timeout=30.0)
        with contextlib.suppress(sqlite3.OperationalError):  # network file systems lack shared memory
            database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute(TABLE)
        database.execute(INDEX)
        database.commit()
        return database

    def _count(self) -> int:
        row = self._database.execute(
            "SELECT EXISTS (SELECT 1 FROM responses WHERE model = ?)", (self._model,)
        ).fetchone()
        return int(row[0])

    def _find(self, item: Item) -> Outcome | None:
        key = self._key(item)
        row = self._database.execute("SELECT outcome FROM responses WHERE key = ?", (key,)).fetchone()
        if key is None or row is None:
            return None
        _, outcome = outcome_from_json(json.loads(row[0]))
        usage = dataclasses.replace(outcome.usage, cost_usd=0.0, attempts=0, cached=True)
        return dataclasses.replace(outcome, usage=usage)

    def _store(self, item: Item, outcome: Outcome) -> None:
        key = self._key(item)
        if key is None:
            return
        text = json.dumps(outcome_to_json("", outcome), allow_nan=False)
        self._database.execute("INSERT OR REPLACE INTO responses VALUES (?, ?, ?)", (key, self._model, text))
        self._database.commit()  # cheap in WAL mode, and other processes may want to write

    def _close(self) -> None:
        self._database.close()

    def _note(self, done: Future[None]) -> None:
        self._failure = self._failure or done.exception()

    def _key(self, item: Item) -> str | None:
        """The entry's key; None for a picture that cannot be read."""
        try:
            with item.image.open("rb") as file:
                picture = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return None
        asked = {"prompt": item.prompt, "labels": list(item.labels), "ratings": dict(item.ratings)}
        return _digest({"model": self._model, "picture": picture, "explanations": item.explanations} | asked)


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()

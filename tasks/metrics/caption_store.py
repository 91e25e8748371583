"""What the Java programs said before, kept in one SQLite file, so that scoring again takes seconds.

Entries are found by a hash of the texts and of the jar that was asked, so they never go stale. SQLite's transactions
make a killed process harmless: its last, unfinished batch is missing and is asked again. Hashes come in no order, so
that every entry goes to another page of the file: batches are sorted, entries small and the page cache holds them all.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias, TypeVar

import numpy as np

from harness.tasks.metrics.base import FloatArray

Pair: TypeAlias = tuple[str, str]
T = TypeVar("T")

_TABLES = (
    "CREATE TABLE IF NOT EXISTS tokens (key BLOB PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS matches (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
)
_AT_ONCE = 500
"""Keys in one query; older SQLite builds allow 999."""

_PATIENCE_S = 60.0
_ROWS_PER_COMMIT = 10_000
_CACHE_KIB = 32_000


class CaptionStore:
    """PTB tokens by text, METEOR's match statistics by (candidate, reference). Use as a context manager.

    Args:
        path: the file, made when it is first needed; one that is damaged or no database is replaced.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: sqlite3.Connection | None = None
        self._unwritten: dict[bytes, bytes] = {}

    @property
    def _database(self) -> sqlite3.Connection:
        if self._opened is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._opened = _open(self._path)
        return self._opened

    def __enter__(self) -> CaptionStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        try:
            self._write_matches()
        finally:
            self._disconnect()

    def tokens(self, jar: str, texts: Iterable[str]) -> dict[str, str]:
        """The tokens of those texts that are known."""
        return dict(self._find("tokens", ((_key(jar, text), text) for text in texts)))

    def add_tokens(self, jar: str, found: Mapping[str, str]) -> None:
        """Keep the tokens of texts."""
        texts = iter(found.items())
        while part := list(islice(texts, _ROWS_PER_COMMIT)):
            self._write("tokens", {_key(jar, text): tokens for text, tokens in part})

    def matches(self, jar: str, pairs: Iterable[Pair]) -> dict[Pair, FloatArray]:
        """The statistics (23,) of those pairs that are known."""
        keys = {_key(jar, *pair): pair for pair in pairs}
        found = {key: value for key in keys if (value := self._unwritten.get(key)) is not None}
        found |= self._find("matches", ((key, key) for key in keys if key not in found))
        return {keys[key]: np.frombuffer(value, dtype=np.uint16).astype(np.float64) for key, value in found.items()}

    def add_matches(self, jar: str, pairs: Sequence[Pair], statistics: FloatArray) -> None:
        """Keep the statistics (n, 23) of n pairs, which are numbers of words."""
        counts = statistics.astype(np.uint16)
        self._unwritten |= {_key(jar, *pair): row.tobytes() for pair, row in zip(pairs, counts, strict=True)}
        if len(self._unwritten) >= _ROWS_PER_COMMIT:
            self._write_matches()

    def _write_matches(self) -> None:
        if self._unwritten:
            self._write("matches", self._unwritten)
            self._unwritten = {}

    def _write(self, table: str, rows: Mapping[bytes, str] | Mapping[bytes, bytes]) -> None:
        self._on_sound_file(partial(self._insert, table, sorted(rows.items())))

    def _insert(self, table: str, rows: Sequence[tuple[bytes, str | bytes]]) -> None:
        with self._database:
            self._database.executemany(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", rows)

    def _find(self, table: str, wanted: Iterable[tuple[bytes, T]]) -> Iterator[tuple[T, Any]]:
        """Values of those that are known, of (key, what it stands for)."""
        pairs = iter(wanted)
        while part := dict(islice(pairs, _AT_ONCE)):
            found = self._on_sound_file(partial(self._select, table, list(part)))
            yield from ((part[key], value) for key, value in found)

    def _select(self, table: str, keys: Sequence[bytes]) -> list[tuple[bytes, Any]]:
        marks = ",".join("?" * len(keys))
        return self._database.execute(f"SELECT key, value FROM {table} WHERE key IN ({marks})", keys).fetchall()

    def _on_sound_file(self, work: Callable[[], T]) -> T:
        """Do some work; if the file is damaged, on an empty one instead: all that it held can be asked again."""
        try:
            return work()
        except sqlite3.DatabaseError as error:
            is_damaged = type(error) is sqlite3.DatabaseError or "decode" in str(error)  # a text's bytes
            if not is_damaged:  # locked, full, not writable
                raise
        self._disconnect()
        for path in (self._path, Path(f"{self._path}-journal")):  # which SQLite would play back into the new file
            path.unlink(missing_ok=True)
        return work()

    def _disconnect(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=_PATIENCE_S)
    try:
        database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        for table in _TABLES:
            database.execute(table)
    except sqlite3.Error:
        database.close()
        raise
    return database


def _key(jar: str, *texts: str) -> bytes:
    """Of one text, or of several without line breaks, as tokens are."""
    data = "\n".join((jar, *texts)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=16).digest()

"""What the Java programs said before, kept in one SQLite file, so that scoring again takes seconds.

Entries are found by a hash of the texts and of the jar that was asked, so they never go stale. SQLite's transactions
make a killed process harmless: its last, unfinished batch is missing and is asked again.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np

from harness.tasks.metrics.base import FloatArray

Pair: TypeAlias = tuple[str, str]

_TABLES = (
    "CREATE TABLE IF NOT EXISTS tokens (key BLOB PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS matches (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
)
_AT_ONCE = 500
"""Keys in one query; older SQLite builds allow 999."""

_PATIENCE_S = 60.0


class CaptionStore:
    """PTB tokens by text, METEOR's match statistics by (candidate, reference). Use as a context manager.

    Args:
        path: the file, made when it is first needed; one that is no database is replaced.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: sqlite3.Connection | None = None

    @property
    def _database(self) -> sqlite3.Connection:
        if self._opened is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._opened = _open(self._path)
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):  # locked, full, not writable: its content is sound
                    raise
                self._path.unlink()
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
        if self._opened is not None:
            self._opened.close()

    def tokens(self, jar: str, texts: Iterable[str]) -> dict[str, str]:
        """The tokens of those texts that are known."""
        names = {_key(jar, text): text for text in texts}
        return {names[key]: value for key, value in self._find("tokens", names)}

    def add_tokens(self, jar: str, found: Mapping[str, str]) -> None:
        """Keep the tokens of texts."""
        rows = [(_key(jar, text), tokens) for text, tokens in found.items()]
        with self._database:
            self._database.executemany("INSERT OR REPLACE INTO tokens VALUES (?, ?)", rows)

    def matches(self, jar: str, pairs: Iterable[Pair]) -> dict[Pair, FloatArray]:
        """The statistics (23,) of those pairs that are known."""
        names = {_key(jar, *pair): pair for pair in pairs}
        found = self._find("matches", names)
        return {names[key]: np.frombuffer(value, dtype=np.float64) for key, value in found}

    def add_matches(self, jar: str, pairs: Sequence[Pair], statistics: FloatArray) -> None:
        """Keep the statistics (n, 23) of n pairs."""
        rows = [(_key(jar, *pair), row.tobytes()) for pair, row in zip(pairs, statistics, strict=True)]
        with self._database:
            self._database.executemany("INSERT OR REPLACE INTO matches VALUES (?, ?)", rows)

    def _find(self, table: str, wanted: Iterable[bytes]) -> Iterator[tuple[bytes, Any]]:
        keys = iter(wanted)
        while part := list(islice(keys, _AT_ONCE)):
            marks = ",".join("?" * len(part))
            yield from self._database.execute(f"SELECT key, value FROM {table} WHERE key IN ({marks})", part)


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=_PATIENCE_S)
    try:
        for table in _TABLES:
            database.execute(table)
    except sqlite3.Error:
        database.close()
        raise
    return database


def _key(jar: str, *texts: str) -> bytes:
    digest = hashlib.blake2b(jar.encode(), digest_size=16)
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.digest()

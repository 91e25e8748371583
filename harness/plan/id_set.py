"""Which examples are selected, and which are answered, in eight bytes each: all that a run holds of them at once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Self

import numpy as np

from harness.types import Failed, Outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DIGEST_BYTES = 8


def digest(example_id: str) -> int:
    """The first 64 bits of an id's BLAKE2b, an unsigned number."""
    data = example_id.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest(), "big")


class IdSet:
    """A set of ids that answers `in`, kept as sorted digests.

    Two of a million different ids have the same digest with a chance of 3e-8.

    Args:
        digests: (n,) uint64, in any order.
    """

    def __init__(self, digests: NDArray[np.uint64]) -> None:
        self._sorted = np.unique(digests)

    @classmethod
    def of(cls, ids: Iterable[str]) -> Self:
        """The set of some ids, which are read once."""
        return cls(np.fromiter(map(digest, ids), np.uint64))

    def __len__(self) -> int:
        return len(self._sorted)

    def __contains__(self, example_id: str) -> bool:
        wanted = np.uint64(digest(example_id))
        place = int(np.searchsorted(self._sorted, wanted))
        return place < len(self._sorted) and bool(self._sorted[place] == wanted)

    def __and__(self, other: IdSet) -> IdSet:
        return IdSet(np.intersect1d(self._sorted, other._sorted, assume_unique=True))

    def __sub__(self, other: IdSet) -> IdSet:
        return IdSet(np.setdiff1d(self._sorted, other._sorted, assume_unique=True))


class Recorded:
    """Which examples have an outcome, and which of those failed; an example's last outcome counts.

    Args:
        outcomes: ids with outcomes in the order in which they were recorded; read once, not kept.
    """

    def __init__(self, outcomes: Iterable[tuple[str, Outcome]]) -> None:
        kinds = np.dtype([("id", np.uint64), ("failed", np.bool_)])
        lines = np.fromiter(((digest(i), isinstance(outcome, Failed)) for i, outcome in outcomes), kinds)
        _, last = np.unique(lines["id"][::-1], return_index=True)
        latest = lines[::-1][last]
        self.answered = IdSet(latest["id"][~latest["failed"]])
        self.failed = IdSet(latest["id"][latest["failed"]])

    def __len__(self) -> int:
        return len(self.answered) + len(self.failed)

    def to_ask(self, selected: IdSet, *, retry_failed: bool) -> IdSet:
        """Those of `selected` that have no outcome, or a failed one where failures are asked again."""
        unanswered = selected - self.answered
        return unanswered if retry_failed else unanswered - self.failed

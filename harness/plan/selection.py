"""The examples that a run asks about: read from the dataset whenever they are needed, never all held at once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from harness.plan.id_set import IdSet
from harness.suggestions import nearest
from harness.types import Example, UserError

if TYPE_CHECKING:
    from harness.tasks.readers.base import Reader


class Selection:
    """The examples of a split that `--limit` and `--ids-file` leave, in the reader's order.

    Args:
        reader, split: where they come from.
        limit: the first so many only; None: all.
        ids: these only; None: all.

    Attributes:
        available: number of examples in the split before limit and ids.
        ids: what is selected, eight bytes per example.

    Raises:
        UserError: the split is empty, or holds none of an id.
    """

    def __init__(self, reader: Reader, split: str, limit: int | None, ids: frozenset[str] | None) -> None:
        self._reader, self._split, self._limit, self._wanted = reader, split, limit, ids
        self.available = 0
        unknown = set(ids or ())
        self.ids = IdSet.of(self._counted(unknown))
        task = reader.task.name
        if not self.available:
            raise UserError(f"task {task!r} has no examples in split {split!r}; {nearest('', reader.splits())}")
        if unknown:
            raise UserError(f"--ids-file: not in {task}/{split}: {', '.join(sorted(unknown)[:5])}")

    def _counted(self, unknown: set[str]) -> Iterator[str]:
        """The selected ids; the whole split is read, counted, and crossed off `unknown`."""
        chosen = 0
        for example in self._reader.examples(self._split):
            self.available += 1
            unknown.discard(example.id)
            if (self._wanted is None or example.id in self._wanted) and chosen != self._limit:
                chosen += 1
                yield example.id

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Example]:
        found = (example for example in self._reader.examples(self._split) if example.id in self.ids)
        return itertools.islice(found, len(self))

    def with_those_of(self, known: IdSet) -> Iterator[Example]:
        """The selected examples and those of `known`, in the reader's order."""
        return (e for e in self._reader.examples(self._split) if e.id in self.ids or e.id in known)

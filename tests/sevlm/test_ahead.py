"""Items made ahead: the same ones, not too many, in a thread that ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from sevlm.data import ahead


class Items:
    """Counts 0, 1, 2 ... up to an item that cannot be made; notes how many were and where."""

    def __init__(self, number: int, broken: int | None = None) -> None:
        self.number, self.broken = number, broken
        self.made = 0
        self.threads: set[int] = set()

    def __iter__(self) -> Iterator[int]:
        for item in range(self.number):
            self.threads.add(threading.get_ident())
            if item == self.broken:
                raise OSError("the disk is gone")
            self.made += 1
            yield item


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_all_items_come_in_order_from_another_thread(depth: int) -> None:
    items = Items(4)
    with ahead(iter(items), depth) as coming:
        assert list(coming) == [0, 1, 2, 3]
    assert len(items.threads) == 1
    assert threading.get_ident() not in items.threads


def test_no_more_is_made_than_asked_for_and_the_depth() -> None:
    items = Items(50)
    with ahead(iter(items), 3) as coming:
        for taken, _ in enumerate(coming, start=1):
            assert items.made <= taken + 3
            if taken == 10:
                break
    assert items.made <= 10 + 3


def test_what_cannot_be_made_is_told_where_it_is_asked_for() -> None:
    with ahead(iter(Items(9, broken=2)), 4) as coming:
        assert [next(coming), next(coming)] == [0, 1]
        with pytest.raises(OSError, match="the disk is gone"):
            next(coming)


def test_a_key_press_ends_the_thread() -> None:
    def interrupted() -> None:
        with ahead(iter(Items(9)), 2) as coming:
            next(coming)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

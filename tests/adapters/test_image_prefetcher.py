"""Pictures are decoded while the model answers, each once, and their failures stay their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from adapter_samples import LABELS, Picture, example
from PIL.Image import Image

from harness.adapters import LocalAdapter
from harness.adapters import local as decoding
from harness.adapters.local import ImagePrefetcher
from harness.infer.local import AUTO, Asked, BatchGrowth, InProcessModel
from harness.types import Answer, ImageError, Item, Outcome


def test_what_was_started_is_taken_in_order_and_decoded_once(
    picture: Picture, corrupt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []
    opened = decoding._open

    def counted(path: Path) -> object:
        decoded.append(path.name)
        return opened(path)

    monkeypatch.setattr(decoding, "_open", counted)
    paths = [picture("red", "a.png", (5, 4)), corrupt, picture("blue", "b.png", (7, 6))]
    ahead: ImagePrefetcher[Image] = ImagePrefetcher(lambda image: image)
    ahead.start(paths)
    first, broken, second, again = ahead.take([*paths, paths[0]])
    assert not isinstance(first, ImageError)
    assert not isinstance(second, ImageError)
    assert isinstance(broken, ImageError)
    assert (first.size, second.size, again) == ((5, 4), (7, 6), first)
    assert sorted(decoded) == sorted(path.name for path in paths)
    ahead.close()
    assert [p.size for p in ahead.take(paths[:1]) if not isinstance(p, ImageError)] == [(5, 4)]


def test_the_runner_announces_the_next_batch_before_this_one_is_answered(picture: Picture) -> None:
    class Slow(LocalAdapter):
        """Keeps what it was told to expect."""

        def __init__(self) -> None:
            self.expected: list[list[str]] = []

        def fingerprint(self) -> dict[str, object]:
            return {}

        def prefetch(self, items: Sequence[Item]) -> None:
            self.expected.append([item.id for item in items])

        def predict(self, items: Sequence[Item]) -> list[Outcome]:
            assert [item.id for item in items] == self.expected[-1][: len(items)]
            return [Answer(LABELS[0], "") for _ in items]

    adapter = Slow()
    examples = [example(str(i), picture("red", f"{i}.png")) for i in range(5)]
    asked = [Asked(Item(one.id, one.image, LABELS, "why?")) for one in examples]
    model = InProcessModel(adapter, None, "why, at length?")
    assert adapter.longest_prompt == "why, at length?"
    assert len(list(model.answers(asked, 2))) == 5
    assert adapter.expected == [["0", "1", "2", "3"], ["2", "3", "4"], ["4"]]


def test_batches_grow_until_they_answer_no_more_images_a_second(picture: Picture) -> None:
    growth = BatchGrowth(largest=8)
    for images, seconds in [(1, 1.0), (2, 1.0), (2, 9.0), (4, 1.9), (2, 0.1)]:  # the third was begun before it grew
        growth.note(images, seconds)
    assert growth.size == 2
    steady = BatchGrowth(largest=8)
    for size in (1, 2, 4, 8, 8, 8):
        assert steady.size == size
        steady.note(size, 1.0)

    class Counting(LocalAdapter):
        sizes: list[int] = []  # noqa: RUF012

        def fingerprint(self) -> dict[str, object]:
            return {}

        def predict(self, items: Sequence[Item]) -> list[Outcome]:
            self.sizes.append(len(items))
            return [Answer(LABELS[0], "") for _ in items]

    path = picture("red", "one.png")
    asked = [Asked(Item(str(number), path, LABELS, "why?")) for number in range(40)]
    answered = [item.id for item, _ in InProcessModel(Counting(), None).answers(asked, AUTO)]
    assert answered == [one.item.id for one in asked]
    assert (Counting.sizes[0], sum(Counting.sizes)) == (1, 40)

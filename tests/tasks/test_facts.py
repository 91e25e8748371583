"""What is counted of a task's data, against counts made by hand, and where it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.plan.models import ModelSpec
from harness.plan.plan import Options, make_plan, new_manifest
from harness.plan.registry import adapter_registry
from harness.tasks.readers.base import facts_of
from harness.types import Annotation, Example, histogram


def example(id_: str, split: str, image: str, *said: tuple[str, str]) -> Example:
    notes = tuple(Annotation(*one) for one in said)
    return Example(id_, Path(image), notes, histogram(notes), split)


def counted(
    examples: Sequence[Example], labels: tuple[str, ...] = ("awe", "fear", "joy")
) -> dict[str, tuple[int, str]]:
    return {row.what: (row.count, row.note) for row in facts_of(examples, labels)}


def test_splits_lengths_duplicates_and_labels_are_counted() -> None:
    found = counted(
        [
            example("1", "train", "a.jpg", ("awe", "one two three"), ("fear", "the same words")),
            example("2", "train", "a.jpg", ("awe", "one")),
            example("3", "test", "a.jpg", ("awe", "one two three four five")),
            example("4", "test", "b.jpg", ("fear", "the same words"), ("awe", "")),
        ]
    )
    assert found["examples"][0] == 4
    assert (found["examples in train"][0], found["examples in test"][0]) == (2, 2)
    # lengths 1, 3, 3, 3, 5
    assert found["words of an explanation"] == (3, "median words each; a quarter has at most 3, 95 % at most 3")
    assert found["images in several splits"] == (1, "a.jpg")
    assert found["explanations in several splits"] == (1, "the same words")
    assert (found["annotated awe"][0], found["annotated fear"][0], found["annotated joy"][0]) == (4, 2, 0)
    # -(2/3 log2 2/3 + 1/3 log2 1/3) = 0.918, log2 3 = 1.585
    assert found["labels that occur"] == (2, "entropy 0.92 of at most 1.58 bits")


def test_one_split_has_nothing_in_several_and_labels_alone_have_no_length() -> None:
    found = counted([example("1", "test", "a.jpg", ("joy", ""))])
    assert not {"images in several splits", "explanations in several splits", "words of an explanation"} & set(found)
    assert found["labels that occur"] == (1, "entropy 0.00 of at most 1.58 bits")


def test_a_manifest_keeps_them() -> None:
    plan = make_plan(["demo"], [ModelSpec("majority", "majority")], adapter_registry([]), Options(Path()))
    facts = {what: number for what, number, _ in new_manifest(plan, [])["tasks"][0]["facts"]}
    assert (facts["examples"], facts["images in several splits"]) == (174, 0)
    assert sum(facts[f"examples in {split}"] for split in ("train", "val", "test")) == 174

"""Items and examples made by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.types import Annotation, Example, Item, histogram

LABELS = ("awe", "contentment", "fear", "something else")
PROMPT = "Which emotion does this painting evoke, and why? Answer: <emotion> because <explanation>."

Picture = Callable[..., Path]


def item(identifier: str, image: Path, labels: tuple[str, ...] = LABELS) -> Item:
    return Item(identifier, image, labels, PROMPT)


def example(identifier: str, image: Path, *said: tuple[str, str], split: str = "train") -> Example:
    annotations = tuple(Annotation(emotion, explanation) for emotion, explanation in said)
    return Example(identifier, image, annotations, histogram(annotations), split)

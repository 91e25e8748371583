"""Worked examples from the training split, shown to a model before its question (few-shot prompting)."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.types import Example, UserError


@dataclass(frozen=True)
class Shot:
    """A training image and what one person said about it, in the form that the default prompt asks for."""

    id: str
    image: Path
    answer: str


def choose_shots(examples: Sequence[Example], count: int, seed: int) -> tuple[Shot, ...]:
    """Draw training images whose annotators mostly agreed, each emotion once before any comes twice.

    Raises:
        UserError: fewer such images than wanted.
    """
    by_emotion: dict[str, list[Shot]] = {}
    order = sorted(examples, key=lambda e: e.id)
    random.Random(seed).shuffle(order)
    for example in order:
        emotion = example.dominant_emotion
        said = next((a.explanation for a in example.annotations if a.emotion == emotion and a.explanation), None)
        if emotion is not None and said is not None:
            by_emotion.setdefault(emotion, []).append(Shot(example.id, example.image, f"{emotion} because {said}"))
    ranked = sorted(
        ((rank, place, shot) for place, shots in enumerate(by_emotion.values()) for rank, shot in enumerate(shots)),
        key=lambda entry: entry[:2],
    )
    if len(ranked) < count:
        raise UserError(f"shots={count}: only {len(ranked)} training images have a dominant emotion and a text")
    return tuple(shot for _, _, shot in ranked[:count])


def shots_identity(shots: Sequence[Shot]) -> list[dict[str, Any]]:
    """What was shown, as plain values: image digests and answers."""
    return [{"picture": hashlib.sha256(s.image.read_bytes()).hexdigest(), "answer": s.answer} for s in shots]

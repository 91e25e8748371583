"""The rows of people: one annotator, or half of an example's annotators, answers as if that were a model.

Their annotations are held out: scoring removes them from the references.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

from harness.adapters.base import LocalAdapter
from harness.types import Answer, Example, Failed, Item, Outcome


class Human(LocalAdapter):
    """Answers with one annotation of the example itself; scoring removes it from the references.

    Which one depends on `seed` and the example's id alone, so a smaller `--limit` or another order changes nothing.
    An example with fewer than two annotations would keep no reference: it is `Failed`, kind `TooFewAnnotations`.
    `emotion_probs` is absent: one person names one emotion.
    """

    name = "human"
    kind = "person"
    needs = frozenset({"references"})

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._examples: dict[str, Example] = {}

    def fingerprint(self) -> dict[str, Any]:
        """The rule and its seed."""
        return {"rule": "one annotation held out", "seed": self.seed, "version": 1}

    def attach(self, examples: Sequence[Example]) -> None:
        """Receive the examples with their annotations."""
        self._examples = {example.id: example for example in examples}

    def predict(self, items: Sequence[Item]) -> list[Outcome]:
        """One held-out annotation per item."""
        outcomes: list[Outcome] = []
        for example in (self._examples[item.id] for item in items):
            number = len(example.annotations)
            if number < 2:
                message = f"{number} annotation{'' if number == 1 else 's'}: holding one out leaves no reference"
                outcomes.append(Failed("TooFewAnnotations", message))
                continue
            index = held_out_index(self.seed, example.id, number)
            chosen = example.annotations[index]
            raw = f"{chosen.emotion} because {chosen.explanation}"
            outcomes.append(Answer(chosen.emotion, chosen.explanation, raw=raw, held_out=index))
        return outcomes


def held_out_index(seed: int, example_id: str, number: int) -> int:
    """Which of `number` annotations of an example is held out: uniform over seeds, fixed by (seed, id)."""
    digest = hashlib.sha256(f"{seed}\0{example_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % number


class Crowd(LocalAdapter):
    """Answers with the commonest label of half of the annotators; scoring removes that half from the references.

    The half is drawn by `seed` and the example's id alone (of an odd number, the larger part is left as references).
    Equally common labels are drawn among, so that no label is favoured. `explanation` is one of the half's texts with
    that label, `emotion_probs` are the half's shares. An example with fewer than two annotations is `Failed`, kind
    `TooFewAnnotations`.
    """

    name = "crowd"
    kind = "person"
    needs = frozenset({"references"})

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._examples: dict[str, Example] = {}

    def fingerprint(self) -> dict[str, Any]:
        """The rule and its seed."""
        return {"rule": "mode of half of the annotations, held out", "seed": self.seed, "version": 1}

    def attach(self, examples: Sequence[Example]) -> None:
        """Receive the examples with their annotations."""
        self._examples = {example.id: example for example in examples}

    def predict(self, items: Sequence[Item]) -> list[Outcome]:
        """The answer of half of each item's annotators."""
        outcomes: list[Outcome] = []
        for example in (self._examples[item.id] for item in items):
            said, number = example.annotations, len(example.annotations)
            if number < 2:
                few = f"{number} annotation{'' if number == 1 else 's'}"
                message = f"{few}: half of them leaves no reference or no answer"
                outcomes.append(Failed("TooFewAnnotations", message))
                continue
            order = drawn_order(self.seed, example.id, number)
            half = sorted(order[: number // 2])
            counts = Counter(said[i].emotion for i in half)
            # in drawn order, so that a tie is decided by the draw
            drawn = [said[i] for i in order if i in half]
            chosen = max(drawn, key=lambda annotation: counts[annotation.emotion])
            shares = {label: count / len(half) for label, count in sorted(counts.items())}
            raw = f"{chosen.emotion} because {chosen.explanation}"
            outcomes.append(Answer(chosen.emotion, chosen.explanation, shares, raw=raw, held_out=tuple(half)))
        return outcomes


def drawn_order(seed: int, example_id: str, number: int) -> list[int]:
    """The indexes 0..number-1 in an order that is fixed by (seed, id) and uniform over seeds."""

    def rank(index: int) -> bytes:
        return hashlib.sha256(f"crowd\0{seed}\0{example_id}\0{index}".encode()).digest()

    return sorted(range(number), key=rank)

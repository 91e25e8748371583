"""The crowd row: half of an example's annotators answer together, scored against the other half."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

from harness.adapters.base import LocalAdapter
from harness.types import Answer, Example, Failed, Item, Outcome


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
        return [self._answer(self._examples[item.id]) for item in items]

    def _answer(self, example: Example) -> Outcome:
        number = len(example.annotations)
        if number < 2:
            message = f"{number} annotation{'' if number == 1 else 's'}: half of them leaves no reference or no answer"
            return Failed("TooFewAnnotations", message)
        order = drawn_order(self.seed, example.id, number)
        half = sorted(order[: number // 2])
        counts = Counter(example.annotations[i].emotion for i in half)
        # in drawn order, so that a tie is decided by the draw
        chosen = max((i for i in order if i in half), key=lambda i: counts[example.annotations[i].emotion])
        emotion, explanation = example.annotations[chosen].emotion, example.annotations[chosen].explanation
        shares = {label: count / len(half) for label, count in sorted(counts.items())}
        raw = f"{emotion} because {explanation}"
        return Answer(emotion, explanation, shares, raw=raw, held_out=tuple(half))


def drawn_order(seed: int, example_id: str, number: int) -> list[int]:
    """The indexes 0..number-1 in an order that is fixed by (seed, id) and uniform over seeds."""

    def rank(index: int) -> bytes:
        return hashlib.sha256(f"crowd\0{seed}\0{example_id}\0{index}".encode()).digest()

    return sorted(range(number), key=rank)

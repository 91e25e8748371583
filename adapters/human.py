"""The human row: one annotation per example, held out, answers as if it were a model."""

from __future__ import annotations

import hashlib
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
        return [self._hold_out(self._examples[item.id]) for item in items]

    def _hold_out(self, example: Example) -> Outcome:
        number = len(example.annotations)
        if number < 2:
            message = f"{number} annotation{'' if number == 1 else 's'}: holding one out leaves no reference"
            return Failed("TooFewAnnotations", message)
        index = held_out_index(self.seed, example.id, number)
        chosen = example.annotations[index]
        raw = f"{chosen.emotion} because {chosen.explanation}"
        return Answer(chosen.emotion, chosen.explanation, raw=raw, held_out=index)


def held_out_index(seed: int, example_id: str, number: int) -> int:
    """Which of `number` annotations of an example is held out: uniform over seeds, fixed by (seed, id)."""
    digest = hashlib.sha256(f"{seed}\0{example_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % number

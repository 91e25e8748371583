"""The rows of people: one annotator, or half of an example's annotators, answers as if that were a model.

Their annotations are held out: scoring removes them from the references.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

from harness.adapters.base import LocalAdapter
from harness.types import Answer, Example, Failed, Item, Outcome


class _People(LocalAdapter):
    """Answers with annotations of the example itself; `too_few` says why one of them cannot be held out."""

    kind = "person"
    needs = frozenset({"references"})
    too_few: ClassVar[str]

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._examples: dict[str, Example] = {}

    def attach(self, examples: Sequence[Example]) -> None:
        """Receive the examples with their annotations."""
        self._examples = {example.id: example for example in examples}

    def predict(self, items: Sequence[Item]) -> list[Outcome]:
        """The held-out answer of each item."""
        outcomes: list[Outcome] = []
        for example in (self._examples[item.id] for item in items):
            number = len(example.annotations)
            if number < 2:
                message = f"{number} annotation{'' if number == 1 else 's'}: {self.too_few}"
                outcomes.append(Failed("TooFewAnnotations", message))
            else:
                outcomes.append(self.hold_out(example))
        return outcomes

    @abstractmethod
    def hold_out(self, example: Example) -> Answer:
        """The answer of some of an example's annotators; it has two at least."""


class Human(_People):
    """Answers with one annotation of the example itself; scoring removes it from the references.

    Which one depends on `seed` and the example's id alone, so a smaller `--limit` or another order changes nothing.
    An example with fewer than two annotations would keep no reference: it is `Failed`, kind `TooFewAnnotations`.
    `emotion_probs` is absent: one person names one emotion.
    """

    name = "human"
    too_few = "holding one out leaves no reference"

    def fingerprint(self) -> dict[str, Any]:
        """The rule and its seed."""
        return {"rule": "one annotation held out", "seed": self.seed, "version": 1}

    def hold_out(self, example: Example) -> Answer:
        """One annotation."""
        index = held_out_index(self.seed, example.id, len(example.annotations))
        chosen = example.annotations[index]
        raw = f"{chosen.emotion} because {chosen.explanation}"
        return Answer(chosen.emotion, chosen.explanation, raw=raw, held_out=index)


def held_out_index(seed: int, example_id: str, number: int) -> int:
    """Which of `number` annotations of an example is held out: uniform over seeds, fixed by (seed, id)."""
    digest = hashlib.sha256(f"{seed}\0{example_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % number


class Crowd(_People):
    """Answers with the commonest label of half of the annotators; scoring removes that half from the references.

    The half is drawn by `seed` and the example's id alone (of an odd number, the larger part is left as references).
    Equally common labels are drawn among, so that no label is favoured. `explanation` is one of the half's texts with
    that label, `emotion_probs` are the half's shares. An example with fewer than two annotations is `Failed`, kind
    `TooFewAnnotations`.
    """

    name = "crowd"
    too_few = "half of them leaves no reference or no answer"

    def fingerprint(self) -> dict[str, Any]:
        """The rule and its seed."""
        return {"rule": "mode of half of the annotations, held out", "seed": self.seed, "version": 1}

    def hold_out(self, example: Example) -> Answer:
        """The commonest label of half of the annotations, with one of its explanations."""
        said = example.annotations
        order = drawn_order(self.seed, example.id, len(said))
        half = sorted(order[: len(said) // 2])
        counts = Counter(said[i].emotion for i in half)
        # in drawn order, so that a tie is decided by the draw
        drawn = [said[i] for i in order if i in half]
        chosen = max(drawn, key=lambda annotation: counts[annotation.emotion])
        shares = {label: count / len(half) for label, count in sorted(counts.items())}
        raw = f"{chosen.emotion} because {chosen.explanation}"
        return Answer(chosen.emotion, chosen.explanation, shares, raw=raw, held_out=tuple(half))


def drawn_order(seed: int, example_id: str, number: int) -> list[int]:
    """The indexes 0..number-1 in an order that is fixed by (seed, id) and uniform over seeds."""

    def rank(index: int) -> bytes:
        return hashlib.sha256(f"crowd\0{seed}\0{example_id}\0{index}".encode()).digest()

    return sorted(range(number), key=rank)

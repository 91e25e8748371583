"""The baseline that looks at nothing: the commonest training label with its commonest explanation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from harness.adapters.base import LocalAdapter
from harness.types import Answer, Example, Item, Outcome, UserError


def commonest(counts: Mapping[str, int]) -> str:
    """The key with the highest count; the first in sorted order of equally common ones."""
    return min(counts, key=lambda name: (-counts[name], name))


def mean_ratings(examples: Sequence[Example]) -> dict[str, float] | None:
    """Mean per dimension over the examples that have it, on the task's scale; None if none is rated."""
    dimensions = sorted({dimension for example in examples for dimension in example.ratings})
    found = {d: [example.ratings[d] for example in examples if d in example.ratings] for d in dimensions}
    return {d: sum(values) / len(values) for d, values in found.items()} or None


class Majority(LocalAdapter):
    """Gives every example the same answer.

    `emotion` is the label of most training annotations, `explanation` the text that occurs most often with it (ties:
    the first in sorted order), `emotion_probs` the shares of all training annotators, that is, the prior; `ratings` the
    means of the training images' ratings, if there are any.
    """

    name = "majority"
    kind = "baseline"
    needs = frozenset({"train"})

    def __init__(self) -> None:
        self._answer: Answer | None = None
        self._counts: dict[str, int] = {}

    def fingerprint(self) -> dict[str, Any]:
        """The rule; the training data are fingerprinted with the task."""
        return {"rule": "commonest label, commonest explanation", "version": 1}

    def fit(self, examples: Sequence[Example]) -> None:
        """Count labels and explanations.

        Raises:
            UserError: the training examples hold no annotation.
        """
        annotations = [annotation for example in examples for annotation in example.annotations]
        if not annotations:
            raise UserError("majority: the training split holds no annotation; check it with: harness data check TASK")
        emotion = commonest(Counter(a.emotion for a in annotations))
        explanation = commonest(Counter(a.explanation for a in annotations if a.emotion == emotion))
        shares: Counter[str] = Counter()
        for example in examples:
            shares.update(example.emotion_histogram)
        prior = {label: count / shares.total() for label, count in sorted(shares.items())}
        raw = f"{emotion} because {explanation}"
        self._answer = Answer(emotion, explanation, prior, raw=raw, ratings=mean_ratings(examples))
        self._counts = {"training_examples": len(examples), "training_annotations": len(annotations)}

    def parameters(self) -> int:
        """Nothing is learned but counts."""
        return 0

    def runtime_info(self) -> dict[str, Any]:
        """How much was counted."""
        return dict(self._counts)

    def predict(self, items: Sequence[Item]) -> list[Outcome]:
        """The same answer for each item."""
        if self._answer is None:
            raise UserError("majority answers only after fit(training examples)")
        return [self._answer for _ in items]

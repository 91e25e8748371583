"""A made-up model: `harness run --tasks T --models warmth --adapter warmth=adapter_made_up.py:Warmth`."""

from collections.abc import Sequence
from typing import Any

from harness.adapters import LocalAdapter
from harness.types import Answer, Item, Outcome


class Warmth(LocalAdapter):
    """Takes the first label before warm pictures and the last one before cold ones."""

    name = "warmth"

    def __init__(self, threshold: float = 1.0) -> None:
        self.threshold = threshold

    def fingerprint(self) -> dict[str, Any]:
        """What the answers depend on."""
        return {"rule": "red against blue", "threshold": self.threshold}

    def predict(self, items: Sequence[Item]) -> list[Outcome]:
        """One outcome per item; a picture that cannot be decoded raises, and the harness records `failed`."""
        return [self._answer(item.labels, *item.open().resize((1, 1)).tobytes()) for item in items]

    def _answer(self, labels: Sequence[str], red: int, green: int, blue: int) -> Answer:
        warm = red > self.threshold * blue
        return Answer(labels[0 if warm else -1], f"the picture is {'warm' if warm else 'cold'} in colour")

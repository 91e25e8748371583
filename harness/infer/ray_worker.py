"""What runs on the nodes of a Ray cluster: an adapter built from its name and settings, loaded once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.infer.local import Asked, InProcessModel, ModelInfo
from harness.types import Example, Item, Outcome


@dataclass(frozen=True)
class Recipe:
    """How a worker builds its adapter.

    Attributes:
        adapter: registry name.
        arguments: keyword arguments of its class.
        definitions: `--adapter` values, with whole paths.
        folder: the command's working folder, which relative paths in the arguments mean; every node must see it.
        trained_on: the task whose training split the adapter gets, or None.
    """

    adapter: str
    arguments: Mapping[str, Any]
    definitions: tuple[str, ...]
    folder: str
    trained_on: str | None


class Worker:
    """A loaded model on some node; an instance lives in a Ray actor."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._model: InProcessModel

    def load(self, training: Sequence[Example] | None) -> ModelInfo:
        """Build the adapter and load its model.

        Raises:
            UserError: it cannot be had on this node.
        """
        from harness.plan.registry import adapter_registry

        os.chdir(self._recipe.folder)
        cls = adapter_registry(self._recipe.definitions).load(self._recipe.adapter)
        self._model = InProcessModel(cls(**self._recipe.arguments), training)
        return self._model.facts()

    def answer(self, shard: Sequence[Asked], batch_size: int) -> list[tuple[Item, Outcome]]:
        """Outcomes of a shard, in order."""
        return list(self._model.answers(shard, batch_size))

    def facts(self) -> ModelInfo:
        """What the model tells by now."""
        return self._model.facts()

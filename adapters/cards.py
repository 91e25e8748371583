"""Model cards: `adapters/cards/NAME.yaml` says what `--models NAME` stands for, its size and whose terms apply."""

from __future__ import annotations

import datetime
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from harness.yaml_file import Plain, Settings, Text, Texts, read_yaml

CARDS = Path(__file__).with_name("cards")
BYTES_PER_WEIGHT = 2
"""In the files on the hub, which nearly all hold bf16 or fp16."""


class ModelCard(Settings):
    """What is known about one model; the fields but `name` are the keys of its YAML file.

    Attributes:
        name: what to type in `--models`: the file's name without `.yaml`.
        title: for people.
        adapter: registry name of the adapter that asks it (`hf`, `openai`).
        checkpoint, revision: weights on the hub; None for an endpoint.
        model: what the endpoint calls it; None for local weights.
        billions: 10^9 weights, vision tower included; None: unknown.
        licence: as its makers' page names it; None: unknown. Read a licence yourself before you use a model.
        checked: when somebody last looked at these facts.
        requires: packages beyond the plain installation (`torchvision`).
        settings: of the adapter; the command line's win over them.
        traps: what has cost others a result, a sentence each.
    """

    name: str = ""
    title: Text
    adapter: Text
    checkpoint: Text | None = None
    model: Text | None = None
    revision: Text | None = None
    billions: float | None = Field(None, gt=0)
    licence: Text | None = None
    checked: datetime.date = Field(strict=False)
    requires: Texts = ()
    settings: dict[str, Plain] = Field(default_factory=dict)
    traps: Texts = ()

    @model_validator(mode="after")
    def _one_model(self) -> ModelCard:
        if (self.checkpoint is None) == (self.model is None):
            raise ValueError("expected either checkpoint (local weights) or model (an endpoint's name for it)")
        return self

    @property
    def parameters(self) -> int | None:
        """Number of weights, as far as it is known."""
        return None if self.billions is None else round(self.billions * 1e9)

    @property
    def download_gb(self) -> float | None:
        """Roughly what the weights take on disk; None for an endpoint, or if the size is unknown."""
        return None if self.checkpoint is None or self.billions is None else self.billions * BYTES_PER_WEIGHT

    def identity(self) -> dict[str, str]:
        """The settings that say which model it is."""
        named = {"checkpoint": self.checkpoint, "model": self.model, "revision": self.revision}
        return {key: value for key, value in named.items() if value is not None}

    def record(self) -> dict[str, Any]:
        """What a run keeps of the card and the report shows."""
        facts = self.model_dump(mode="json", include={"name", "title", "licence", "checked", "traps"})
        return facts | {"parameters": self.parameters}


def read_card(path: Path) -> ModelCard:
    """Read a card.

    Raises:
        UserError: no such file, or a key that is unknown, missing or of another type; with file and line.
    """
    return read_yaml(path, ModelCard).model_copy(update={"name": path.stem})


@cache
def card_names() -> tuple[str, ...]:
    """Names of the cards that come with the harness."""
    return tuple(sorted(path.stem for path in CARDS.glob("*.yaml")))


def find_card(name: str) -> ModelCard | None:
    """The card of that name, or at that path (`./mine.yaml`); None if there is none.

    Raises:
        UserError: the card cannot be read.
    """
    if name.endswith((".yaml", ".yml")):
        return read_card(Path(name).expanduser())
    return read_card(CARDS / f"{name}.yaml") if name in card_names() else None


def card_of(checkpoint: str) -> ModelCard | None:
    """The card of a checkpoint, given by its hub id."""
    cards = (read_card(CARDS / f"{name}.yaml") for name in card_names())
    return next((card for card in cards if card.checkpoint == checkpoint), None)

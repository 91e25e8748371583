"""Checkpoints known to work with the vision-language adapter, with their sizes and licences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

TABLE = Path(__file__).with_name("hf_presets.yaml")


@dataclass(frozen=True)
class Preset:
    """One checkpoint.

    Attributes:
        checkpoint: hub id.
        billions: 10^9 weights.
        licence: as its model card states it.
        note: what else to know.
    """

    checkpoint: str
    billions: float
    licence: str
    note: str = ""

    @property
    def setting(self) -> str:
        """What to type after `--models`."""
        return f"llava:checkpoint={self.checkpoint}"


def presets() -> list[Preset]:
    """The table, in its order."""
    return [Preset(**entry) for entry in yaml.safe_load(TABLE.read_text(encoding="utf-8"))["presets"]]

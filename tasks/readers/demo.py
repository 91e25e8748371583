"""The demonstration data that comes with the harness (`tasks/demo_data`, see its DATA_CARD.md)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from harness.tasks.readers.jsonl import JsonlReader

DEMO_DATA = Path(__file__).parent.parent / "demo_data"


class DemoReader(JsonlReader):
    """Reads the packaged examples file; needs no data root and no preparing."""

    options: ClassVar[tuple[str, ...]] = ()

    @property
    def path(self) -> Path:
        """The packaged examples file."""
        return DEMO_DATA / "examples.jsonl"

    def notes(self) -> list[str]:
        """The warning that belongs on every page made from this data."""
        return [
            "The demo's annotations are machine-written illustrations, not human judgements: "
            "its numbers show what the harness does and must never be reported as a result."
        ]

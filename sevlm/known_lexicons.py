"""Lexicon files that are known by their checksum: which one it is, its layout and the scale of its values."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class KnownLexicon:
    """A file whose bytes are known.

    Attributes:
        name: whose lexicon it is.
        layout: `nrc-vad`, `glasgow`, `warriner`, `vader` or `json`.
        scale: of the values, such as `0..1`.
        words: number of entries that are read from it.
        measured: the day on which it was read.
    """

    name: str
    layout: str
    scale: str
    words: int
    measured: str


@cache
def known_lexicons() -> dict[str, KnownLexicon]:
    """SHA-256 of a file -> what it is; another file is made known by adding it to this dictionary."""
    import yaml

    rows = yaml.safe_load(Path(__file__).with_name("lexicons.yaml").read_text(encoding="utf-8"))
    return {
        row["sha256"]: KnownLexicon(row["name"], row["layout"], row["scale"], row["words"], str(row["measured"]))
        for row in rows
    }

"""Affective lexicons: words with valence, arousal and dominance in -1..1.

No lexicon comes with this library. NRC-VAD, which the published SEVLM uses, is given out by its authors on request
(https://saifmohammad.com/WebPages/nrc-vad.html); Glasgow norms are CC BY 4.0. `VADLexicon.vader()` reads the file of
the installed vaderSentiment package: it knows **valence only**, so a model trained with it is not the published SEVLM.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sevlm.errors import SEVLMError
from sevlm.lexicon_formats import read_lexicon

DIMENSIONS = ("valence", "arousal", "dominance")


@dataclass(frozen=True)
class VADLexicon:
    """Words and their affect, on one scale whatever file they came from.

    Attributes:
        name: layout of the file, e.g. `nrc-vad-bipolar`, `glasgow`, `vader`.
        dimensions: what the lexicon measures: an ordered subset of `DIMENSIONS`.
        entries: word -> one value in -1..1 for each of `dimensions`, in their order. Look-up is by exact string.
    """

    name: str
    dimensions: tuple[str, ...]
    entries: Mapping[str, tuple[float, ...]]

    def __post_init__(self) -> None:
        """Refuse dimensions that nothing downstream could place."""
        known = tuple(name for name in DIMENSIONS if name in self.dimensions)
        if known != self.dimensions or not known:
            raise SEVLMError(f"lexicon dimensions must be a subset of {DIMENSIONS} in order, got {self.dimensions}")

    @classmethod
    def load(cls, path: Path | str) -> VADLexicon:
        """Read a lexicon file of any layout that `sevlm.lexicon_formats` knows.

        Raises:
            SEVLMError: the file is missing, unreadable or of no known layout; the message names the line.
        """
        found = read_lexicon(Path(os.path.expanduser(path)))
        return cls(found.name, found.dimensions, found.entries)

    @classmethod
    def vader(cls) -> VADLexicon:
        """The valence lexicon of the vaderSentiment package (MIT): no arousal, no dominance.

        Raises:
            SEVLMError: vaderSentiment is not installed.
        """
        from importlib.util import find_spec

        spec = find_spec("vaderSentiment")
        if spec is None or spec.origin is None:
            raise SEVLMError("lexicon 'vader' needs the package vaderSentiment; type: pip install vaderSentiment")
        return cls.load(Path(spec.origin).with_name("vader_lexicon.txt"))

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, word: object) -> bool:
        return word in self.entries

    @property
    def measured(self) -> tuple[bool, bool, bool]:
        """Whether valence, arousal and dominance are measured at all."""
        valence, arousal, dominance = (name in self.dimensions for name in DIMENSIONS)
        return valence, arousal, dominance

    @property
    def valence_only(self) -> bool:
        """True where two of the three dimensions of the published model are missing."""
        return self.dimensions == ("valence",)

    def get(self, word: str) -> tuple[float, float, float] | None:
        """Valence, arousal, dominance of exactly `word`, or None where it is unknown.

        A dimension that the lexicon does not measure is 0 here; `measured` tells it from a true 0.
        """
        found = self.entries.get(word)
        if found is None:
            return None
        values = dict(zip(self.dimensions, found, strict=True))
        valence, arousal, dominance = (values.get(name, 0.0) for name in DIMENSIONS)
        return valence, arousal, dominance

    def coverage(self, words: Iterable[str]) -> float:
        """Share of `words` (running words, repeats counted) that have an entry, in 0..1; 0 for no words."""
        known = [word in self.entries for word in words]
        return sum(known) / len(known) if known else 0.0

    def fingerprint(self) -> str:
        """SHA-256 of the dimensions and all entries to four decimals.

        Equal content gives an equal fingerprint, whatever the file's order or scale: NRC-VAD's 0..1 and bipolar files
        are one lexicon.
        """
        entries = sorted((word, [round(v, 4) + 0.0 for v in values]) for word, values in self.entries.items())
        content = json.dumps([self.dimensions, entries], ensure_ascii=False)
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


def load_lexicon(name_or_path: Path | str) -> VADLexicon:
    """`vader`, or the path of a lexicon file."""
    return VADLexicon.vader() if str(name_or_path) == "vader" else VADLexicon.load(name_or_path)

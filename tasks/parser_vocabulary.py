"""Which words name which label of a task: the label itself, its inflections, and a small table of synonyms."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

SYNONYMS: tuple[tuple[str, ...], ...] = (
    ("amusement", "amused"),
    ("awe", "awed", "awestruck", "awe-struck"),
    ("contentment", "content", "contented"),
    ("excitement", "excited"),
    ("anger", "angry"),
    ("disgust", "disgusted"),
    ("fear", "afraid", "scared", "fearful", "frightened"),
    ("sadness", "sad", "saddened"),
    ("something else", "other"),
    ("joy", "joyful", "happiness", "happy"),
    ("surprise", "surprised"),
    ("love", "loved"),
    ("trust", "trusting"),
    ("neutral", "neutrality"),
)
"""Words that name the same emotion. A label owns the words of its row, except those that are labels themselves;
a word that two labels of one task would own belongs to neither."""

SECTION_TITLES = frozenset({"content", "other"})
"""Synonyms that also title a section ("Content: the picture shows ..."), so never a label before a colon."""

EDGE_BEFORE = r"(?<![\w-])"
EDGE_AFTER = r"(?![\w-])"


@dataclass(frozen=True)
class Vocabulary:
    """The label names of one task, ready for matching.

    Attributes:
        pattern: regular expression source (no groups) that matches one name, longest first.
        labels: normalised name -> label.
    """

    pattern: str
    labels: dict[str, str]

    def label(self, words: str) -> str | None:
        """The label that `words` name, or None."""
        return self.labels.get(normalise(words))

    def named(self, text: str) -> Iterator[str]:
        """The labels named anywhere in `text`, in order, repeated as they are repeated."""
        for match in re.finditer(self.pattern, text, re.IGNORECASE):
            label = self.label(match[0])
            if label is not None:
                yield label


def normalise(words: str) -> str:
    """Case, spaces, hyphens and underscores do not tell names apart."""
    return re.sub(r"[\s_-]+", " ", words).strip().casefold()


@lru_cache(maxsize=64)
def vocabulary(labels: tuple[str, ...]) -> Vocabulary:
    """The names of `labels`; labels without any letter or digit have none and can never be answered."""
    names: dict[str, set[str]] = {}
    for label in labels:
        if re.search(r"\w", label):
            names.setdefault(normalise(label), set()).add(label)
    for name, owners in _synonyms(tuple(names)):
        if name not in names:
            names[name] = set().union(*(names[owner] for owner in owners))
    unique = {name: next(iter(owners)) for name, owners in names.items() if len(owners) == 1}
    longest_first = sorted(unique, key=len, reverse=True)
    alternatives = "|".join(r"[\s_-]+".join(map(re.escape, name.split(" "))) for name in longest_first)
    never = r"(?!)"
    return Vocabulary(f"{EDGE_BEFORE}(?:{alternatives or never}){EDGE_AFTER}", unique)


def _synonyms(label_names: Sequence[str]) -> Iterator[tuple[str, set[str]]]:
    """Each word of the table with the label names that share its row."""
    for row in SYNONYMS:
        words = [normalise(word) for word in row]
        owners = set(words) & set(label_names)
        if owners:
            yield from ((word, owners) for word in words)

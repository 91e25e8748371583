"""Which words name which label of a task: the label itself, its inflections, and a small table of synonyms."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from harness.tasks.parser.words import is_unspaced

SYNONYMS: tuple[tuple[str, ...], ...] = (
    ("amusement", "amused"),
    ("awe", "awed", "awestruck", "awe-struck", "awe-inspired", "awe-inspiring"),
    ("contentment", "content", "contented", "contentedness"),
    ("excitement", "excited"),
    ("anger", "angry"),
    ("disgust", "disgusted"),
    ("fear", "afraid", "scared", "fearful", "frightened", "fears"),
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
"""Synonyms that also title a section ("Content: the image shows ..."), so never a label before a colon."""


@dataclass(frozen=True)
class Mention:
    """A place that names a label: `text[start:end]`."""

    start: int
    end: int
    label: str
    name: str


@dataclass(frozen=True)
class LabelNames:
    """The names of one task's labels, ready for matching.

    Attributes:
        pattern: matches one name, the longest that fits.
        labels: normalised name -> label.
    """

    pattern: re.Pattern[str]
    labels: dict[str, str]

    def mentions(self, text: str, start: int = 0, end: int | None = None) -> Iterator[Mention]:
        """The places in `text[start:end]` that name a label, in order."""
        for match in self.pattern.finditer(text, start, len(text) if end is None else end):
            name = normalise(match[0])
            label = self.labels.get(name) or self.labels.get(name.replace(" ", ""))
            if label is not None:
                yield Mention(match.start(), match.end(), label, name)

    def at(self, text: str, start: int) -> Mention | None:
        """The mention that starts at `start`, or None."""
        match = self.pattern.match(text, start)
        return None if match is None else next(self.mentions(text, start, match.end()), None)


def normalise(words: str) -> str:
    """Case, spaces, hyphens and underscores do not tell names apart."""
    return re.sub(r"[\s_-]+", " ", words).strip().casefold()


@lru_cache(maxsize=64)
def label_names(labels: tuple[str, ...]) -> LabelNames:
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
    glued = {name.replace(" ", ""): label for name, label in unique.items() if " " in name}
    return LabelNames(_pattern(longest_first), glued | unique)


def _pattern(names: Sequence[str]) -> re.Pattern[str]:
    """Any of the names as whole words; "something else" may be written as one, and some scripts put no blanks."""
    bodies = {name: r"[\s_-]{0,5}".join(map(re.escape, name.split(" "))) for name in names}
    apart = "|".join(body for name, body in bodies.items() if not (is_unspaced(name) or is_unspaced(name[0])))
    touching = "|".join(body for name, body in bodies.items() if is_unspaced(name) or is_unspaced(name[0]))
    never = r"(?!)"
    korean = "|".join(body for name, body in bodies.items() if "\uac00" <= name[-1:] <= "\ud7a3")
    # An Arabic "and" or article touches the word after it, a Korean particle the word before it.
    before = r"(?:(?<![^\W_])|(?<=\bو)|(?<=\bال)|(?<=\bوال))(?<!\w-)"
    return re.compile(
        rf"{before}(?:(?:{apart or never})(?![^\W_])(?!-\w)|(?:{korean or never}))|{touching or never}", re.IGNORECASE
    )


def _synonyms(label_names: Sequence[str]) -> Iterator[tuple[str, set[str]]]:
    """Each word of the table with the label names that share its row."""
    for row in SYNONYMS:
        words = [normalise(word) for word in row]
        owners = set(words) & set(label_names)
        if owners:
            yield from ((word, owners) for word in words)

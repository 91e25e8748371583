"""Which words name which label of a task: the label itself, its inflections, and a small table of synonyms."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from harness.tasks.parser.words import WORD, is_filler, is_unspaced

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

    def after(self, text: str, start: int, *, the: bool = True) -> Mention | None:
        """The mention at `start`, or after a few words that say nothing ("a deep sense of"; "the" may be barred)."""
        for _ in range(4):
            start = _DECOR.match(text, start).end()  # type: ignore[union-attr]
            found = self.at(text, start)
            if found is not None:
                return found
            word = WORD.match(text, start)
            if word is None or not is_filler(word[0]) or (word[0].lower() == "the" and not the):
                return None
            gap = _BLANKS.match(text, word.end())
            if gap is None:
                return None
            start = gap.end()
        return None


_DECOR = re.compile(r"[*_\"'“‘(]{0,3}")
_BLANKS = re.compile(r"\s{1,5}")


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
    own = frozenset(names)
    for row in SYNONYMS:
        words = [normalise(word) for word in row]
        owned = set[str]().union(*(names[word] for word in words if word in own))
        names.update({word: owned for word in words if owned and word not in names})
    unique = {name: next(iter(owners)) for name, owners in names.items() if len(owners) == 1}
    glued = {name.replace(" ", ""): label for name, label in unique.items() if " " in name}

    # Names as whole words, the longest first; "something else" may be one word, and some scripts put no blanks.
    never = r"(?!)"
    longest_first = sorted(unique, key=len, reverse=True)
    bodies = {name: r"[\s_-]{0,5}".join(map(re.escape, name.split(" "))) for name in longest_first}
    unspaced = [name for name in bodies if is_unspaced(name) or is_unspaced(name[0])]
    apart = "|".join(body for name, body in bodies.items() if name not in unspaced) or never
    touching = "|".join(bodies[name] for name in unspaced) or never
    # An Arabic "and" or article touches the word after it, a Korean particle the word before it.
    before = r"(?:(?<![^\W_])|(?<=\bو)|(?<=\bال)|(?<=\bوال))(?<!\w-)"
    korean = "|".join(body for name, body in bodies.items() if "\uac00" <= name[-1:] <= "\ud7a3") or never
    pattern = rf"{before}(?:(?:{apart})(?![^\W_])(?!-\w)|(?:{korean}))|{touching}"
    return LabelNames(re.compile(pattern, re.IGNORECASE), glued | unique)

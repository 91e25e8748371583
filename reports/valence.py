"""Valence of single words by VADER's lexicon (Hutto & Gilbert 2014, MIT licence): −4 very negative … 4 very positive.

Words are looked up one by one, so negation ("not happy") is not seen.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")


@cache
def word_valences() -> dict[str, float]:
    """Valence by lower-case word; emoticons and phrases of the lexicon are left out."""
    text = (resources.files("vaderSentiment") / "vader_lexicon.txt").read_text(encoding="utf-8")
    entries = (line.split("\t")[:2] for line in text.splitlines() if line.strip())
    return {word: float(value) for word, value in entries if _WORD.fullmatch(word)}

"""The cleaning of ArtEmis utterances, as the official preprocessing does it.

Steps and order follow `artemis/language/basics.py` of github.com/optas/artemis: lower case, words out of their
quotes, contractions spelled out, punctuation to spaces, NLTK's Treebank word tokens. Two of its steps are left out
because their word lists are not at hand: hand-made corrections, and SymSpell repair of words outside GloVe-6B.
The tokens equal those of NLTK 3.10; the NLTK of 2021 treated an opening apostrophe differently (17 utterances in
33,412).
"""

from __future__ import annotations

import re

_QUOTED_WORD = re.compile(r"""['"|](\w+)['"|]""")
_PUNCTUATION = str.maketrans(dict.fromkeys(".?!,:;/\\-~*_=[–]{}$^@|%#<—>", " "))

_IRREGULAR = {
    "ain't": "am not",
    "can't": "cannot",
    "won't": "will not",
    "shan't": "shall not",
    "let's": "let us",
    "i'm": "i am",
    "'cause": "because",
    "ma'am": "madam",
    "o'clock": "of the clock",
    "y'all": "you all",
    "how'd": "how did",
    "where'd": "where did",
    "do'nt": "do not",
    "does'nt": "does not",
}
_NEGATED = (
    "are",
    "could",
    "did",
    "does",
    "do",
    "had",
    "has",
    "have",
    "is",
    "might",
    "must",
    "need",
    "ought",
    "should",
    "was",
    "were",
    "would",
    "may",
)
_SUBJECTS = ("i", "he", "she", "it", "that", "there", "they", "we", "you")
_WITH_IS = ("he", "it", "she", "how", "so", "that", "there", "what", "when", "where", "who", "why")
_WITH_HAVE = (
    "i",
    "could",
    "might",
    "must",
    "should",
    "so",
    "they",
    "to",
    "we",
    "what",
    "when",
    "where",
    "who",
    "why",
    "will",
    "would",
    "you",
)
_WITH_WILL = ("i", "he", "how", "it", "she", "they", "we", "what", "who", "you")
_WITH_ARE = ("they", "we", "what", "you")


def _expansions() -> dict[str, str]:
    table = dict(_IRREGULAR)
    table |= {f"{word}n't": f"{word} not" for word in _NEGATED}
    table |= {f"{word}'s": f"{word} is" for word in _WITH_IS}
    table |= {f"{word}'ve": f"{word} have" for word in _WITH_HAVE}
    table |= {f"{word}'ll": f"{word} will" for word in _WITH_WILL}
    table |= {f"{word}'re": f"{word} are" for word in _WITH_ARE}
    table |= {f"{word}'d": f"{word} had" for word in _SUBJECTS}
    return table


_CONTRACTIONS = _expansions()
# No word boundary to the left, as in the official pattern: "spirit's" becomes "spirit is".
_CONTRACTION = re.compile("|".join(sorted(map(re.escape, _CONTRACTIONS), key=len, reverse=True)))

# The rules of NLTK's word tokenizer (Penn Treebank) that can still apply once `_PUNCTUATION` is gone, in its order.
_TREEBANK = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"([«“‘„]|`+)", r" \1 "),
        (r'^"', r"``"),
        (r"(``)", r" \1 "),
        (r"""([ (])("|'{2})""", r"\1 `` "),
        (r"(?<!\w)'(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)", "' "),
        (r"[&\u2012-\u2015]", r" \g<0> "),
        (r"([^'])' ", r"\1 ' "),
        (r"[()]", r" \g<0> "),
        (r"^|$", " "),
        (r"([»”’])", r" \1 "),
        (r"''", " '' "),
        (r'"', " '' "),
        (r"\s+", " "),
        (r"([^' ])('[smd]|') ", r"\1 \2 "),
        (r"([^' ])('ll|'re|'ve|n't) ", r"\1 \2 "),
        (r"\b(can)(not)\b", r" \1 \2 "),
        (r"\b(d)('ye)\b", r" \1 \2 "),
        (r"\b(gim|lem)(me)\b", r" \1 \2 "),
        (r"\b(gon)(na)\b", r" \1 \2 "),
        (r"\b(got)(ta)\b", r" \1 \2 "),
        (r"\b(more)('n)\b", r" \1 \2 "),
        (r"\b(wan)(na)(?=\s)", r" \1 \2 "),
        (r" ('t)(is|was)\b", r" \1 \2 "),
    )
]


def tokens(utterance: str) -> list[str]:
    """Clean one utterance and split it into lower-case tokens; joined by spaces they are the reference text."""
    text = _QUOTED_WORD.sub(r" \1 ", utterance.lower())
    text = _CONTRACTION.sub(lambda match: _CONTRACTIONS[match[0]], text)
    return treebank_tokens(text.translate(_PUNCTUATION))


def treebank_tokens(text: str) -> list[str]:
    """Penn Treebank word tokens of lower-case text from which sentence punctuation was removed."""
    for pattern, replacement in _TREEBANK:
        text = pattern.sub(replacement, text)
    return text.split()

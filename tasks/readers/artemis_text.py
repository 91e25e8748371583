"""The cleaning of ArtEmis utterances, as the official preprocessing does it.

Steps and order follow `artemis/language/basics.py` of github.com/optas/artemis: lower case, words out of their
quotes, contractions spelled out, punctuation to spaces, NLTK's Treebank word tokens. Two of its steps are left out
because their word lists are not available: hand-made corrections, and SymSpell repair of words outside GloVe-6B.
The NLTK of 2021 treated an
opening apostrophe differently from that of today (17 utterances in 33,412).
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


_CONTRACTIONS = _IRREGULAR | {
    **{f"{word}n't": f"{word} not" for word in _NEGATED},
    **{f"{word}'s": f"{word} is" for word in _WITH_IS},
    **{f"{word}'ve": f"{word} have" for word in _WITH_HAVE},
    **{f"{word}'ll": f"{word} will" for word in _WITH_WILL},
    **{f"{word}'re": f"{word} are" for word in _WITH_ARE},
    **{f"{word}'d": f"{word} had" for word in _SUBJECTS},
}
# No word boundary to the left, as in the official pattern: "spirit's" becomes "spirit is".
_CONTRACTION = re.compile("|".join(sorted(map(re.escape, _CONTRACTIONS), key=len, reverse=True)))


def tokens(utterance: str) -> list[str]:
    """Clean one utterance and split it into lower-case tokens; joined by spaces they are the reference text."""
    from nltk.tokenize.destructive import NLTKWordTokenizer  # regular expressions only, no data; NLTK is large

    text = _QUOTED_WORD.sub(r" \1 ", utterance.lower())
    text = _CONTRACTION.sub(lambda match: _CONTRACTIONS[match[0]], text)
    return [str(token) for token in NLTKWordTokenizer().tokenize(text.translate(_PUNCTUATION))]

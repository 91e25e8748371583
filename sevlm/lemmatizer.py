"""Word forms to lemmas, for the look-up of words in an affective lexicon.

The published model tags and lemmatises with NLTK, whose data must be downloaded. `simplemma` comes with pip alone and
gives the same lemma for about 95 % of running words; `identity` looks the form itself up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol

from sevlm.errors import SEVLMError

_WORDNET_CLASS = {"J": "a", "V": "v", "N": "n", "R": "r"}


class Lemmatizer(Protocol):
    """Turns the words of one text into lemmas.

    Attributes:
        name: how the lemmatiser is chosen and recorded.
        contextual: True where a word's lemma may depend on the words around it, so that nothing may be cached by word.
    """

    name: str
    contextual: bool

    def lemmatize(self, words: Sequence[str]) -> list[str]:
        """One lemma per word, in order."""
        ...


class IdentityLemmatizer:
    """Every form is its own lemma."""

    name = "identity"
    contextual = False

    def lemmatize(self, words: Sequence[str]) -> list[str]:
        """The words unchanged."""
        return list(words)


class SimplemmaLemmatizer:
    """English lemmas from simplemma's dictionary and rules; no part of speech is used."""

    name = "simplemma"
    contextual = False

    def __init__(self) -> None:
        try:
            from simplemma import lemmatize
        except ImportError:
            raise SEVLMError("lemmatizer 'simplemma' needs the package; type: pip install simplemma") from None
        self._lemma: Callable[[str], str] = lru_cache(maxsize=100_000)(lambda word: lemmatize(word, lang="en"))

    def lemmatize(self, words: Sequence[str]) -> list[str]:
        """Lemmas of the words; a word without a letter stays as it is."""
        return [self._lemma(word) if any(c.isalpha() for c in word) else word for word in words]


class NLTKLemmatizer:
    """`nltk.pos_tag` over the whole sequence, then the WordNet lemma of each word: the published recipe.

    Tags depend on the neighbours, special tokens included, so a word's lemma may change when the text goes on.
    """

    name = "nltk"
    contextual = True

    def __init__(self) -> None:
        try:
            from nltk import pos_tag
            from nltk.stem.wordnet import WordNetLemmatizer

            self._pos_tag: Callable[[list[str]], list[tuple[str, str]]] = pos_tag
            self._wordnet = WordNetLemmatizer()
            self.lemmatize(["word"])
        except ImportError:
            raise SEVLMError("lemmatizer 'nltk' needs the package nltk; type: pip install nltk") from None
        except (LookupError, OSError):
            wanted = "averaged_perceptron_tagger_eng wordnet"
            raise SEVLMError(f"lemmatizer 'nltk' needs its data; type: python -m nltk.downloader {wanted}") from None

    def lemmatize(self, words: Sequence[str]) -> list[str]:
        """Lemmas by part of speech; other tags than noun, verb, adjective and adverb count as nouns."""
        return [self.lemma(word, tag) for word, tag in self._pos_tag(list(words))]

    def lemma(self, word: str, tag: str) -> str:
        """The WordNet lemma of `word` under a Penn Treebank tag."""
        return str(self._wordnet.lemmatize(word, _WORDNET_CLASS.get(tag[:1], "n")))


_LEMMATIZERS: dict[str, Callable[[], Lemmatizer]] = {
    "identity": IdentityLemmatizer,
    "simplemma": SimplemmaLemmatizer,
    "nltk": NLTKLemmatizer,
}


def load_lemmatizer(name: str) -> Lemmatizer:
    """A lemmatiser by name: `identity`, `simplemma` or `nltk`.

    Raises:
        SEVLMError: another name, or the package or its data are missing; the message says what to type.
    """
    if name not in _LEMMATIZERS:
        raise SEVLMError(f"lemmatizer must be one of {', '.join(_LEMMATIZERS)}; got {name!r}")
    return _LEMMATIZERS[name]()

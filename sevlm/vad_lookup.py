"""Affect values for the words of captions: lemmatise, look up, remember.

Two sets of rules, chosen by `config.vad_lookup`:

* `piece`, the published one: the lemma of each BPE piece, by exact string; the form itself is never tried.
* `word`: each whole word as it stands, then in lower case, then its lemma. The first that the lexicon has counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from sevlm.lemmatizer import Lemmatizer, load_lemmatizer
from sevlm.lexicon import VADLexicon

if TYPE_CHECKING:
    from sevlm.config import SEVLMConfig, VADLookupUnit

Values: TypeAlias = tuple[float, float, float]

UNKNOWN: Values = (0.0, 0.0, 0.0)
"""Fed for words without an entry; the VAD loss leaves such tokens out, as the published code does."""


class VADLookup:
    """Words -> valence, arousal, dominance.

    Values are remembered by word, or by whole row where the lemmatiser looks at the context.
    """

    def __init__(self, lexicon: VADLexicon, lemmatizer: Lemmatizer, unit: VADLookupUnit = "word") -> None:
        self.lexicon = lexicon
        self.lemmatizer = lemmatizer
        self.unit = unit
        self._word = lru_cache(maxsize=200_000)(self._look_up_word)
        self._row = lru_cache(maxsize=4_096)(self._look_up_row)

    @classmethod
    def from_config(cls, config: SEVLMConfig, lexicon: VADLexicon) -> VADLookup:
        """The look-up that a model with this configuration was or will be trained with.

        Raises:
            SEVLMError: the lemmatiser's package or data are missing.
        """
        return cls(lexicon, load_lemmatizer(config.lemmatizer), config.vad_lookup)

    def __call__(self, words: Sequence[str]) -> Tensor:
        """T words of one text -> (T, 3) float32 in -1..1, zeros where unknown or not measured."""
        return torch.tensor(self.values(words), dtype=torch.float32).reshape(len(words), 3)

    def values(self, words: Sequence[str]) -> list[Values]:
        """The same as plain numbers."""
        if self.lemmatizer.contextual:
            return list(self._row(tuple(words)))
        return [self._word(word) for word in words]

    def coverage(self, texts: Iterable[Sequence[str]]) -> float:
        """Share of running words with a letter that have an entry, in 0..1; 0 for no such word."""
        known = total = 0
        for words in texts:
            for word, values in zip(words, self.values(words), strict=True):
                counts = any(character.isalpha() for character in word)
                total += counts
                known += counts and values != UNKNOWN
        return known / total if total else 0.0

    def _look_up_word(self, word: str) -> Values:
        return self._look_up_row((word,))[0]

    def _look_up_row(self, words: tuple[str, ...]) -> tuple[Values, ...]:
        if self.unit == "piece":
            return tuple(self.lexicon.get(lemma) or UNKNOWN for lemma in self.lemmatizer.lemmatize(words))
        lowered = [word.lower() for word in words]
        lemmas = self.lemmatizer.lemmatize(lowered)
        return tuple(self._first(forms) for forms in zip(words, lowered, lemmas, strict=True))

    def _first(self, forms: Sequence[str]) -> Values:
        for form in forms:
            found = self.lexicon.get(form)
            if found is not None:
                return found
        return UNKNOWN

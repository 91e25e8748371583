"""Words and their numbers, as ArtEmis' LSTM classifier counts them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

SPECIALS = ("<pad>", "<sos>", "<eos>", "<unk>")
PAD, SOS, EOS, UNK = range(4)

_TOKEN = re.compile(r"\w+(?:'\w+)?|[^\w\s]")


def tokenise(text: str) -> list[str]:
    """Lower-case words (with an inner apostrophe) and single punctuation marks."""
    return _TOKEN.findall(text.lower())


class Vocabulary:
    """Word -> number: four specials, then the words in sorted order.

    Args:
        words: distinct words, without the specials.

    Source: ArtEmis `artemis/utils/vocabulary.py`, SEVLM `basics.Vocabulary`.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self.words = (*SPECIALS, *sorted(words))
        self.ids: Mapping[str, int] = {word: number for number, word in enumerate(self.words)}

    @classmethod
    def of(cls, texts: Iterable[Sequence[str]], min_count: int = 1) -> Vocabulary:
        """The words that occur at least `min_count` times in tokenised texts."""
        counts = Counter(word for text in texts for word in text)
        return cls(word for word, count in counts.items() if count >= min_count)

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, texts: Sequence[Sequence[str]], longest: int) -> npt.NDArray[np.int64]:
        """Numbers (n, longest + 2): start, at most `longest` words, end, then padding; unknown words are `<unk>`."""
        table = np.full((len(texts), longest + 2), PAD, dtype=np.int64)
        for row, text in zip(table, texts, strict=True):
            ids = [SOS, *(self.ids.get(word, UNK) for word in text[:longest]), EOS]
            row[: len(ids)] = ids
        return table

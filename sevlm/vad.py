"""Valence, arousal and dominance of words: lexicon files, lemmas, and the look-up that feeds the VAD encoder.

No lexicon comes with this library. NRC-VAD, which the published SEVLM uses, is given out by its authors on request
(https://saifmohammad.com/WebPages/nrc-vad.html); Glasgow norms are CC BY 4.0. `VADLexicon.vader()` reads the file of
the installed vaderSentiment package: it knows **valence only**, so a model trained with it is not the published SEVLM.

Layouts, recognised by the file's checksum if it is known (`lexicons.yaml`), else by their columns:

| layout | scale | source |
|---|---|---|
| NRC-VAD v1, tab separated, header optional | 0..1 | Mohammad 2018 |
| NRC-VAD v1 bipolar, tab separated, no header | -1..1 | the same, `BipolarScale/` folder |
| NRC-VAD v2.1, tab separated, header `term valence arousal dominance` | -1..1 | Mohammad 2025, arXiv 2503.23547 |
| Glasgow norms, between commas, semicolons or tabs, one header row or two | 1..9 | Scott et al. 2019 |
| Warriner norms, likewise, columns `V.Mean.Sum` ... | 1..9 | Warriner, Kuperman & Brysbaert 2013 |
| VADER, tab separated: term, mean, deviation, ratings | -4..4 | Hutto & Gilbert 2014 |
| a JSON object of words and three numbers, known by its checksum only | 1..9 | EEmo-Logic |
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from sevlm.config import VAD_DIMENSIONS, SEVLMConfig, SEVLMError, VADLookupUnit

if TYPE_CHECKING:
    from torch import Tensor

Values: TypeAlias = tuple[float, float, float]
UNKNOWN: Values = (0.0, 0.0, 0.0)
"""Fed for words without an entry; the VAD loss leaves such tokens out, as the published code does."""

RowLookup: TypeAlias = "Callable[[Sequence[str]], Tensor]"
"""VAD values of the T words of one row, (T, 3) float in -1..1, zeros where unknown; for example a `VADLookup`.

It gets whole rows, because a tagger needs the neighbours of a word.
"""

_WORD = re.compile(r"\w+(?:['’]\w+)?")
_DIRECTIVE = re.compile(r"#\s*scale\s*=\s*(\S+)\s*")
NRC_SCALES = {"0..1": "nrc-vad-0-1", "-1..1": "nrc-vad-bipolar"}
MOST_UNREADABLE = 0.01
"""Share of a lexicon's lines that may be no entries."""
_SCALES = {name: scale for scale, name in NRC_SCALES.items()} | dict.fromkeys(("glasgow", "warriner", "json"), "1..9")
_SCALES["vader"] = "-4..4"
_LAYOUTS = "NRC-VAD v1, bipolar or v2.1 (tab separated), Glasgow CSV, Warriner CSV, VADER"


@dataclass(frozen=True)
class KnownLexicon:
    """A file whose bytes are known.

    Attributes:
        name: whose lexicon it is.
        layout: `nrc-vad`, `glasgow`, `warriner`, `vader` or `json`.
        scale: of the values, such as `0..1`.
        words: number of entries that are read from it.
        measured: the day on which it was read.
    """

    name: str
    layout: str
    scale: str
    words: int
    measured: str


@cache
def known_lexicons() -> dict[str, KnownLexicon]:
    """SHA-256 of a file -> what it is; another file is made known by adding it to this dictionary."""
    import yaml

    rows = yaml.safe_load(Path(__file__).with_name("lexicons.yaml").read_text(encoding="utf-8"))
    return {
        row["sha256"]: KnownLexicon(row["name"], row["layout"], row["scale"], row["words"], str(row["measured"]))
        for row in rows
    }


@dataclass(frozen=True)
class VADLexicon:
    """Words and their affect, on one scale whatever file they came from.

    Attributes:
        name: layout of the file: `nrc-vad-0-1`, `nrc-vad-bipolar`, `glasgow`, `warriner`, `vader` or `json`.
        dimensions: what the lexicon measures: an ordered subset of `VAD_DIMENSIONS`.
        entries: word -> one value in -1..1 for each of `dimensions`, in their order. Look-up is by exact string.
        recognised: the file's scale and what told it, in words; empty for entries that come from no file.
    """

    name: str
    dimensions: tuple[str, ...]
    entries: Mapping[str, tuple[float, ...]]
    recognised: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        """Refuse dimensions that nothing downstream could place."""
        known = tuple(name for name in VAD_DIMENSIONS if name in self.dimensions)
        if known != self.dimensions or not known:
            raise SEVLMError(f"lexicon dimensions must be a subset of {VAD_DIMENSIONS} in order, got {self.dimensions}")

    @classmethod
    def load(cls, path: Path | str, scale: str | None = None) -> VADLexicon:
        """Read a lexicon file, recognising its layout by its checksum or its columns.

        Words lose surrounding blanks and quotation marks. A known file has the scale of `lexicons.yaml`. Otherwise
        NRC-VAD's two scales are told apart by the values: a file without a negative one is on 0..1, whatever its
        header is called.

        Args:
            path: the file.
            scale: `0..1` or `-1..1`, for a file in NRC-VAD's layout whose values do not tell; a first line
                `# scale=-1..1` in the file says the same.

        Raises:
            SEVLMError: no such file, not text, an unknown layout, a value off its scale, another scale than the
                file's, more than 1 % of lines that are no entries, or no entry at all; the message names the line.
        """
        path = Path(os.path.expanduser(path))
        try:
            data = path.read_bytes()
            encoding = "utf-16" if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig"
            lines = data.decode(encoding).splitlines()
        except FileNotFoundError:
            raise SEVLMError(f"no lexicon file {path}; pass the path of a {_LAYOUTS} file") from None
        except (OSError, UnicodeDecodeError) as error:
            raise SEVLMError(f"cannot read the lexicon file {path}: {error}") from error
        if lines and (directive := _DIRECTIVE.fullmatch(lines[0])):
            scale, lines = scale or directive[1], lines[1:]
        known = known_lexicons().get(hashlib.sha256(data).hexdigest())
        layout = known.layout if known else _layout_of(lines[0] if lines else "")
        source = _scale_source(known, layout, scale, path)
        name = layout
        dimensions: tuple[str, ...] = VAD_DIMENSIONS
        match layout:
            case "glasgow" | "warriner":
                entries = _norms(lines, path, layout)
            case "vader":
                rows = ((row, line.split("\t")) for row, line in enumerate(lines, start=1))
                means = ((row, cells[0], cells[1]) for row, cells in rows if len(cells) == 4)
                entries = {word: _rescale([_number(mean, path, row, -4, 4)], -4, 4) for row, word, mean in means}
                dimensions = ("valence",)
            case "json":
                entries = {word: _rescale(values, 1, 9) for word, values in json.loads(data).items()}
            case _:
                name, entries = _nrc(lines, path, known.scale if known else scale)
        if not entries:
            raise SEVLMError(f"{path.name}: no lexicon entry was read; the layouts known are {_LAYOUTS}")
        return cls(name, dimensions, entries, f"scale {_SCALES[name]}, known by {source}")

    @classmethod
    def vader(cls) -> VADLexicon:
        """The valence lexicon of the vaderSentiment package (MIT): no arousal, no dominance.

        Raises:
            SEVLMError: vaderSentiment is not installed.
        """
        spec = find_spec("vaderSentiment")
        if spec is None or spec.origin is None:
            raise SEVLMError("lexicon 'vader' needs the package vaderSentiment; type: pip install vaderSentiment")
        return cls.load(Path(spec.origin).with_name("vader_lexicon.txt"))

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, word: object) -> bool:
        return word in self.entries

    def get(self, word: str) -> Values | None:
        """Valence, arousal, dominance of exactly `word`, or None if it is unknown.

        A dimension that the lexicon does not measure is 0 here; `dimensions` tells it from a true 0.
        """
        found = self.entries.get(word)
        if found is None:
            return None
        values = dict(zip(self.dimensions, found, strict=True))
        valence, arousal, dominance = (values.get(name, 0.0) for name in VAD_DIMENSIONS)
        return valence, arousal, dominance

    def fingerprint(self) -> str:
        """SHA-256 of the dimensions and all entries to four decimals.

        Equal content gives an equal fingerprint, whatever the file's order or scale: NRC-VAD's 0..1 and bipolar files
        are one lexicon.
        """
        entries = sorted((word, [round(v, 4) + 0.0 for v in values]) for word, values in self.entries.items())
        content = json.dumps([self.dimensions, entries], ensure_ascii=False)
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


def load_lexicon(name_or_path: Path | str) -> VADLexicon:
    """`vader`, or the path of a lexicon file, with its scale if the values do not tell: `FILE:scale=-1..1`."""
    if str(name_or_path) == "vader":
        return VADLexicon.vader()
    path, scale = split_scale(name_or_path)
    return VADLexicon.load(path, scale)


def split_scale(name_or_path: Path | str) -> tuple[Path, str | None]:
    """`FILE:scale=-1..1` -> path and scale; without a scale, None."""
    path, mark, scale = str(name_or_path).rpartition(":scale=")
    return (Path(path), scale) if mark else (Path(name_or_path), None)


# ----------------------------------------------------------------------------------------- lexicon layouts


def _scale_source(known: KnownLexicon | None, layout: str, scale: str | None, path: Path) -> str:
    """What tells a file's scale, in words; a scale that was said is refused if the file cannot have it."""
    if scale is not None:
        if layout != "nrc-vad":
            raise SEVLMError(f"{path.name}: scale={scale}: a file of the layout {layout} has a scale of its own")
        if scale not in NRC_SCALES:
            raise SEVLMError(f"{path.name}: scale={scale}: expected {' or '.join(NRC_SCALES)}")
        if known and scale != known.scale:
            raise SEVLMError(f"{path.name}: scale={scale}: this is {known.name}, which is on {known.scale}")
    if known:
        return f"its checksum: {known.name}"
    if layout != "nrc-vad":
        return "its columns"
    return "what was said" if scale else "its values"


def _layout_of(header: str) -> str:
    """The layout of a file that is not known by its bytes, by its first line."""
    columns = header.split("\t")
    if "AROU" in header and "VAL" in header and "DOM" in header:
        return "glasgow"
    if "V.Mean.Sum" in header:
        return "warriner"
    return "vader" if len(columns) == 4 and columns[3].lstrip().startswith("[") else "nrc-vad"


def _nrc(lines: list[str], path: Path, scale: str | None) -> tuple[str, dict[str, tuple[float, ...]]]:
    """Lines of four columns between tabs, commas or semicolons; others are left out and later duplicates win.

    Both rules are those of the official reader (`get_VADdict` of the published code), which the released
    checkpoints were trained with; that many lines are left out is an error here.
    """
    delimiter = max("\t;,", key=lambda mark: sum(line.count(mark) == 3 for line in lines[:100]))
    fields = list(csv.reader(lines, delimiter=delimiter)) if delimiter != "\t" else [x.split("\t") for x in lines]
    first = [name.strip().lower() for name in fields[0]] if fields else []
    header = first[1:] == list(VAD_DIMENSIONS)
    raw: list[tuple[str, tuple[float, ...]]] = []
    unreadable: list[int] = []
    for row, columns in enumerate(fields[header:], start=1 + header):
        if len(columns) == 4:
            texts = [text.strip().replace(",", ".") for text in columns[1:]]  # decimal commas, as Excel may write them
            raw.append((_word_of(columns[0]), tuple(_number(text, path, row, -1, 1) for text in texts)))
        elif any(column.strip() for column in columns):
            unreadable.append(row)
    if raw and len(unreadable) > MOST_UNREADABLE * (len(raw) + len(unreadable)):
        raise SEVLMError(
            f"{path.name}: {len(unreadable)} of {len(raw) + len(unreadable)} lines do not have four columns, "
            f"first line {unreadable[0]}: {lines[unreadable[0] - 1][:60]!r}"
        )
    if scale is None:
        scale = "-1..1" if any(value < 0 for _, values in raw for value in values) else "0..1"
    if scale == "-1..1":
        return NRC_SCALES[scale], dict(raw)
    for word, values in raw:
        if min(values) < 0:
            raise SEVLMError(f"{path.name}: scale=0..1, but {word!r} has {min(values):g}")
    return NRC_SCALES[scale], {word: _rescale(values, 0, 1) for word, values in raw}


def _word_of(text: str) -> str:
    """A word without surrounding blanks and quotation marks."""
    text = text.strip()
    return text[1:-1].strip() if len(text) > 2 and text[0] == text[-1] and text[0] in "\"'" else text


def _norms(lines: list[str], path: Path, layout: str) -> dict[str, tuple[float, ...]]:
    """Means on 1..9 in a table with a header: Glasgow's or Warriner's norms.

    Glasgow's have one header row or two (the second without a word in its first cell). Their entries that name a sense
    in brackets, `aim (objective)`, are left out: no token has one.
    """
    is_glasgow, word, skip = layout == "glasgow", 0, 1
    names = ("VAL", "AROU", "DOM") if is_glasgow else ("Word", "V.Mean.Sum", "A.Mean.Sum", "D.Mean.Sum")
    header = next((cells for _, cells in _cells(lines[:1], 0, path)), [])
    for name in names:
        if name not in header:
            raise SEVLMError(f"{path.name} line 1: expected a column {name!r}, got {', '.join(header)[:200]}")
    columns = [header.index(name) for name in names]
    if is_glasgow:
        second = next((cells for _, cells in _cells(lines[:2], 1, path)), [""])
        skip = 1 if second[0].strip() else 2
    else:
        word = columns.pop(0)
    entries = {}
    for row, cells in _cells(lines, skip, path):
        if is_glasgow and "(" in cells[0]:
            continue
        if len(cells) <= max(columns):
            raise SEVLMError(f"{path.name} line {row}: expected more than {max(columns)} columns, got {len(cells)}")
        values = [_number(cells[column].replace(",", "."), path, row, 1, 9) for column in columns]
        if len(cells) <= word:
            raise SEVLMError(f"{path.name} line {row}: no word in column {word + 1}")
        entries[_word_of(cells[word])] = _rescale(values, 1, 9)
    return entries


def _number(text: str, path: Path, row: int, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise SEVLMError(f"{path.name} line {row}: expected a number in {low:g}..{high:g}, got {text!r}")
    return value


def _rescale(values: Sequence[float], low: float, high: float) -> tuple[float, ...]:
    middle, half = (low + high) / 2, (high - low) / 2
    return tuple((value - middle) / half for value in values)


def _cells(lines: list[str], skip: int, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Row number and cells of each row below the header that is not empty."""
    delimiter = max(",;\t", key=lines[0].count) if lines else ","
    reader = csv.reader(lines, delimiter=delimiter)
    try:
        for row, cells in enumerate(reader, start=1):
            if row > skip and cells:
                yield row, cells
    except csv.Error as error:
        raise SEVLMError(f"{path.name} line {reader.line_num}: not a table: {error}") from None


# -------------------------------------------------------------------------------------------------- lemmas


_WORDNET_CLASS = {"J": "a", "V": "v", "N": "n", "R": "r"}


class Lemmatizer:
    """Word forms to lemmas; this one takes every form as its own lemma.

    The published model tags and lemmatises with NLTK, whose data must be downloaded. `simplemma` comes with pip alone
    and gives the same lemma for about 95 % of running words.
    """

    name = "identity"
    contextual = False
    """Whether a word's lemma may depend on the words around it, so that nothing may be cached by word."""

    def lemmatize(self, words: Sequence[str]) -> list[str]:
        """One lemma per word of one text, in order."""
        return list(words)


class SimplemmaLemmatizer(Lemmatizer):
    """English lemmas from simplemma's dictionary and rules; no part of speech is used."""

    name = "simplemma"

    def __init__(self) -> None:
        try:
            from simplemma import lemmatize
        except ImportError:
            raise SEVLMError("lemmatizer 'simplemma' needs the package; type: pip install simplemma") from None
        self._lemma: Callable[[str], str] = lru_cache(maxsize=100_000)(lambda word: lemmatize(word, lang="en"))

    def lemmatize(self, words: Sequence[str]) -> list[str]:
        """Lemmas of the words; a word without a letter stays as it is."""
        return [self._lemma(word) if any(c.isalpha() for c in word) else word for word in words]


class NLTKLemmatizer(Lemmatizer):
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
            self._lemma: Callable[[str, str], str] = lru_cache(maxsize=100_000)(WordNetLemmatizer().lemmatize)
            self.lemmatize(["word"])
        except ImportError:
            raise SEVLMError("lemmatizer 'nltk' needs the package nltk; type: pip install nltk") from None
        except (LookupError, OSError):
            wanted = "averaged_perceptron_tagger_eng wordnet"
            raise SEVLMError(f"lemmatizer 'nltk' needs its data; type: python -m nltk.downloader {wanted}") from None

    def lemmatize(self, words: Sequence[str]) -> list[str]:
        """Lemmas by part of speech; other tags than noun, verb, adjective and adverb count as nouns."""
        return [self._lemma(word, _WORDNET_CLASS.get(tag[:1], "n")) for word, tag in self._pos_tag(list(words))]


_LEMMATIZERS = {kind.name: kind for kind in (Lemmatizer, SimplemmaLemmatizer, NLTKLemmatizer)}


def load_lemmatizer(name: str) -> Lemmatizer:
    """A lemmatiser by name: `identity`, `simplemma` or `nltk`.

    Raises:
        SEVLMError: another name, or the package or its data are missing; the message says what to type.
    """
    if name not in _LEMMATIZERS:
        raise SEVLMError(f"lemmatizer must be one of {', '.join(_LEMMATIZERS)}; got {name!r}")
    return _LEMMATIZERS[name]()


# ------------------------------------------------------------------------------------------------- look-up


def words(text: str) -> list[str]:
    """Lower-cased words of a text, without punctuation."""
    return _WORD.findall(text.lower())


class VADLookup:
    """Words -> valence, arousal, dominance: lemmatise, look up, remember.

    Two sets of rules, chosen by `config.vad_lookup`:

    * `piece`, the published one: the lemma of each BPE piece, by exact string; the form itself is never tried.
    * `word`: each whole word as it stands, then in lower case, then its lemma. The first that the lexicon has counts.

    Values are remembered by word, or by whole row if the lemmatiser looks at the context.
    """

    def __init__(self, lexicon: VADLexicon, lemmatizer: Lemmatizer, unit: VADLookupUnit = "word") -> None:
        self.lexicon, self.lemmatizer, self.unit = lexicon, lemmatizer, unit
        self.word = lru_cache(maxsize=200_000)(lambda word: self._look_up_row((word,))[0])
        self._row = lru_cache(maxsize=4_096)(self._look_up_row)

    @classmethod
    def from_config(cls, config: SEVLMConfig, lexicon: VADLexicon) -> VADLookup:
        """The look-up that a model with this configuration was or will be trained with.

        Raises:
            SEVLMError: the lemmatiser's package or data are missing.
        """
        return cls(lexicon, load_lemmatizer(config.lemmatizer), config.vad_lookup)

    @property
    def contextual(self) -> bool:
        """Whether a word's values may depend on the words around it."""
        return self.lemmatizer.contextual

    def __call__(self, words: Sequence[str]) -> Tensor:
        """T words of one text -> (T, 3) float32 in -1..1, zeros where unknown or not measured."""
        import torch

        return torch.tensor(self.values(words), dtype=torch.float32).reshape(len(words), 3)

    def values(self, words: Sequence[str]) -> list[Values]:
        """The same as plain numbers."""
        if self.contextual:
            return list(self._row(tuple(words)))
        return [self.word(word) for word in words]

    def coverage(self, texts: Iterable[Sequence[str]]) -> float:
        """Share of running words with a letter that have an entry, in 0..1; 0 for no such word."""
        counted = [
            values != UNKNOWN
            for words in texts
            for word, values in zip(words, self.values(words), strict=True)
            if any(character.isalpha() for character in word)
        ]
        return sum(counted) / len(counted) if counted else 0.0

    def _look_up_row(self, words: tuple[str, ...]) -> tuple[Values, ...]:
        if self.unit == "piece":
            return tuple(self.lexicon.get(lemma) or UNKNOWN for lemma in self.lemmatizer.lemmatize(words))
        lowered = [word.lower() for word in words]
        forms = zip(words, lowered, self.lemmatizer.lemmatize(lowered), strict=True)
        found = ([values for form in one if (values := self.lexicon.get(form)) is not None] for one in forms)
        return tuple(values[0] if values else UNKNOWN for values in found)

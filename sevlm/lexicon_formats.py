"""Readers of valence-arousal-dominance lexicon files, recognised by their columns.

| layout | scale | source |
|---|---|---|
| NRC-VAD v1, tab separated, header optional | 0..1 | Mohammad 2018 |
| NRC-VAD v1 bipolar, tab separated, no header | -1..1 | the same, `BipolarScale/` folder |
| NRC-VAD v2.1, tab separated, header `term valence arousal dominance` | -1..1 | Mohammad 2025, arXiv 2503.23547 |
| Glasgow norms, comma separated, two header rows | 1..9 | Scott et al. 2019 |
| Warriner norms, comma separated, columns `V.Mean.Sum` ... | 1..9 | Warriner, Kuperman & Brysbaert 2013 |
| VADER, tab separated: term, mean, deviation, ratings | -4..4 | Hutto & Gilbert 2014 |
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from sevlm.errors import SEVLMError

Values: TypeAlias = tuple[float, ...]
Number: TypeAlias = Callable[[str], float]

_RECOGNISED = "NRC-VAD v1, bipolar or v2.1 (tab separated), Glasgow CSV, Warriner CSV, VADER"


@dataclass(frozen=True)
class LexiconFile:
    """What one file holds, on the common scale.

    Attributes:
        name: the layout that was recognised.
        dimensions: the dimensions the file gives, in the order of the values.
        entries: term -> one value per dimension, each in -1..1.
    """

    name: str
    dimensions: tuple[str, ...]
    entries: dict[str, Values]


def read_lexicon(path: Path) -> LexiconFile:
    """Recognise the layout of `path` by its columns and read it.

    Raises:
        SEVLMError: no such file, not text, an unknown layout, a value off its scale, or no entry at all.
    """
    lines = _lines(path)
    header = lines[0] if lines else ""
    if "AROU" in header and "VAL" in header and "DOM" in header:
        found = _glasgow(lines, path)
    elif "V.Mean.Sum" in header:
        found = _warriner(lines, path)
    elif _is_vader(header):
        found = _vader(lines, path)
    else:
        found = _nrc(lines, path)
    if not found.entries:
        raise SEVLMError(f"{path.name}: no lexicon entry was read; the layouts known are {_RECOGNISED}")
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise SEVLMError(f"no lexicon file {path}; pass the path of a {_RECOGNISED} file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SEVLMError(f"cannot read the lexicon file {path}: {error}") from error


def _number(text: str, path: Path, row: int, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise SEVLMError(f"{path.name} line {row}: expected a number in {low:g}..{high:g}, got {text!r}")
    return value


def _rescale(values: Sequence[float], low: float, high: float) -> Values:
    middle, half = (low + high) / 2, (high - low) / 2
    return tuple((value - middle) / half for value in values)


# ------------------------------------------------------------------------------------------- NRC-VAD


def _nrc(lines: list[str], path: Path) -> LexiconFile:
    """Lines of exactly four tab-separated columns; others are skipped and later duplicates win.

    Both rules are those of the official reader (`get_VADdict` of the published code), which the released
    checkpoints were trained with.
    """
    fields = [line.split("\t") for line in lines]
    first = [name.strip().lower() for name in fields[0]] if fields else []
    header = first[1:] == ["valence", "arousal", "dominance"]
    raw: list[tuple[str, Values]] = []
    for row, columns in enumerate(fields[header:], start=1 + header):
        if len(columns) == 4:
            values = tuple(_number(text.strip(), path, row, -1, 1) for text in columns[1:])
            raw.append((columns[0], values))
    dimensions = ("valence", "arousal", "dominance")
    if (header and first[0] == "term") or any(value < 0 for _, values in raw for value in values):
        return LexiconFile("nrc-vad-bipolar", dimensions, dict(raw))
    return LexiconFile("nrc-vad-0-1", dimensions, {word: _rescale(v, 0, 1) for word, v in raw})


# ----------------------------------------------------------------------------------- norms as tables


def _cells(lines: list[str], skip: int, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Row number and cells of each row below the header that is not empty."""
    reader = csv.reader(lines)
    try:
        for row, cells in enumerate(reader, start=1):
            if row > skip and cells:
                yield row, cells
    except csv.Error as error:
        raise SEVLMError(f"{path.name} line {reader.line_num}: not a table: {error}") from None


def _columns(lines: list[str], names: Sequence[str], path: Path) -> list[int]:
    """Where the header has these names."""
    header = next((cells for _, cells in _cells(lines[:1], 0, path)), [])
    for name in names:
        if name not in header:
            raise SEVLMError(f"{path.name} line 1: expected a column {name!r}, got {', '.join(header)[:200]}")
    return [header.index(name) for name in names]


def _glasgow(lines: list[str], path: Path) -> LexiconFile:
    """Means on 1..9. Entries that name a sense in brackets, `aim (objective)`, are left out: no token has one."""
    columns = _columns(lines, ("VAL", "AROU", "DOM"), path)
    rows = [(row, cells) for row, cells in _cells(lines, 2, path) if "(" not in cells[0]]
    entries = {cells[0]: _norms(cells, columns, path, row) for row, cells in rows}
    return LexiconFile("glasgow", ("valence", "arousal", "dominance"), entries)


def _warriner(lines: list[str], path: Path) -> LexiconFile:
    word, *columns = _columns(lines, ("Word", *(f"{letter}.Mean.Sum" for letter in "VAD")), path)
    entries = {}
    for row, cells in _cells(lines, 1, path):
        values = _norms(cells, columns, path, row)
        if len(cells) <= word:
            raise SEVLMError(f"{path.name} line {row}: no word in column {word + 1}")
        entries[cells[word]] = values
    return LexiconFile("warriner", ("valence", "arousal", "dominance"), entries)


def _norms(cells: list[str], columns: Sequence[int], path: Path, row: int) -> Values:
    if len(cells) <= max(columns):
        raise SEVLMError(f"{path.name} line {row}: expected more than {max(columns)} columns, got {len(cells)}")
    return _rescale([_number(cells[column], path, row, 1, 9) for column in columns], 1, 9)


# --------------------------------------------------------------------------------------------- VADER


def _is_vader(line: str) -> bool:
    columns = line.split("\t")
    return len(columns) == 4 and columns[3].lstrip().startswith("[")


def _vader(lines: list[str], path: Path) -> LexiconFile:
    entries: dict[str, Values] = {}
    for row, line in enumerate(lines, start=1):
        columns = line.split("\t")
        if len(columns) == 4:
            entries[columns[0]] = _rescale([_number(columns[1], path, row, -4, 4)], -4, 4)
    return LexiconFile("vader", ("valence",), entries)

"""Rows of comma- or tab-separated files, however they were saved."""

from __future__ import annotations

import ast
import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.suggestions import nearest
from harness.types import UserError

csv.field_size_limit(1 << 24)


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """A whole text file without its byte-order mark.

    Raises:
        UserError: it cannot be read, or is in another encoding.
    """
    try:
        return path.read_bytes().decode(encoding).removeprefix("\ufeff")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: byte {error.start} is not {encoding} text; if the file is in another encoding, name it in a copy "
            "of the task's card: options: {encoding: latin-1}"
        ) from None
    except LookupError:
        raise UserError(f"{path}: option 'encoding': no encoding is called {encoding!r}") from None


def read_rows(
    path: Path, columns: Sequence[str], *, encoding: str = "utf-8", delimiter: str = ",", header_rows: int = 1
) -> Iterator[tuple[str, dict[str, str]]]:
    r"""Stream the rows of a table. Byte-order mark, `\n`, `\r\n`, bare `\r` and quoted line ends are taken in stride.

    Args:
        path: the file.
        columns: names that the header must hold; others are kept too. A column without a name is called ``.
        encoding: of the file.
        delimiter: between cells.
        header_rows: rows above the data; with two, a column is called `first/second`, an empty cell of the first row
            repeating its left neighbour.

    Yields:
        (where, row): `FILE, row 3` for messages, counting data rows from 1, and column -> cell, stripped.

    Raises:
        UserError: unreadable, a column is missing, or a row has more or fewer cells than the header.
    """
    reader = csv.reader(io.StringIO(read_text(path, encoding), newline=""), delimiter=delimiter)
    try:
        header = _header(reader, header_rows)
        for column in columns:
            if column not in header:
                raise UserError(f"{path}: no column {column!r}; {nearest(column, header)}")
        for number, cells in enumerate(filter(None, reader), 1):
            where = f"{path}, row {number}"
            if len(cells) != len(header):
                raise UserError(f"{where}: {len(cells)} cells, but the header has {len(header)}")
            yield where, {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not a table: {error}") from None


def _header(reader: Iterator[list[str]], rows: int) -> list[str]:
    lines = [[cell.strip() for cell in next(reader, [])] for _ in range(rows)]
    for line in lines[:-1]:
        for i in range(1, len(line)):
            line[i] = line[i] or line[i - 1]
    return ["/".join(filter(None, parts)) for parts in zip(*lines, strict=False)]


def text_list(cell: str, where: str) -> list[str]:
    """A list written as text, such as `[0.1, 0.2]`, `['awe', 'fear']` or `a,b`; its items as text, stripped.

    Raises:
        UserError: it opens a bracket but is no list.
    """
    text = cell.strip()
    if not text.startswith(("[", "(")):
        return [item.strip() for item in next(csv.reader([text]), []) if item.strip()]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        raise UserError(f"{where}: expected a list in brackets, got {text[:60]!r}") from None
    return [str(item).strip() for item in (value if isinstance(value, list | tuple) else (value,))]


def number(cell: str, where: str, column: str) -> float:
    """A finite number in a cell.

    Raises:
        UserError: it is none.
    """
    try:
        value = float(cell)
    except ValueError:
        value = float("nan")
    if value != value or value in (float("inf"), float("-inf")):
        raise UserError(f"{where}: {column} is no number: {cell!r}")
    return value

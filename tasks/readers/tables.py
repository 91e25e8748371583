"""Rows of tables, however they were saved: comma, semicolon or tab, UTF-8 or UTF-16, Excel, Parquet or JSON."""

from __future__ import annotations

import ast
import codecs
import csv
import importlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from harness.errors import nearest
from harness.types import UserError

csv.field_size_limit(1 << 24)
_NUMBERED = re.compile(r"(?:^|(?<=\s))\d+\.\s+")
DELIMITERS = (",", "\t", ";", "|")
_EXCEL_DIRECTIVE = re.compile(r"\"?sep=(.)\"?(?:\r\n|\n|\r)", re.IGNORECASE)
_PACKED = (b"\x1f\x8b", b"PK\x03\x04")
_BYTE_ORDER_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16", codecs.BOM_UTF8: "utf-8-sig"}


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """A whole text file without its byte-order mark, which also tells UTF-16 from any other encoding.

    Raises:
        UserError: it cannot be read, or is in another encoding.
    """
    try:
        data = path.read_bytes()
        if data.startswith(_PACKED):
            raise UserError(f"{path}: is packed (gzip, zip or Excel); unpack it, or name it .xlsx if it is a workbook")
        encoding = next((name for mark, name in _BYTE_ORDER_MARKS.items() if data.startswith(mark)), encoding)
        return data.decode(encoding).removeprefix("\ufeff")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: byte {error.start} is not {encoding} text; save the file as UTF-8, or, for tables, name its "
            "encoding in a copy of the task's card: options: {encoding: latin-1}"
        ) from None
    except LookupError:
        raise UserError(f"{path}: option 'encoding': no encoding is called {encoding!r}") from None


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        UserError: as `read_text`, or it is not JSON.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON: {error}") from None


def read_rows(
    path: Path,
    columns: Sequence[str],
    *,
    encoding: str = "utf-8",
    delimiter: str | None = None,
    header_rows: int = 1,
    unfold: Sequence[str] = (),
) -> Iterator[tuple[str, dict[str, str]]]:
    r"""Stream the rows of a table. Byte-order mark, `\n`, `\r\n`, bare `\r` and quoted line ends are taken in stride.

    Args:
        path: the file; `.xlsx`, `.parquet`, `.json` and `.jsonl` are read as what they are, anything else as text. JSON
            is a list of objects, or an object of them by key, which then stands in the column `key` (and what is no
            object in `value`); nested values have columns such as `Valence.0`.
        columns: names that the header must hold; others are kept too. A column without a name is called ``.
        encoding: of a text file.
        delimiter: between cells; None for the one of `DELIMITERS` under which the header holds `columns`.
        header_rows: rows above the data; with two, a column is called `first/second`, an empty cell of the first row
            repeating its left neighbour.
        unfold: columns of JSON that hold lists side by side; each place of the lists becomes a row. A text such as
            `1. One. 2. Two.` counts as a list.

    Yields:
        (where, row): `FILE, row 3` for messages, counting data rows from 1, and column -> cell, stripped.

    Raises:
        UserError: unreadable, a column is missing, or a row has more or fewer cells than the header.
    """
    if path.suffix.lower() in (".json", ".jsonl"):
        yield from _json_rows(path, read_text(path, encoding), columns, unfold)
        return
    if path.suffix.lower() in (".xlsx", ".parquet"):
        lines = _excel_lines(path) if path.suffix.lower() == ".xlsx" else _parquet_lines(path)
        header = _header(lines, header_rows)
        _refuse_missing(path, columns, header)
        yield from _rows(path, header, lines)
        return
    text = read_text(path, encoding)
    if directive := _EXCEL_DIRECTIVE.match(text):  # Excel's own first line, `sep=;`
        delimiter, text = delimiter or directive[1], text[directive.end() :]
    found = delimiter or find_delimiter(text, columns, header_rows)
    lines = _text_lines(path, text, found)
    header = _header(lines, header_rows)
    _refuse_missing(path, columns, header)
    yield from _rows(path, header, lines)


def _text_lines(path: Path, text: str, delimiter: str) -> Iterator[list[str]]:
    """The cells of each row.

    Raises:
        UserError: a quotation mark is not closed, or not doubled within a cell in quotation marks: what follows would
            be read as something else than was meant.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        begins = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            inside = "a quotation mark within a cell in quotation marks is not doubled"
            why = "a quotation mark is never closed" if str(error) == "unexpected end of data" else error
            why = inside if "expected after" in str(error) else why
            raise UserError(f"{path}, line {begins}: not a table: {why}") from None
        if cells is None:
            return
        yield cells


def find_delimiter(text: str, columns: Sequence[str], header_rows: int = 1) -> str:
    """The delimiter under which the header holds most of the columns, and most cells."""

    def score(delimiter: str) -> tuple[int, int]:
        try:
            header = _header(csv.reader(io.StringIO(text[:100_000], newline=""), delimiter=delimiter), header_rows)
        except csv.Error:
            return (-1, 0)
        return sum(column in header for column in columns), len(header)

    return max(DELIMITERS, key=score)


def _excel_lines(path: Path) -> Iterator[list[str]]:
    try:
        openpyxl: Any = importlib.import_module("openpyxl")
    except ImportError:
        raise UserError(f"{path}: reading Excel files needs openpyxl: pip install 'sevlm-harness[excel]'") from None
    try:
        sheet = openpyxl.load_workbook(path, read_only=True, data_only=True).worksheets[0]
        for row in sheet.iter_rows(values_only=True):
            yield ["" if cell is None else str(cell) for cell in row] if any(c is not None for c in row) else []
    except Exception as error:  # a broken workbook may fail in any way
        raise UserError(f"{path}: not an Excel workbook ({error})") from None


def _parquet_lines(path: Path) -> Iterator[list[str]]:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            yield list(file.schema_arrow.names)
            for batch in file.iter_batches(4096):
                columns = [column.to_pylist() for column in batch.columns]
                yield from (["" if cell is None else str(cell) for cell in row] for row in zip(*columns, strict=True))
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: not a Parquet file ({error})") from None


def _json_rows(
    path: Path, text: str, columns: Sequence[str], unfold: Sequence[str]
) -> Iterator[tuple[str, dict[str, str]]]:
    try:
        # not splitlines: a string of JSON may hold U+2028
        lines = re.split(r"\r\n|\n|\r", text) if path.suffix.lower() == ".jsonl" else []
        content: Any = [json.loads(line) for line in lines if line.strip()] if lines else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON: {error}") from None
    if isinstance(content, dict):
        content = [{"key": key, **(v if isinstance(v, dict) else {"value": v})} for key, v in content.items()]
    for number, record in enumerate(content if isinstance(content, list) else [content], 1):
        where = f"{path}, entry {number}"
        if not isinstance(record, dict):
            raise UserError(f"{where}: expected an object, got {str(record)[:40]!r}")
        lists = {column: _items(record.get(column), f"{where}: {column}") for column in unfold}
        if len({len(items) for items in lists.values()}) > 1:
            sizes = ", ".join(f"{len(items)} in {column}" for column, items in lists.items())
            raise UserError(f"{where}: lists of different length: {sizes}")
        common = dict(_flat({key: value for key, value in record.items() if key not in lists}))
        for place in range(max((len(items) for items in lists.values()), default=1)):
            row = common | dict(_flat({column: items[place] for column, items in lists.items()}))
            _refuse_missing(where, columns, list(row))
            yield where, row


def _items(value: Any, where: str) -> list[Any]:
    if isinstance(value, str) and (numbered := _NUMBERED.split(value)[1:]):
        return [item.strip() for item in numbered]
    if not isinstance(value, list):
        raise UserError(f"{where}: expected a list, got {str(value)[:40]!r}")
    return value


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """The texts of nested values, by names such as `Valence.0`."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, "" if value is None else str(value).strip()


def _refuse_missing(path: Path | str, columns: Sequence[str], header: Sequence[str]) -> None:
    for column in columns or filter(None, header):
        if column not in header:
            raise UserError(f"{path}: no column {column!r}; {nearest(column, header)}")
        if header.count(column) > 1:
            raise UserError(f"{path}: the header has {header.count(column)} columns called {column!r}; rename one")


def _rows(path: Path, header: list[str], lines: Iterable[list[str]]) -> Iterator[tuple[str, dict[str, str]]]:
    filled = (cells for cells in lines if any(cell.strip() for cell in cells))  # Excel saves empty rows as ,,,
    for number, cells in enumerate(filled, 1):
        where = f"{path}, row {number}"
        if len(cells) != len(header):
            shown = " | ".join(cells)[:80]
            raise UserError(f"{where}: {len(cells)} cells, but the header has {len(header)}: {shown}")
        yield where, {name: cell.strip() for name, cell in zip(header, cells, strict=True)}


def _header(lines: Iterator[list[str]], rows: int) -> list[str]:
    above = [[cell.strip() for cell in line] for line in islice(lines, rows)]
    for line in above[:-1]:
        for i in range(1, len(line)):
            line[i] = line[i] or line[i - 1]
    return ["/".join(filter(None, parts)) for parts in zip(*above, strict=False)]


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
        hint = "; write a decimal point, not a comma" if cell.count(",") == 1 else ""
        raise UserError(f"{where}: {column} is no number: {cell!r}{hint}")
    return value

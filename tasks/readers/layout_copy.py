"""Making the checked copy of a dataset: entries -> pictures found, splits drawn, files written.

<folder>/examples.parquet  one row per picture, in the order of the official files
<folder>/left_out.csv      pictures that are missing or corrupt
<folder>/prepared.txt      the table printed at the end
<folder>/prepared.json     what the copy was made from, checksums; written last
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from typing import Any

from harness.atomic import atomic_write
from harness.tasks.file_names import AS_WRITTEN
from harness.tasks.readers.base import PreparedTable, TableRow
from harness.tasks.readers.picture_search import Picture
from harness.tasks.readers.prepared import sha256
from harness.types import Annotation, UserError

SCHEMA = 2
EXAMPLES = "examples.parquet"


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture as a dataset's files describe it.

    Attributes:
        id: unique within the dataset.
        picture: path relative to the picture folder, as the dataset writes it.
        annotations: what people said; `explanation` is empty in data without explanations.
        split: the official one; None where the dataset has none.
        meta, ratings, context: as in `harness.types.Example`.
    """

    id: str
    picture: str
    annotations: tuple[Annotation, ...]
    split: str | None = None
    meta: Mapping[str, str] = field(default_factory=dict)
    ratings: Mapping[str, float] = field(default_factory=dict)
    context: str = ""


def example_rows(
    entries: Sequence[Entry], pictures: Mapping[str, Picture], drawn: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Rows of the copy: the entries that have an annotation and a picture.

    Args:
        entries: everything that the files describe.
        pictures: the entry's picture -> what was found.
        drawn: the entry's picture -> split, for entries without an official one.
    """
    for entry in entries:
        path = pictures[entry.picture].path
        if path is not None and entry.annotations:
            yield {
                "id": entry.id,
                "picture": path,
                "split": entry.split or drawn[entry.picture],
                "annotations": [asdict(annotation) for annotation in entry.annotations],
                "meta": list(entry.meta.items()),
                "ratings": list(entry.ratings.items()),
                "context": entry.context,
            }


def table_rows(
    entries: Sequence[Entry],
    rows: Sequence[Mapping[str, Any]],
    pictures: Mapping[str, Picture],
    remarks: Mapping[str, int],
    labels: Sequence[str],
) -> Iterator[TableRow]:
    """What the table of `data prepare` says."""
    found = [picture for picture in pictures.values() if picture.path]
    missing = [name for name, picture in pictures.items() if picture.problem == "missing"]
    yield TableRow("entries", len(entries))
    yield TableRow("annotations", sum(len(entry.annotations) for entry in entries))
    most = max((len(entry.annotations) for entry in entries), default=0)
    yield TableRow("most annotations of one entry", most)
    yield TableRow("entries without a usable annotation", sum(not entry.annotations for entry in entries))
    yield from (TableRow(what, count) for what, count in sorted(remarks.items()))
    yield TableRow("pictures", len(pictures))
    yield TableRow("pictures found under another spelling", sum(p.repair != AS_WRITTEN for p in found))
    yield TableRow("pictures missing", len(missing), ", ".join(missing[:3]))
    yield TableRow("pictures corrupt", len(pictures) - len(found) - len(missing), "left out; see left_out.csv")
    yield TableRow("examples", len(rows))
    for split, count in Counter(row["split"] for row in rows).items():
        yield TableRow(f"examples in {split}", count)
    counts = Counter(note["emotion"] for row in rows for note in row["annotations"])
    yield from (TableRow(f"annotated {label}", counts[label]) for label in labels)


def write_copy(
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    pictures: Mapping[str, Picture],
    table: PreparedTable,
    annotations: Path,
    images: Path,
) -> None:
    """Write the four files.

    Raises:
        UserError: a text that no UTF-8 file can hold.
    """
    copy = folder / EXAMPLES
    atomic_write(copy, lambda temporary: _write_rows(temporary, rows))
    _write_text(folder / "left_out.csv", _left_out(pictures))
    _write_text(folder / "prepared.txt", f"{table}\n")
    record = {
        "schema": SCHEMA,
        "annotations": str(annotations.resolve()),
        "annotations_sha256": sha256(annotations) if annotations.is_file() else None,
        "images": str(images.resolve()),
        "sha256": sha256(copy),
        "title": table.title,
        "rows": [astuple(row) for row in table.rows],
    }
    _write_text(folder / "prepared.json", json.dumps(record, indent=1, ensure_ascii=False))


def _write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = pa.string()
    schema = pa.schema(
        {
            "id": text,
            "picture": text,
            "split": text,
            "annotations": pa.list_(pa.struct({"emotion": text, "explanation": text})),
            "meta": pa.map_(text, text),
            "ratings": pa.map_(text, pa.float64()),
            "context": text,
        }
    )
    try:
        pq.write_table(pa.Table.from_pylist(rows, schema), path)
    except UnicodeEncodeError as error:
        raise UserError(f"{error.object[:80]!a}: a text or file name that is no Unicode; mend it first") from None


def read_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of a copy, some at a time; `meta` and `ratings` are lists of pairs."""
    from pyarrow.parquet import ParquetFile

    with ParquetFile(folder / EXAMPLES) as file:
        for batch in file.iter_batches(batch_size=1000):
            yield from batch.to_pylist()


def _write_text(path: Path, text: str) -> None:
    atomic_write(path, lambda temporary: temporary.write_text(text, encoding="utf-8", errors="backslashreplace"))


def _left_out(pictures: Mapping[str, Picture]) -> str:
    out = io.StringIO()
    rows = [(name, picture.problem) for name, picture in pictures.items() if picture.path is None]
    csv.writer(out, lineterminator="\n").writerows([("picture", "problem"), *rows])
    return out.getvalue()

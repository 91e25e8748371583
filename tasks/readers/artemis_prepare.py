"""`harness data prepare artemis`: check the release against the picture folder and keep a fast local copy.

<folder>/annotations.parquet  one row per annotation, paintings together, raw and cleaned text, both splits
<folder>/left_out.csv         paintings without a usable picture, and why
<folder>/prepared.txt         the table printed at the end
<folder>/prepared.json        what the copy was made from, checksums, counts; written last
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import astuple
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from harness.atomic import atomic_write
from harness.tasks.file_names import AS_WRITTEN
from harness.tasks.readers.artemis_release import Release, official_splits, read_release
from harness.tasks.readers.artemis_text import tokens
from harness.tasks.readers.base import PreparedTable, TableRow
from harness.tasks.readers.picture_search import Picture, bar, find_pictures
from harness.tasks.readers.prepared import sha256
from harness.types import Task

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
HIGH_COVERAGE = 41
"""Annotations from which on a painting belongs to the split `rest` of the deep-net preprocessing."""
SHORTEST, LONGEST_PERCENTILE = 5, 95
"""The deep-net preprocessing drops utterances of fewer tokens, or longer than this percentile of train."""

SPELLING_NOTE = "the official hand-made corrections and SymSpell repair need word lists that are not at hand"


def prepare(
    task: Task,
    annotations: Path,
    images: Path,
    folder: Path,
    progress: bool,
    read: Callable[[Path, Task], Release] = read_release,
    extend: Callable[[pd.DataFrame, float], None] | None = None,
) -> PreparedTable:
    """Do it all; see the module's text for what is written.

    Args:
        task: for its labels and name.
        annotations: given to `read`.
        images: the picture folder.
        folder: where to write.
        progress: show bars.
        read: reads the release.
        extend: adds columns to the rows, given the longest utterance that the deep-net preprocessing keeps.

    Raises:
        UserError: the release or the picture folder is not what it should be.
    """
    release = read(annotations, task)
    rows = _grouped(release.rows)
    _add_splits(rows)
    _add_text(rows, progress)
    expected = "<art_style>/<painting>.jpg, " + f"for example {images / rows['id'].iloc[0]}.jpg"
    found = find_pictures(rows["id"] + ".jpg", images, progress, say=expected)
    pictures = {name.removesuffix(".jpg"): picture for name, picture in found.items()}
    rows["picture"] = rows["id"].map({key: picture.path for key, picture in pictures.items()})
    limit = longest_utterance(rows)
    if extend is not None:
        extend(rows, limit)
    table = PreparedTable(f"{task.name}: prepared in {folder}", tuple(_table(release, rows, pictures, limit)))

    parquet = folder / "annotations.parquet"
    atomic_write(parquet, lambda path: rows.to_parquet(path, index=False))
    atomic_write(folder / "left_out.csv", lambda path: _left_out(pictures).to_csv(path, index=False))
    atomic_write(folder / "prepared.txt", lambda path: path.write_text(f"{table}\n", encoding="utf-8"))
    record = {
        "schema": SCHEMA,
        "made_with": {name: version(name) for name in ("sevlm-harness", "pandas", "pyarrow", "scikit-learn", "pillow")},
        "annotations": {
            "file": str(annotations.resolve()),
            "sha256": "+".join(map(sha256, release.files)),
            "bytes": sum(path.stat().st_size for path in release.files),
        },
        "images": str(images.resolve()),
        "parquet_sha256": sha256(parquet),
        "longest_utterance": limit,
        "table": {"title": table.title, "rows": [astuple(row) for row in table.rows]},
    }
    text = json.dumps(record, indent=1, ensure_ascii=False)
    atomic_write(folder / "prepared.json", lambda path: path.write_text(text, encoding="utf-8"))
    return table


def longest_utterance(rows: pd.DataFrame) -> float:
    """The token count above which the deep-net preprocessing drops an utterance."""
    import numpy as np

    return float(np.percentile(rows.loc[rows["split_deep_net"] == "train", "tokens"], LONGEST_PERCENTILE))


def _grouped(rows: pd.DataFrame) -> pd.DataFrame:
    """Bring the annotations of a painting together, paintings in order of first appearance."""
    rows = rows.assign(id=rows["art_style"] + "/" + rows["painting"])
    order = rows.groupby("id", sort=False).ngroup()
    return rows.iloc[order.argsort(kind="stable")].reset_index(drop=True)


def _add_splits(rows: pd.DataFrame) -> None:
    key = rows["art_style"] + rows["painting"]
    rows["split"] = key.map(official_splits(key))
    high = rows["repetition"] >= HIGH_COVERAGE
    rows["split_deep_net"] = key.map(official_splits(key[~high])).where(~high, "rest")


def _add_text(rows: pd.DataFrame, progress: bool) -> None:
    cleaned = [tokens(utterance) for utterance in bar(rows["utterance"].tolist(), "utterances", progress)]
    rows["text"] = [" ".join(words) for words in cleaned]
    rows["tokens"] = [len(words) for words in cleaned]


def _left_out(pictures: dict[str, Picture]) -> pd.DataFrame:
    import pandas as pd

    left_out = [(name, picture.problem) for name, picture in pictures.items() if picture.path is None]
    return pd.DataFrame(left_out, columns=["painting", "problem"])


def _table(release: Release, rows: pd.DataFrame, pictures: dict[str, Picture], limit: float) -> Iterator[TableRow]:
    paintings = rows.drop_duplicates("id")
    sizes = rows.groupby("id", sort=False)["repetition"].agg(["size", "first"])
    yield TableRow("annotations", len(rows), "all count in the emotion histograms")
    yield TableRow("emotion labels trimmed or re-cased", release.mended_labels)
    yield TableRow("utterances without a word", int((rows["tokens"] == 0).sum()), "no reference of text metrics")
    duplicates = int(release.rows.duplicated().sum())
    yield TableRow("repeated rows", duplicates, "kept, as the official preprocessing does")
    yield TableRow("utterances spell-checked", 0, SPELLING_NOTE)
    yield TableRow("paintings", len(paintings))
    differing = int((sizes["size"] != sizes["first"]).sum())
    if "version" not in rows:  # the second release adds rows to paintings without raising the count
        yield TableRow("paintings with another `repetition` than rows", differing, "more than 0: the file is not whole")
    yield from _picture_rows(paintings, pictures)
    for column, name in (("split", "none, minimal"), ("split_deep_net", "deep-net")):
        yield from _split_rows(paintings, column, name)
    yield from _deep_net_rows(rows, limit)


def _picture_rows(paintings: pd.DataFrame, pictures: dict[str, Picture]) -> Iterator[TableRow]:
    repairs = [picture.repair for picture in pictures.values() if picture.path]
    odd = int((~paintings["id"].map(str.isascii)).sum())
    yield TableRow("paintings with a non-ASCII name", odd)
    yield TableRow("pictures found", len(repairs), "decoded to the end")
    yield TableRow("pictures found under another spelling", sum(repair != AS_WRITTEN for repair in repairs))
    for repair in sorted(set(repairs) - {AS_WRITTEN}):
        yield TableRow(f"  {repair}", repairs.count(repair))
    missing = [name for name, picture in pictures.items() if picture.problem == "missing"]
    empty = {name.split("/")[0] for name in pictures} - {p.path.split("/")[0] for p in pictures.values() if p.path}
    note = f"{len(empty)} styles have none: {', '.join(sorted(empty))}" if empty else ""
    yield TableRow("pictures missing", len(missing), note)
    yield TableRow("pictures corrupt", len(pictures) - len(repairs) - len(missing), "left out; see left_out.csv")


def _split_rows(paintings: pd.DataFrame, column: str, name: str) -> Iterator[TableRow]:
    for split, count in paintings[column].value_counts().items():
        usable = int(paintings.loc[paintings[column] == split, "picture"].notna().sum())
        yield TableRow(f"paintings in {split} ({name})", int(count), f"{usable:,} with a picture")


def _deep_net_rows(rows: pd.DataFrame, limit: float) -> Iterator[TableRow]:
    short, long = rows["tokens"] < SHORTEST, rows["tokens"] > limit
    yield TableRow("utterances too short (deep-net)", int(short.sum()), f"fewer than {SHORTEST} tokens")
    percentile = f"more than {limit:g} tokens, the {LONGEST_PERCENTILE}th percentile of train"
    yield TableRow("utterances too long (deep-net)", int(long.sum()), percentile)

"""ArtEmis: the official release (one csv row per annotation) beside a WikiArt folder.

Options of the card:
    preprocessing: `none` (utterances as released), `minimal` (cleaned, nothing dropped; default) or `deep-net`
        (cleaned; paintings with 41 or more annotations set aside as split `rest` before splitting; utterances
        of fewer than 5 tokens or beyond the 95th percentile of train dropped): the official script's two modes.
    folder: name of the prepared copy under the data root (default `artemis`), so that several cards can share one.
    leave_out: a file of ids, one a line, relative to the card, that are not read: paintings that another task tests on.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from harness.errors import nearest
from harness.tasks.readers.artemis_text import tokens
from harness.tasks.readers.base import PreparedTable, TableRow, check_label
from harness.tasks.readers.image_files import AS_WRITTEN, FoundImage, bar, find_images, inside
from harness.tasks.readers.layout import PreparedReader, image_rows, sha256
from harness.tasks.readers.tables import DELIMITERS, read_text
from harness.types import Annotation, Example, Task, UserError

if TYPE_CHECKING:
    import pandas as pd

PREPROCESSINGS = ("none", "minimal", "deep-net")
COLUMNS = ("art_style", "painting", "emotion", "utterance", "repetition")
COPIED_COLUMNS = ("id", "art_style", "picture", "emotion", "utterance", "text", "tokens", "split", "split_deep_net")
SEED = 2021
VAL_SHARE, TEST_SHARE = 0.05, 0.1
HIGH_COVERAGE = 41
"""Annotations from which on a painting belongs to the split `rest` of the deep-net preprocessing."""
SHORTEST, LONGEST_PERCENTILE = 5, 95
"""The deep-net preprocessing drops utterances of fewer tokens, or longer than this percentile of train."""
SPELLING_NOTE = "the official hand-made corrections and SymSpell repair need word lists that are not available"


class ArtemisReader(PreparedReader):
    """Reads a prepared copy of ArtEmis; ids are `<art_style>/<painting>`, `meta` holds `style` and `artist`.

    The copy, `annotations.parquet`, holds a row per annotation, those of one painting together, with raw and cleaned
    text and both splits.
    """

    options: ClassVar[tuple[str, ...]] = ("preprocessing", "folder", "leave_out")
    columns: ClassVar[tuple[str, ...]] = COPIED_COLUMNS
    default_preprocessing: ClassVar[str] = "minimal"
    default_folder: ClassVar[str] = "artemis"
    copy_name: ClassVar[str] = "annotations.parquet"
    annotations_metavar: ClassVar[str] = "artemis_dataset_release_v0.csv"
    images_metavar: ClassVar[str] = "WIKIART_FOLDER"

    def __init__(self, task: Task, data_root: Path) -> None:
        super().__init__(task, data_root)
        self._mode = self.option("preprocessing", self.default_preprocessing)
        if self._mode not in PREPROCESSINGS:
            known = nearest(self._mode, PREPROCESSINGS)
            raise UserError(f"{self._where()}: unknown preprocessing {self._mode!r}; {known}")
        self._folder_name = self.option("folder", self.default_folder)
        if Path(self._folder_name).name != self._folder_name or self._folder_name == "..":
            raise UserError(f"{self._where()}: option 'folder' must be a plain folder name, got {self._folder_name!r}")

    @property
    def folder(self) -> Path:
        """Where the copy lies."""
        return self.data_root / self._folder_name

    @property
    def preprocessing(self) -> str:
        """`none`, `minimal` or `deep-net`."""
        return self._mode

    def examples(self, split: str | None = None) -> Iterator[Example]:
        """Stream the paintings that have an image and at least one kept utterance, in order of the release.

        Raises:
            UserError: not prepared, changed since, or the image folder is gone.
        """
        images, is_deep_net = self.images, self.preprocessing == "deep-net"
        text = "utterance" if self.preprocessing == "none" else "text"
        shortest, longest = (SHORTEST, self.record["longest_utterance"]) if is_deep_net else (1, math.inf)
        for rows in self._paintings():
            first = rows[0]
            own_split = first["split_deep_net" if is_deep_net else "split"]
            kept = [row for row in rows if shortest <= row["tokens"] <= longest]
            is_asked_for = first["id"] not in self.left_out and split in (None, own_split)
            if first["picture"] is None or not kept or not is_asked_for:
                continue
            counts = dict.fromkeys(self.task.emotions, 0)
            for row in rows:
                counts[check_label(row["emotion"], self.task, str(self.folder))] += 1
            # WikiArt's file names start with the artist: `Cubism/georges-braque_house` -> `georges braque`
            artist = first["id"].partition("/")[2].partition("_")[0].replace("-", " ")
            yield Example(
                id=first["id"],
                image=inside(images, first["picture"]),
                annotations=tuple(Annotation(row["emotion"], row[text]) for row in kept),
                emotion_histogram={label: count for label, count in counts.items() if count},
                split=own_split,
                meta={"style": first["art_style"].replace("_", " "), "artist": artist},
            )

    def fingerprint(self) -> dict[str, Any]:
        """Checksums of the release and of the prepared copy, and the preprocessing."""
        return {
            "annotations_sha256": self.record["annotations_sha256"],
            "annotations_bytes": self.record["annotations_bytes"],
            "prepared_sha256": self.record["sha256"],
            "preprocessing": self.preprocessing,
        } | self.left_out_fingerprint()

    def notes(self) -> list[str]:
        """How many paintings are left out, and what was not done to the text."""
        notes = super().notes()
        if self.preprocessing != "none":
            notes.append(f"Spelling is not repaired: {SPELLING_NOTE}.")
        return notes

    def prepare(self, annotations: Path, images: Path, progress: bool = True) -> PreparedTable:
        """Check the release against WikiArt's folder and write the local copy.

        Raises:
            UserError: the release or the image folder is not what it should be.
        """
        release = self._release(annotations)
        rows = release.rows.assign(id=release.rows["art_style"] + "/" + release.rows["painting"])
        order = rows.groupby("id", sort=False).ngroup()  # a painting's rows together, paintings as they first appear
        rows = rows.iloc[order.argsort(kind="stable")].reset_index(drop=True)
        key, high = rows["art_style"] + rows["painting"], rows["repetition"] >= HIGH_COVERAGE
        rows["split"] = key.map(official_splits(key))
        rows["split_deep_net"] = key.map(official_splits(key[~high])).where(~high, "rest")
        cleaned = [tokens(utterance) for utterance in bar(rows["utterance"].tolist(), "utterances", progress)]
        rows["text"] = [" ".join(words) for words in cleaned]
        rows["tokens"] = [len(words) for words in cleaned]
        expected = "<art_style>/<painting>.jpg, " + f"for example {images / rows['id'].iloc[0]}.jpg"
        found = find_images(rows["id"] + ".jpg", images, progress, expected=expected)
        found = {name.removesuffix(".jpg"): image for name, image in found.items()}
        rows["picture"] = rows["id"].map({key: image.path for key, image in found.items()})
        limit = longest_utterance(rows)
        self._extend(rows, limit)
        return self.keep_copy(
            lambda path: rows.to_parquet(path, index=False),
            found,
            tuple(_table(release, rows, found, limit)),
            annotations,
            images,
            annotations_sha256="+".join(map(sha256, release.files)),
            annotations_bytes=sum(path.stat().st_size for path in release.files),
            longest_utterance=limit,
        )

    def _release(self, annotations: Path) -> Release:
        return read_release(annotations, self.task)

    def _extend(self, rows: pd.DataFrame, limit: float) -> None:
        """Add columns to the copy, given the longest utterance that the deep-net preprocessing keeps."""

    def _paintings(self) -> Iterator[list[dict[str, Any]]]:
        """The rows of one painting at a time."""
        for _, group in groupby(self.copied_rows(self.columns), key=lambda row: row["id"]):
            yield list(group)


# ---------------------------------------------------------------------------------------------------- the release


@dataclass(frozen=True, slots=True)
class Release:
    """The rows of a release.

    Attributes:
        rows: the five `COLUMNS`, in file order; `repetition` as int64, the rest text, names exactly as written.
        respelled_labels: rows whose emotion had to be trimmed or lower-cased.
        files: what was read.
    """

    rows: pd.DataFrame
    respelled_labels: int
    files: tuple[Path, ...]


def read_release(path: Path, task: Task, more: tuple[str, ...] = ()) -> Release:
    """Read the csv: any delimiter, byte-order mark, UTF-16, CRLF, quoted newlines and stray carriage returns.

    Args:
        path: the csv.
        task: for its labels.
        more: further columns that must be there and are kept as text.

    Raises:
        UserError: unreadable, not UTF-8, not a csv, a column is missing, a row without style or painting, an
            emotion outside the task's labels, a repetition that is no whole number; rows are counted from 1.
    """
    rows = _read_csv(path, COLUMNS + more)
    rows = rows[(rows != "").any(axis=1)].reset_index(drop=True)  # Excel saves empty rows as ,,,
    if rows.empty:
        raise UserError(f"{path}: holds a header but no annotation")
    rows = rows[list(COLUMNS + more)].fillna("")
    for column in ("art_style", "painting"):
        _refuse_first(rows, column, rows[column].str.strip() == "", path, "is empty")
    spelling = {label.casefold(): label for label in task.emotions}
    labels = rows["emotion"].str.strip().map(lambda label: spelling.get(label.casefold(), label))
    respelled = int((labels != rows["emotion"]).sum())
    rows["emotion"] = labels
    for emotion in rows["emotion"].unique():
        if emotion not in task.emotions:
            first = int((rows["emotion"] == emotion).argmax())
            check_label(emotion, task, f"{path}, annotation {first + 1} ({rows['painting'].iloc[first]})")
    counts = rows["repetition"].str.strip().str.replace(r"\.0+$", "", regex=True)  # pandas writes 5.0 after a merge
    _refuse_first(rows, "repetition", ~counts.str.fullmatch(r"\d{1,9}"), path, "is not a whole number")
    rows["repetition"] = counts.astype("int64")
    return Release(rows, respelled, (path,))


def _read_csv(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    import pandas as pd

    if path.is_dir():
        raise UserError(f"{path}: is a folder, expected the csv of the release")
    text = read_text(path)
    if text.lstrip()[:1] in ("{", "["):
        raise UserError(f"{path}: is JSON, expected the csv of the release; SEVLM's files have dataset: sevlm-json")
    header = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=lambda mark: sum(c in columns for c in header.replace('"', "").split(mark)))
    # A line ends with \n; without this, pandas would end one at a carriage return inside an unquoted utterance.
    end: Literal["\n", "\r"] = "\n" if "\n" in text else "\r"
    try:
        rows: pd.DataFrame = pd.read_csv(
            io.StringIO(text), lineterminator=end, sep=delimiter, dtype=str, keep_default_na=False
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        raise UserError(f"{path}: not a csv file: {str(error).strip()}") from None
    if not isinstance(rows.index, pd.RangeIndex):  # pandas takes surplus leading fields for an index
        raise UserError(
            f"{path}: not a csv file: the first row has more fields than the header "
            f"({len(header.split(delimiter))} between {delimiter!r}); are texts that hold {delimiter!r} in quotes?"
        )
    rows.columns = rows.columns.str.strip()
    last = rows.columns[-1]
    rows[last] = rows[last].str.rstrip("\r")
    if missing := [column for column in columns if column not in rows.columns]:
        found = ", ".join(str(column)[:40] for column in rows.columns[:20])
        raise UserError(
            f"{path}: no column {', '.join(missing)}; found {found}; an ArtEmis release has {', '.join(columns)}"
        )
    return rows


def _refuse_first(rows: pd.DataFrame, column: str, wrong: pd.Series[bool], path: Path, what: str) -> None:
    if wrong.any():
        first = int(wrong.argmax())
        row = rows.iloc[first]
        where = f"{path}, annotation {first + 1} ({row['art_style']}/{row['painting']})"
        raise UserError(f"{where}: {column} {what}: {str(row[column])[:60]!r}")


def official_splits(paintings: Iterable[str]) -> dict[str, str]:
    """Assign each painting to `train`, `val` or `test` as the official preprocessing does.

    Args:
        paintings: `art_style + painting` of every painting, exactly as in the file, before any repair.

    Returns:
        painting -> split; 85/5/10, reproducible (`make_train_test_val_splits` of github.com/optas/artemis).

    Raises:
        UserError: too few paintings to split.
    """
    from sklearn.model_selection import train_test_split

    names = sorted(set(paintings))
    if len(names) < 10:
        raise UserError(f"{len(names)} paintings are too few to split into train, val and test; at least 10 are needed")
    train, held_out = train_test_split(names, test_size=VAL_SHARE + TEST_SHARE, random_state=SEED)
    val, test = train_test_split(held_out, test_size=round(TEST_SHARE * len(names)), random_state=SEED)
    parts = {"train": train, "val": val, "test": test}
    return {name: split for split, members in parts.items() for name in members}


def longest_utterance(rows: pd.DataFrame) -> float:
    """The token count above which the deep-net preprocessing drops an utterance."""
    import numpy as np

    return float(np.percentile(rows.loc[rows["split_deep_net"] == "train", "tokens"], LONGEST_PERCENTILE))


def _table(release: Release, rows: pd.DataFrame, found: dict[str, FoundImage], limit: float) -> Iterator[TableRow]:
    paintings = rows.drop_duplicates("id")
    sizes = rows.groupby("id", sort=False)["repetition"].agg(["size", "first"])
    yield TableRow("annotations", len(rows), "all count in the emotion histograms")
    yield TableRow("emotion labels trimmed or re-cased", release.respelled_labels)
    yield TableRow("utterances without a word", int((rows["tokens"] == 0).sum()), "no reference of text metrics")
    duplicates = int(release.rows.duplicated().sum())
    yield TableRow("repeated rows", duplicates, "kept, as the official preprocessing does")
    yield TableRow("utterances spell-checked", 0, SPELLING_NOTE)
    yield TableRow("paintings", len(paintings))
    differing = int((sizes["size"] != sizes["first"]).sum())
    if "version" not in rows:  # the second release adds rows to paintings without raising the count
        yield TableRow("paintings with another `repetition` than rows", differing, "more than 0: the file is not whole")
    yield TableRow("paintings with a non-ASCII name", int((~paintings["id"].map(str.isascii)).sum()))
    yield from image_rows(found)
    repairs = [image.repair for image in found.values() if image.path]
    for repair in sorted(set(repairs) - {AS_WRITTEN}):
        yield TableRow(f"  {repair}", repairs.count(repair))
    empty = {name.split("/")[0] for name in found} - {i.path.split("/")[0] for i in found.values() if i.path}
    yield TableRow("styles without an image", len(empty), ", ".join(sorted(empty)))
    for column, name in (("split", "none, minimal"), ("split_deep_net", "deep-net")):
        for split, count in paintings[column].value_counts().items():
            usable = int(paintings.loc[paintings[column] == split, "picture"].notna().sum())
            yield TableRow(f"paintings in {split} ({name})", int(count), f"{usable:,} with an image")
    short, long = rows["tokens"] < SHORTEST, rows["tokens"] > limit
    yield TableRow("utterances too short (deep-net)", int(short.sum()), f"fewer than {SHORTEST} tokens")
    percentile = f"more than {limit:g} tokens, the {LONGEST_PERCENTILE}th percentile of train"
    yield TableRow("utterances too long (deep-net)", int(long.sum()), percentile)

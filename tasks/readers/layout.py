"""Prepared data: official files are read once, checked against the image folder, and kept as a local copy.

`PreparedReader` is the copy: where it lies, what it records, whether it is still what it was. `LayoutReader` is the
shape that most datasets share: a reader says how the files are laid out, as `entries`; the search for images, the
splits and the table of what was found come with it. Images are read where they are.

<data root>/<task>/examples.parquet  one row per image, in the order of the official files
<data root>/<task>/left_out.csv      images that are missing, corrupt or ambiguous
<data root>/<task>/prepared.txt      the table printed at the end
<data root>/<task>/prepared.json     what the copy was made from, checksums; written last
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shlex
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from harness.atomic import atomic_write, write_atomically
from harness.errors import nearest
from harness.tasks.readers.base import PreparedTable, Reader, TableRow, check_label, count_splits, facts_of
from harness.tasks.readers.image_files import AMBIGUOUS, AS_WRITTEN, FoundImage, find_images, inside
from harness.tasks.readers.tables import read_text
from harness.types import Annotation, Example, UserError, histogram

SCHEMA = 3
SEED = 2021
"""The seed of ArtEmis's own split, kept for every drawn one."""


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class PreparedReader(Reader):
    """A reader of the copy that `harness data prepare` made.

    Class attributes:
        copy_name: the Parquet file of the copy.
        annotations_metavar: what `--annotations` names, for messages.
        images_metavar: what `--images` names.
    """

    copy_name: ClassVar[str] = "examples.parquet"
    annotations_metavar: ClassVar[str] = "FILE"
    images_metavar: ClassVar[str] = "FOLDER"

    @property
    def folder(self) -> Path:
        """Where the copy lies."""
        return self.data_root / self.task.name

    @property
    def needs_images(self) -> bool:
        """Whether an example without an image is left out."""
        return True

    @cached_property
    def left_out(self) -> frozenset[str]:
        """Ids that the card's option `leave_out` names in a file, one a line.

        Raises:
            UserError: no such file, or it names an id that the copy does not hold.
        """
        if "leave_out" not in self.task.options:
            return frozenset()
        path = self.option_path("leave_out")
        ids = frozenset(line.strip() for line in read_text(path).splitlines() if line.strip())
        known = {row["id"] for row in self.copied_rows(["id"])}
        if unknown := sorted(ids - known):
            raise UserError(f"{path}: {len(unknown)} ids are not in {self.folder}: {', '.join(unknown[:5])}")
        return ids

    @property
    def images(self) -> Path:
        """The image folder.

        Raises:
            UserError: not prepared, changed since, or the folder is gone although images are needed.
        """
        images = Path(self.record["images"])
        if self.needs_images and not images.is_dir():
            raise UserError(f"{images}: the image folder is gone since {self.folder} was prepared; {self._command()}")
        return images

    @cached_property
    def record(self) -> Mapping[str, Any]:
        """What `prepare` wrote down.

        Raises:
            UserError: not prepared, or changed since.
        """
        path, copy = self.folder / "prepared.json", self.folder / self.copy_name
        if not (path.is_file() and copy.is_file()):
            raise UserError(
                f"task {self.task.name!r}: nothing prepared in {self.folder} (data root from --data-root or "
                f"HARNESS_DATA); {self._command()}"
            )
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            found = None
        record: dict[str, Any] = found if isinstance(found, dict) else {}
        if record.get("schema") != SCHEMA or sha256(copy) != record.get("sha256"):
            raise UserError(f"{self.folder}: prepared by another version, or changed since; {self._command()}")
        return record

    def copied_rows(self, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """Stream the rows of the copy."""
        from pyarrow.parquet import ParquetFile

        with ParquetFile(self.folder / self.copy_name) as file:
            for batch in file.iter_batches(4096, columns=None if columns is None else list(columns)):
                yield from batch.to_pylist()

    def keep_copy(
        self,
        write: Callable[[Path], object],
        found: Mapping[str, FoundImage],
        rows: Sequence[TableRow],
        annotations: Path,
        images: Path,
        **record: Any,
    ) -> PreparedTable:
        """Write the four files, and count in the table what the copy holds.

        Args:
            write: writes the Parquet file to the path it is given.
            found: image -> what became of it.
            rows: of the table.
            annotations, images: what the command named.
            record: further entries of `prepared.json`.
        """
        self.__dict__.pop("record", None)
        copy = self.folder / self.copy_name
        atomic_write(copy, write)
        out = io.StringIO()
        left_out = [(name, image.problem) for name, image in found.items() if image.path is None]
        csv.writer(out, lineterminator="\n").writerows([("image", "problem"), *left_out])
        write_atomically(self.folder / "left_out.csv", out.getvalue())
        whole = {
            "schema": SCHEMA,
            "annotations": str(annotations.resolve()),
            "images": str(images.resolve()),
            "sha256": sha256(copy),
            "title": f"{self.task.name}: prepared in {self.folder}",
            "rows": [astuple(row) for row in rows],
        } | record
        self._write_record(whole)
        facts = facts_of(self.examples(), self.task.emotions)
        self._write_record(whole | {"rows": [astuple(row) for row in (*rows, *facts)]})
        table = self.table()
        write_atomically(self.folder / "prepared.txt", f"{table}\n")
        return table

    def _write_record(self, record: Mapping[str, Any]) -> None:
        self.__dict__.pop("record", None)
        write_atomically(self.folder / "prepared.json", json.dumps(record, indent=1, ensure_ascii=False))

    def table(self) -> PreparedTable:
        """What `prepare` counted."""
        return PreparedTable(self.record["title"], tuple(TableRow(*row) for row in self.record["rows"]))

    @property
    def facts(self) -> tuple[TableRow, ...]:
        """What `prepare` counted."""
        return self.table().rows

    def splits(self) -> dict[str, int]:
        """Examples per split."""
        return count_splits(self.examples())

    def notes(self) -> list[str]:
        """How many images are left out, or that none was looked for."""
        if not self.needs_images:
            return ["Images were not required: run only models that ignore them, or score existing outcomes."]
        counts, notes = self.table().counts(), []
        if without := counts["images missing"] + counts["images corrupt"]:
            total = counts["images"]
            notes.append(f"{without:,} of {total:,} images are missing or cannot be decoded and are left out.")
        if self.left_out:
            shown = ", ".join(sorted(self.left_out)[:3])
            notes.append(f"{len(self.left_out):,} examples are left out by {self.option('leave_out')}: {shown}, ...")
        return notes

    def left_out_fingerprint(self) -> dict[str, Any]:
        """Identity of what `leave_out` names; empty without it."""
        if not self.left_out:
            return {}
        return {"left_out_sha256": hashlib.sha256("\n".join(sorted(self.left_out)).encode()).hexdigest()}

    def check(self) -> PreparedTable:
        """The table of `prepare`, after verifying the copy's checksum and that every image is still there."""
        gone = sorted(e.id for e in self.examples() if not e.image.is_file()) if self.needs_images else []
        table = self.table()
        return PreparedTable(table.title, (*table.rows, TableRow("images gone since", len(gone), ", ".join(gone[:3]))))

    def _command(self) -> str:
        built_in = self.task.source is not None and self.task.source.parent == Path(__file__).parent.parent / "cards"
        name = self.task.name if built_in or self.task.source is None else shlex.quote(str(self.task.source))
        return (
            f"type: harness data prepare {name} --annotations {self.annotations_metavar} --images "
            f"{self.images_metavar} --data-root {shlex.quote(str(self.data_root))}"
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """One image as a dataset's files describe it.

    Attributes:
        id: unique within the dataset.
        image: path relative to the image folder, as the dataset writes it.
        annotations: what people said; `explanation` is empty in data without explanations.
        split: the official one; None if the dataset has none.
        meta, ratings, context: as in `harness.types.Example`.
    """

    id: str
    image: str
    annotations: tuple[Annotation, ...]
    split: str | None = None
    meta: Mapping[str, str] = field(default_factory=dict)
    ratings: Mapping[str, float] = field(default_factory=dict)
    context: str = ""


class LayoutReader(PreparedReader):
    """A reader of official files; a subclass gives `entries`.

    Class attributes:
        images_anywhere: images may lie in any sub-folder, found by their file name.

    Options of every such reader:
        val_share, test_share: shares drawn by image if the files give no split (default 0.05 and 0.1).
        stratify: draw within each class (default false).
        split: `test` (or another name) puts every example into that split; no split is drawn.
        encoding: of text files (default `utf-8`; UTF-16 with a byte-order mark is recognised).
        images_anywhere: true to find images by file name in any sub-folder.
        ambiguous_images: what to do if two files of one name differ: `refuse` (default), `first` or `leave_out`.
        leave_out: a file of ids, one a line, relative to the card: examples that are not read, for example because
            another task tests on them.
        without_images: true keeps everything without looking for images (default false): enough for models that
            ignore them, such as `majority`, and for scoring outcomes made elsewhere.
    """

    options: ClassVar[tuple[str, ...]] = (
        "val_share", "test_share", "stratify", "split", "encoding", "images_anywhere", "ambiguous_images",
        "leave_out", "without_images", "without_pictures",
    )  # fmt: skip
    images_anywhere: ClassVar[bool] = False

    @abstractmethod
    def entries(self, annotations: Path, images: Path, remarks: Counter[str]) -> Iterator[Entry]:
        """Read the official files.

        Args:
            annotations: file or folder given by `--annotations`.
            images: image folder.
            remarks: counts of whatever was fixed or dropped; they become lines of the table.

        Raises:
            UserError: the files are not what they should be; names file and line.
        """

    @property
    def needs_images(self) -> bool:
        """Whether an entry without an image is left out."""
        return not (self.flag("without_images") or self.flag("without_pictures"))

    def examples(self, split: str | None = None) -> Iterator[Example]:
        """Stream the images of the copy, in the order of the official files.

        Raises:
            UserError: not prepared, changed since, or the image folder is gone.
        """
        images = self.images
        for row in self.copied_rows():
            if split in (None, row["split"]) and row["id"] not in self.left_out:
                annotations = tuple(Annotation(**note) for note in row["annotations"])
                for annotation in annotations:
                    check_label(annotation.emotion, self.task, str(self.folder))
                yield Example(
                    id=row["id"],
                    image=inside(images, row["image"]),
                    annotations=annotations,
                    emotion_histogram=histogram(annotations),
                    split=row["split"],
                    meta=dict(row["meta"]),
                    ratings=dict(row["ratings"]),
                    context=row["context"],
                )

    def fingerprint(self) -> dict[str, Any]:
        """Checksum of the copy and of the file it was made from."""
        known = {"annotations_sha256": self.record["annotations_sha256"], "prepared_sha256": self.record["sha256"]}
        return known | self.left_out_fingerprint()

    def prepare(self, annotations: Path, images: Path, progress: bool = True) -> PreparedTable:
        """Read the official files, look for every image, draw splits if there are none, write the copy.

        Raises:
            UserError: the files or the image folder are not what they should be.
        """
        remarks: Counter[str] = Counter()
        entries = list(self.entries(annotations, images, remarks))
        for entry in entries:
            for annotation in entry.annotations:
                check_label(annotation.emotion, self.task, f"{annotations}, {entry.id}")
        repeated = [id_ for id_, count in Counter(entry.id for entry in entries).items() if count > 1]
        if repeated:
            raise UserError(f"{annotations}: {repeated[0]!r} is described {len(repeated)} times; ids must be unique")
        found, ambiguous = self._found(entries, images, progress)
        splits = self._splits_of(entries)
        kept = [
            {
                "id": entry.id,
                "image": found[entry.image].path,
                "split": entry.split or splits[entry.image],
                "annotations": [asdict(annotation) for annotation in entry.annotations],
                "meta": list(entry.meta.items()),
                "ratings": list(entry.ratings.items()),
                "context": entry.context,
            }
            for entry in entries
            if entry.annotations and found[entry.image].path is not None
        ]
        if not kept:
            raise UserError(f"{annotations}: no image with a usable annotation")
        counts = [len(entry.annotations) for entry in entries]
        rows = [
            TableRow("entries", len(entries)),
            TableRow("annotations", sum(counts)),
            TableRow("most annotations of one entry", max(counts)),
            TableRow("entries without a usable annotation", counts.count(0)),
            *(TableRow(what, count) for what, count in sorted(remarks.items())),
            *image_rows(found, self.needs_images),
        ]
        if ambiguous:
            rows.append(TableRow("images of ambiguous name", len(ambiguous), ", ".join(list(ambiguous)[:3])))
        checksum = sha256(annotations) if annotations.is_file() else None
        return self.keep_copy(
            lambda path: _write_rows(path, kept), found, rows, annotations, images, annotations_sha256=checksum
        )

    def _found(
        self, entries: Sequence[Entry], images: Path, progress: bool
    ) -> tuple[dict[str, FoundImage], dict[str, str]]:
        """Image -> what became of it, and the ambiguous ones with their paths.

        Raises:
            UserError: ambiguous images, unless the card says what to do with them.
        """
        if not self.needs_images:
            return {e.image: FoundImage(e.image, AS_WRITTEN) for e in entries}, {}
        anywhere = self.images_anywhere or self.flag("images_anywhere")
        found = find_images((entry.image for entry in entries), images, progress, anywhere=anywhere)
        ambiguous = {name: image.problem for name, image in found.items() if image.problem.startswith(AMBIGUOUS)}
        choice = self.option("ambiguous_images", "refuse")
        if choice not in ("refuse", "first", "leave_out"):
            raise UserError(f"{self._where()}: ambiguous_images: {nearest(choice, ('refuse', 'first', 'leave_out'))}")
        if ambiguous and choice == "refuse":
            shown = "; ".join(f"{name}: {problem}" for name, problem in list(ambiguous.items())[:3])
            raise UserError(
                f"{images}: files of one name but different content, for {len(ambiguous)} images: {shown}; remove "
                "the wrong ones, or add options: {ambiguous_images: first} (or leave_out) to a copy of the card"
            )
        if choice == "first":
            first = find_images(
                [problem[len(AMBIGUOUS) + 2 : -1].split(", ")[0] for problem in ambiguous.values()], images, False
            )
            found |= dict(zip(ambiguous, first.values(), strict=True))
        return found, ambiguous

    def _splits_of(self, entries: Sequence[Entry]) -> Mapping[str, str]:
        """Splits of the images that have no official one, drawn over all of them, found or not."""
        without = {e.image: e.annotations[0].emotion for e in entries if e.split is None and e.annotations}
        if "split" in self.task.options:
            return dict.fromkeys(without, self.option("split"))
        if not without:
            return {}
        return drawn_splits(
            without, self.number("val_share", 0.05), self.number("test_share", 0.1), self.flag("stratify")
        )


def drawn_splits(images: Mapping[str, str], val: float, test: float, stratify: bool) -> dict[str, str]:
    """Assign each image to `train`, `val` or `test`; independent of the order in which they are given.

    Args:
        images: image -> its class, used when `stratify`.
        val, test: shares in 0..1, `test` above 0, together below 1.
        stratify: draw within each class (classes with a single image are drawn together).

    Raises:
        UserError: too few images, or shares that are impossible.
    """
    from sklearn.model_selection import train_test_split

    if not (0 <= val < 1 and 0 < test < 1 and val + test < 1):
        raise UserError(
            f"shares val {val:g} and test {test:g} must leave some images for training and for testing; "
            "to test on everything write options: {split: test}"
        )
    names = sorted(images)
    held = round((val + test) * len(names))
    if round(test * len(names)) < 1 or held >= len(names):
        raise UserError(
            f"{len(names)} images are too few to split into train, val and test; "
            "to test on everything write options: {split: test}"
        )
    classes = _strata(names, images) if stratify else None
    train, rest = train_test_split(names, test_size=held, random_state=SEED, stratify=classes)
    validation: list[str] = []
    if val and round(test * len(names)) < len(rest):
        again = _strata(rest, images) if stratify else None
        validation, rest = train_test_split(rest, test_size=round(test * len(names)), random_state=SEED, stratify=again)
    parts = {"train": train, "val": validation, "test": rest}
    return {name: split for split, members in parts.items() for name in members}


def _strata(names: list[str], classes: Mapping[str, str]) -> list[str] | None:
    """The class of each name, rare ones merged; None if some class could not be in every part."""
    counts = Counter(classes[name] for name in names)
    merged = [classes[name] if counts[classes[name]] > 1 else "" for name in names]
    groups = Counter(merged)
    return merged if len(groups) > 1 and min(groups.values()) > 1 and len(groups) * 2 <= len(names) else None


def image_rows(found: Mapping[str, FoundImage], decoded: bool = True) -> Iterator[TableRow]:
    """How many images there are, and how many were repaired, missing or corrupt."""
    there = [image for image in found.values() if image.path]
    missing = [name for name, image in found.items() if image.problem == "missing"]
    yield TableRow("images", len(found))
    yield TableRow("images found", len(there), "decoded to the end" if decoded else "not looked for")
    yield TableRow("images found under another spelling", sum(image.repair != AS_WRITTEN for image in there))
    yield TableRow("images missing", len(missing), ", ".join(missing[:3]))
    corrupt = sum(image.problem.startswith("corrupt") for image in found.values())
    yield TableRow("images corrupt", corrupt, "left out; see left_out.csv")


def _write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = pa.string()
    schema = pa.schema(
        {
            "id": text,
            "image": text,
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
        raise UserError(f"{error.object[:80]!a}: a text or file name that is no Unicode; fix it first") from None

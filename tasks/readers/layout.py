"""The shape that most readers share: official files -> entries -> a checked copy -> examples.

A reader says how its dataset's files are laid out, as `entries`; everything else is here and in `layout_copy`. The copy
lies in `<data root>/<task>`; pictures are read where they are.
"""

from __future__ import annotations

import shlex
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from harness.tasks.file_names import AS_WRITTEN, inside
from harness.tasks.readers.base import PreparedTable, Reader, TableRow, check_label, count_splits
from harness.tasks.readers.drawn_splits import drawn_splits
from harness.tasks.readers.layout_copy import EXAMPLES, SCHEMA, Entry, example_rows, read_rows, table_rows, write_copy
from harness.tasks.readers.picture_search import Picture, find_pictures
from harness.tasks.readers.prepared import prepared_record, sha256
from harness.types import Annotation, Example, UserError, histogram

__all__ = ["Entry", "LayoutReader"]


class LayoutReader(Reader):
    """A reader of official files; a subclass gives `entries`.

    Class attributes:
        annotations_say: what `--annotations` names, for messages.
        pictures_anywhere: pictures may lie in any sub-folder, found by their file name.
        shows_pictures: False for data whose pictures cannot be shown here; none is looked for.

    Options of every such reader:
        val_share, test_share: shares drawn by picture where the files give no split (default 0.05 and 0.1).
        stratify: draw within each class (default false).
        encoding: of text files (default `utf-8`).
        without_pictures: true keeps everything without looking for pictures (default false): enough for models that
            look at none, such as `majority`, and for scoring outcomes made elsewhere.
    """

    options: ClassVar[tuple[str, ...]] = ("val_share", "test_share", "stratify", "encoding", "without_pictures")
    annotations_say: ClassVar[str] = "FILE"
    pictures_anywhere: ClassVar[bool] = False
    shows_pictures: ClassVar[bool] = True

    @abstractmethod
    def entries(self, annotations: Path, images: Path, remarks: Counter[str]) -> Iterator[Entry]:
        """Read the official files.

        Args:
            annotations: file or folder given by `--annotations`.
            images: picture folder.
            remarks: counts of whatever was mended or dropped; they become lines of the table.

        Raises:
            UserError: the files are not what they should be; names file and line.
        """

    @property
    def needs_pictures(self) -> bool:
        """Whether an entry without a picture is left out."""
        return self.shows_pictures and self.task.options.get("without_pictures", False) is not True

    # ------------------------------------------------------------------ reading the copy

    @property
    def folder(self) -> Path:
        """Where the copy lies."""
        return self.data_root / self.task.name

    def examples(self, split: str | None = None) -> Iterator[Example]:
        """Stream the pictures of the copy, in the order of the official files.

        Raises:
            UserError: not prepared, changed since, or the picture folder is gone.
        """
        images = Path(self._record["images"])
        if self.needs_pictures and not images.is_dir():
            raise UserError(f"{images}: the picture folder is gone since {self.folder} was prepared; {self._command()}")
        for row in read_rows(self.folder):
            if split in (None, row["split"]):
                yield self._example(row, images)

    def _example(self, row: Mapping[str, Any], images: Path) -> Example:
        annotations = tuple(Annotation(**note) for note in row["annotations"])
        for annotation in annotations:
            check_label(annotation.emotion, self.task, str(self.folder))
        return Example(
            id=row["id"],
            image=inside(images, row["picture"]),
            annotations=annotations,
            emotion_histogram=histogram(annotations),
            split=row["split"],
            meta=dict(row["meta"]),
            ratings=dict(row["ratings"]),
            context=row["context"],
        )

    def splits(self) -> dict[str, int]:
        """Examples per split."""
        return count_splits(self.examples())

    def fingerprint(self) -> dict[str, Any]:
        """Checksum of the copy and of the file it was made from."""
        return {"annotations_sha256": self._record["annotations_sha256"], "prepared_sha256": self._record["sha256"]}

    def notes(self) -> list[str]:
        """How many pictures are left out, or that none was looked for."""
        if not self.needs_pictures:
            return [
                "Pictures were not looked for: only models that look at none can answer, and given outcomes be scored."
            ]
        counts = self._table().counts()
        without = counts["pictures missing"] + counts["pictures corrupt"]
        if not without:
            return []
        return [f"{without:,} of {counts['pictures']:,} pictures are missing or cannot be decoded and are left out."]

    def check(self) -> PreparedTable:
        """The table of `prepare`, after verifying the copy's checksum and that every picture is still there."""
        gone = sorted(e.id for e in self.examples() if not e.image.is_file()) if self.needs_pictures else []
        table = self._table()
        return PreparedTable(
            table.title, (*table.rows, TableRow("pictures gone since", len(gone), ", ".join(gone[:3])))
        )

    def _table(self) -> PreparedTable:
        return PreparedTable(self._record["title"], tuple(TableRow(*row) for row in self._record["rows"]))

    @cached_property
    def _record(self) -> Mapping[str, Any]:
        path, copy = self.folder / "prepared.json", self.folder / EXAMPLES
        if not (path.is_file() and copy.is_file()):
            raise UserError(
                f"task {self.task.name!r}: nothing prepared in {self.folder} (data root from --data-root or "
                f"HARNESS_DATA); {self._command()}"
            )
        record = prepared_record(path)
        if record.get("schema") != SCHEMA or sha256(copy) != record.get("sha256"):
            raise UserError(f"{self.folder}: prepared by another version, or changed since; {self._command()}")
        return record

    def _command(self) -> str:
        card = self.task.name if self.task.source is None else self.task.source
        name = self.task.name if self._is_builtin() else shlex.quote(str(card))
        root = shlex.quote(str(self.data_root))
        return (
            f"type: harness data prepare {name} --annotations {self.annotations_say} --images FOLDER --data-root {root}"
        )

    def _is_builtin(self) -> bool:
        return self.task.source is not None and self.task.source.parent == Path(__file__).parent.parent / "cards"

    # ------------------------------------------------------------------ making the copy

    def prepare(self, annotations: Path, images: Path, progress: bool = True) -> PreparedTable:
        """Read the official files, look for every picture, draw splits where there are none, write the copy.

        Raises:
            UserError: the files or the picture folder are not what they should be.
        """
        remarks: Counter[str] = Counter()
        entries = list(self.entries(annotations, images, remarks))
        self._check_entries(entries, annotations)
        pictures = self._pictures(entries, images, progress)
        kept = list(example_rows(entries, pictures, self._drawn(entries)))
        if not kept:
            raise UserError(f"{annotations}: no picture with a usable annotation")
        title = f"{self.task.name}: prepared in {self.folder}"
        rows = tuple(table_rows(entries, kept, pictures, remarks, self.task.emotions))
        table = PreparedTable(title, rows)
        self.__dict__.pop("_record", None)
        write_copy(self.folder, kept, pictures, table, annotations, images)
        return table

    def _check_entries(self, entries: list[Entry], annotations: Path) -> None:
        for entry in entries:
            for annotation in entry.annotations:
                check_label(annotation.emotion, self.task, f"{annotations}, {entry.id}")
        repeated = [id_ for id_, count in Counter(entry.id for entry in entries).items() if count > 1]
        if repeated:
            raise UserError(f"{annotations}: {repeated[0]!r} is described {len(repeated)} times; ids must be unique")

    def _pictures(self, entries: list[Entry], images: Path, progress: bool) -> dict[str, Picture]:
        if self.needs_pictures:
            names = (entry.picture for entry in entries)
            return find_pictures(names, images, progress, anywhere=self.pictures_anywhere)
        return {e.picture: Picture(e.picture, AS_WRITTEN) for e in entries}

    def _drawn(self, entries: list[Entry]) -> dict[str, str]:
        """Splits of the pictures that have no official one, drawn over all of them, found or not."""
        without = {e.picture: e.annotations[0].emotion for e in entries if e.split is None and e.annotations}
        if not without:
            return {}
        val, test = self.number("val_share", 0.05), self.number("test_share", 0.1)
        return drawn_splits(without, val, test, self.task.options.get("stratify", False) is True)

    def number(self, name: str, default: float) -> float:
        """A numeric option.

        Raises:
            UserError: it is no number.
        """
        value = self.task.options.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{self._where()}: option {name!r} must be a number, got {value!r}")
        return float(value)

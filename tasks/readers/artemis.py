"""ArtEmis: the official release beside a WikiArt folder, read from the copy that `harness data prepare` made.

Options of the card:
    preprocessing: `none` (utterances as released), `minimal` (cleaned, nothing dropped; default) or `deep-net`
        (cleaned; paintings with 41 or more annotations set aside as split `rest` before splitting; utterances
        of fewer than 5 tokens or beyond the 95th percentile of train dropped): the official script's two modes.
    folder: name of the prepared copy under the data root (default `artemis`), so that several cards can share one.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

from harness.suggestions import nearest
from harness.tasks.file_names import inside
from harness.tasks.readers import artemis_prepare
from harness.tasks.readers.base import PreparedTable, Reader, TableRow, check_label, count_splits
from harness.tasks.readers.prepared import prepared_record, sha256
from harness.types import Annotation, Example, Task, UserError

PREPROCESSINGS = ("none", "minimal", "deep-net")
COLUMNS = ("id", "art_style", "picture", "emotion", "utterance", "text", "tokens", "split", "split_deep_net")
_BATCH_ROWS = 16_384


class ArtemisReader(Reader):
    """Reads a prepared copy of ArtEmis; ids are `<art_style>/<painting>`, `meta` holds `style` and `artist`."""

    options: ClassVar[tuple[str, ...]] = ("preprocessing", "folder")
    columns: ClassVar[tuple[str, ...]] = COLUMNS
    default_preprocessing: ClassVar[str] = "minimal"
    default_folder: ClassVar[str] = "artemis"
    annotations_say: ClassVar[str] = "artemis_dataset_release_v0.csv"

    def __init__(self, task: Task, data_root: Path) -> None:
        super().__init__(task, data_root)
        self._mode = self.option("preprocessing", self.default_preprocessing)
        if self._mode not in PREPROCESSINGS:
            known = nearest(self._mode, PREPROCESSINGS)
            raise UserError(f"{self._where()}: unknown preprocessing {self._mode!r}; {known}")
        name = self.option("folder", self.default_folder)
        if Path(name).name != name or name == "..":
            raise UserError(f"{self._where()}: option 'folder' must be a plain folder name, got {name!r}")
        self.folder = data_root / name

    @property
    def preprocessing(self) -> str:
        """`none`, `minimal` or `deep-net`."""
        return self._mode

    def examples(self, split: str | None = None) -> Iterator[Example]:
        """Stream the paintings that have a picture and at least one kept utterance, in order of the release.

        Raises:
            UserError: not prepared, changed since, or the picture folder is gone.
        """
        images = Path(self._record["images"])
        if not images.is_dir():
            raise UserError(f"{images}: the picture folder is gone since {self.folder} was prepared; {self._command()}")
        for rows in self._paintings():
            example = self._example(rows, images, split)
            if example is not None:
                yield example

    def splits(self) -> dict[str, int]:
        """Examples per split."""
        return count_splits(self.examples())

    def fingerprint(self) -> dict[str, Any]:
        """Checksums of the release and of the prepared copy, and the preprocessing."""
        return {
            "annotations_sha256": self._record["annotations"]["sha256"],
            "annotations_bytes": self._record["annotations"]["bytes"],
            "prepared_sha256": self._record["parquet_sha256"],
            "preprocessing": self.preprocessing,
        }

    def notes(self) -> list[str]:
        """How many paintings are left out, and what was not done to the text."""
        counts = self._table().counts()
        without = counts["pictures missing"] + counts["pictures corrupt"]
        notes = []
        if without:
            notes.append(f"{without:,} of {counts['paintings']:,} paintings have no usable picture and are left out.")
        if self.preprocessing != "none":
            notes.append(f"Spelling is not repaired: {artemis_prepare.SPELLING_NOTE}.")
        return notes

    def check(self) -> PreparedTable:
        """The table of `prepare`, after verifying the copy's checksum and that every picture is still there."""
        images = Path(self._record["images"])
        paths = {rows[0]["picture"] for rows in self._paintings()} - {None}
        gone = sorted(path for path in paths if not (images / path).is_file())
        table = self._table()
        row = TableRow("pictures gone since", len(gone), ", ".join(gone[:3]))
        return PreparedTable(table.title, (*table.rows, row))

    def prepare(self, annotations: Path, images: Path, progress: bool = True) -> PreparedTable:
        """Check the release csv against WikiArt's folder and write the local copy; see `artemis_prepare`."""
        self.__dict__.pop("_record", None)
        return artemis_prepare.prepare(self.task, annotations, images, self.folder, progress)

    @cached_property
    def _record(self) -> Mapping[str, Any]:
        path, parquet = self.folder / "prepared.json", self.folder / "annotations.parquet"
        if not (path.is_file() and parquet.is_file()):
            raise UserError(
                f"task {self.task.name!r}: nothing prepared in {self.folder} (data root from --data-root or "
                f"HARNESS_DATA); {self._command()}"
            )
        record = prepared_record(path)
        if record.get("schema") != artemis_prepare.SCHEMA or sha256(parquet) != record.get("parquet_sha256"):
            raise UserError(f"{self.folder}: prepared by another version, or changed since; {self._command()}")
        return record

    def _command(self) -> str:
        return (
            f"type: harness data prepare {self.task.name} --annotations {self.annotations_say} "
            f"--images WIKIART_FOLDER --data-root {shlex.quote(str(self.data_root))}"
        )

    def _table(self) -> PreparedTable:
        table = self._record["table"]
        return PreparedTable(table["title"], tuple(TableRow(*row) for row in table["rows"]))

    def _paintings(self) -> Iterator[list[dict[str, Any]]]:
        """The rows of one painting at a time."""
        from pyarrow.parquet import ParquetFile

        with ParquetFile(self.folder / "annotations.parquet") as file:
            batches = file.iter_batches(_BATCH_ROWS, columns=list(self.columns))
            rows = (row for batch in batches for row in batch.to_pylist())
            for _, group in groupby(rows, key=lambda row: row["id"]):
                yield list(group)

    def _example(self, rows: list[dict[str, Any]], images: Path, split: str | None) -> Example | None:
        first = rows[0]
        own_split = first["split_deep_net" if self.preprocessing == "deep-net" else "split"]
        kept = [row for row in rows if self._keeps(row)]
        if first["picture"] is None or not kept or split not in (None, own_split):
            return None
        counts = dict.fromkeys(self.task.emotions, 0)
        for row in rows:
            counts[check_label(row["emotion"], self.task, str(self.folder))] += 1
        text = "utterance" if self.preprocessing == "none" else "text"
        return Example(
            id=first["id"],
            image=inside(images, first["picture"]),
            annotations=tuple(Annotation(row["emotion"], row[text]) for row in kept),
            emotion_histogram={label: count for label, count in counts.items() if count},
            split=own_split,
            meta={"style": first["art_style"].replace("_", " "), "artist": _artist(first["id"])},
        )

    def _keeps(self, row: Mapping[str, Any]) -> bool:
        if self.preprocessing == "deep-net":
            return bool(artemis_prepare.SHORTEST <= row["tokens"] <= self._record["longest_utterance"])
        return bool(row["tokens"])


def _artist(example_id: str) -> str:
    """`Cubism/georges-braque_house` -> `georges braque`: WikiArt's file names start with the artist."""
    return example_id.partition("/")[2].partition("_")[0].replace("-", " ")

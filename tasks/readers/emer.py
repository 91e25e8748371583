"""EMER-V1: one csv row per video clip with a label and the reasons for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from harness.tasks.readers.label_spelling import LabelSpelling
from harness.tasks.readers.layout import Entry, LayoutReader
from harness.tasks.readers.tables import read_rows
from harness.types import Annotation

COLUMNS = ("names", "emotions", "subtitles", "reasons")


class EMERReader(LayoutReader):
    """Reads `gt-eng.csv` or `gt-chi.csv`. Clips are videos, which no adapter here reads: score given outcomes."""

    annotations_say: ClassVar[str] = "gt-eng.csv"
    shows_pictures: ClassVar[bool] = False

    def entries(self, annotations: Path, images: Path, remarks: Counter[str]) -> Iterator[Entry]:
        """One entry per clip, all of them for testing; the subtitle is the context."""
        spelled = LabelSpelling(self.task, remarks)
        for where, row in read_rows(annotations, COLUMNS, encoding=self.option("encoding", "utf-8")):
            annotation = Annotation(spelled(row["emotions"], where), row["reasons"])
            yield Entry(row["names"], f"{row['names']}.mp4", (annotation,), "test", context=row["subtitles"])

    def notes(self) -> list[str]:
        """What can be done with this data here."""
        return [
            "The clips are videos, which no adapter here reads; score outcomes made elsewhere: "
            f"harness score --task {self.task.name} --outcomes FILE.jsonl --out RUN"
        ]

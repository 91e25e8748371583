"""ArtELingo: one csv row per caption, in English, Arabic or Chinese, with the split in a column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from harness.tasks.readers.label_spelling import LabelSpelling
from harness.tasks.readers.layout import Entry, LayoutReader
from harness.tasks.readers.tables import read_rows
from harness.types import Annotation, UserError

COLUMNS = ("language", "emotion", "utterance", "art_style", "painting", "split")
ALIASES = {"other": "something else"}
"""`sat/artemis/emotions.py` of Vision-CAIR/artelingo."""


class ArtELingoReader(LayoutReader):
    """One example per painting and language, so that language is a slice and never mixes in a picture's references.

    `context` is the language, for prompts that ask for an answer in it.
    """

    annotations_say: ClassVar[str] = "artelingo.csv"

    def entries(self, annotations: Path, images: Path, remarks: Counter[str]) -> Iterator[Entry]:
        """Entries in order of first appearance; a row repeated word for word is dropped."""
        spelled = LabelSpelling(self.task, remarks, ALIASES)
        found: dict[tuple[str, str, str], dict[Annotation, None]] = {}
        splits: dict[str, str] = {}
        for where, row in read_rows(annotations, COLUMNS, encoding=self.option("encoding", "utf-8")):
            painting = f"{row['art_style']}/{row['painting']}"
            if splits.setdefault(painting, row["split"]) != row["split"]:
                raise UserError(f"{where}: {painting} is in split {row['split']!r} and in {splits[painting]!r}")
            said = found.setdefault((painting, row["language"].lower(), row["art_style"]), {})
            annotation = Annotation(spelled(row["emotion"], where), row["utterance"])
            remarks["repeated rows dropped"] += annotation in said
            said[annotation] = None
        for (painting, language, style), said in found.items():
            meta = {"style": style.replace("_", " "), "language": language}
            id_ = f"{painting}@{language}"
            yield Entry(id_, f"{painting}.jpg", tuple(said), splits[painting], meta, context=language.capitalize())

"""D-ViSA: one csv row per abstract painting, `artwork, final_emo, final_vad`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from harness.tasks.readers.label_spelling import LabelSpelling
from harness.tasks.readers.layout import Entry, LayoutReader
from harness.tasks.readers.tables import number, read_rows, text_list
from harness.types import Annotation, UserError

DIMENSIONS = ("valence", "arousal", "dominance")


class DViSAReader(LayoutReader):
    """Reads `D-ViSA.csv`; `final_vad` is a list written as text, `artwork` WikiArt's file name, found in any folder."""

    annotations_say: ClassVar[str] = "D-ViSA.csv"
    pictures_anywhere: ClassVar[bool] = True

    def entries(self, annotations: Path, images: Path, remarks: Counter[str]) -> Iterator[Entry]:
        """One entry per row; a row repeated word for word is dropped."""
        spelled = LabelSpelling(self.task, remarks)
        seen: dict[str, dict[str, str]] = {}
        columns = ("artwork", "final_emo", "final_vad")
        for where, row in read_rows(annotations, columns, encoding=self.option("encoding", "utf-8")):
            name = row["artwork"]
            if seen.setdefault(name, row) is not row:
                if seen[name] != row:
                    raise UserError(f"{where}: {name} was described differently before")
                remarks["repeated rows dropped"] += 1
                continue
            values = text_list(row["final_vad"], where)
            if len(values) != len(DIMENSIONS):
                raise UserError(f"{where}: final_vad must hold 3 numbers, got {row['final_vad']!r}")
            ratings = {d: number(v, where, "final_vad") for d, v in zip(DIMENSIONS, values, strict=True)}
            emotion = spelled(row["final_emo"], where)
            meta = {"artist": name.partition("_")[0].replace("-", " ")}
            yield Entry(Path(name).stem, name, (Annotation(emotion, ""),), meta=meta, ratings=ratings)

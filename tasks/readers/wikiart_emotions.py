"""WikiArt Emotions: one tab-separated row per artwork, a 0/1 column per emotion and scenario."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from harness.tasks.readers.layout import Entry, LayoutReader
from harness.tasks.readers.tables import number, read_rows
from harness.types import Annotation

SCENARIO = "ImageOnly"


class WikiArtEmotionsReader(LayoutReader):
    """Reads `WikiArt-Emotions-Ag4.tsv` (or Ag3, Ag5).

    Every emotion that the aggregation marks counts as one annotation, so an artwork with two marks has no dominant
    emotion. The authors give out no pictures: save each as `<ID>.jpg` in the folder, or set `picture`.

    Options:
        scenario: `ImageOnly` (default), `TitleOnly` or `Art (image+title)`.
        picture: column that names the picture file (default: `ID`, with `.jpg`).
    """

    options: ClassVar[tuple[str, ...]] = (*LayoutReader.options, "scenario", "picture")
    annotations_say: ClassVar[str] = "WikiArt-Emotions-Ag4.tsv"
    pictures_anywhere: ClassVar[bool] = True

    def entries(self, annotations: Path, images: Path, remarks: Counter[str]) -> Iterator[Entry]:
        """One entry per row."""
        scenario, column = self.option("scenario", SCENARIO), self.option("picture", "ID")
        marks = {label: f"{scenario}: {label}" for label in self.task.emotions}
        wanted = ("ID", "Style", "Category", column, *marks.values())
        rows = read_rows(annotations, wanted, encoding=self.option("encoding", "utf-8"), delimiter="\t")
        for where, row in rows:
            marked = [label for label, name in marks.items() if number(row[name], where, name) > 0]
            remarks["artworks with several emotions"] += len(marked) > 1
            name = row[column] if Path(row[column]).suffix else f"{row[column]}.jpg"
            meta = {"style": row["Style"], "category": row["Category"]}
            yield Entry(row["ID"], name, tuple(Annotation(label, "") for label in marked), meta=meta)

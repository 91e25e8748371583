"""FindingEmo: `annotations_single.ann`, a csv of photographs of people with one annotation each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from harness.tasks.readers.label_spelling import LabelSpelling
from harness.tasks.readers.layout import Entry, LayoutReader
from harness.tasks.readers.tables import number, read_rows
from harness.types import Annotation

COLUMNS = ("image_path", "age", "valence", "arousal", "emotion", "ambiguity")


class FindingEmoReader(LayoutReader):
    """Reads the package `findingemo-light`; a picture rated by several people gets the mean of their ratings."""

    annotations_say: ClassVar[str] = "annotations_single.ann"

    def entries(self, annotations: Path, images: Path, remarks: Counter[str]) -> Iterator[Entry]:
        """One entry per picture, in order of first appearance."""
        spelled = LabelSpelling(self.task, remarks)
        people: dict[str, list[dict[str, str]]] = {}
        labels: dict[str, list[Annotation]] = {}
        numbers: dict[str, list[tuple[float, float]]] = {}
        for where, row in read_rows(annotations, COLUMNS, encoding=self.option("encoding", "utf-8")):
            name = row["image_path"].lstrip("/")
            rows = people.setdefault(name, [])
            if row in rows:
                remarks["repeated rows dropped"] += 1
                continue
            rows.append(row)
            labels.setdefault(name, []).append(Annotation(spelled(row["emotion"], where), ""))
            pair = number(row["valence"], where, "valence"), number(row["arousal"], where, "arousal")
            numbers.setdefault(name, []).append(pair)
        for name, rows in people.items():
            valence, arousal = (sum(column) / len(rows) for column in zip(*numbers[name], strict=True))
            yield Entry(
                id=name,
                picture=name,
                annotations=tuple(labels[name]),
                meta={"age": rows[0]["age"], "ambiguity": rows[0]["ambiguity"]},
                ratings={"valence": valence, "arousal": arousal},
            )

"""OASIS: norms of 900 photographs, one row each, saved with bare carriage returns and a first column without a name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from harness.tasks.readers.layout import Entry, LayoutReader
from harness.tasks.readers.tables import number, read_rows
from harness.types import Annotation, UserError

COLUMNS = ("Theme", "Category", "Valence_mean", "Arousal_mean")


class OASISReader(LayoutReader):
    """Reads `OASIS.csv`; the picture of a theme is `<Theme>.jpg`.

    Options:
        valence_bands: upper limits of the mean valence for all labels but the last, in the order of the labels.
            OASIS has no labels: these bands are the task's own, so that models that answer with a label can be asked.
    """

    options: ClassVar[tuple[str, ...]] = (*LayoutReader.options, "valence_bands")
    annotations_say: ClassVar[str] = "OASIS.csv"

    def entries(self, annotations: Path, images: Path, remarks: Counter[str]) -> Iterator[Entry]:
        """One entry per theme."""
        limits = self._bands()
        for where, row in read_rows(annotations, COLUMNS, encoding=self.option("encoding", "utf-8")):
            valence = number(row["Valence_mean"], where, "Valence_mean")
            arousal = number(row["Arousal_mean"], where, "Arousal_mean")
            label = self.task.emotions[sum(valence >= limit for limit in limits)]
            yield Entry(
                id=row["Theme"],
                picture=f"{row['Theme']}.jpg",
                annotations=(Annotation(label, ""),),
                meta={"category": row["Category"]},
                ratings={"valence": valence, "arousal": arousal},
            )

    def _bands(self) -> list[float]:
        limits: Any = self.task.options.get("valence_bands")
        numbers = isinstance(limits, list) and all(isinstance(limit, int | float) for limit in limits)
        if not numbers or len(limits) != len(self.task.emotions) - 1 or sorted(limits) != limits:
            raise UserError(
                f"{self._where()}: option 'valence_bands' must hold {len(self.task.emotions) - 1} rising numbers, one "
                f"less than there are labels, got {limits!r}"
            )
        return [float(limit) for limit in limits]

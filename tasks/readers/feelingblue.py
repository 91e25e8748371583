"""FeelingBlue: which of four abstract paintings is the most or least angry, sad ..., and why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from harness.tasks.readers.base import LabelSpelling
from harness.tasks.readers.layout import Entry, LayoutReader
from harness.tasks.readers.tables import read_rows, read_text
from harness.types import Annotation, UserError

COLUMNS = ("emotion", "min/max", "selected_image_id", "rationale")
SPLIT_NAMES = {"train": "train", "valid": "val", "test": "test"}
SPLITS_FILE = "feelingblue_splits.json"


class FeelingBlueReader(LayoutReader):
    """Reads `feelingblue.csv` beside `feelingblue_splits.json`.

    A painting chosen as the *most* emotional of its four gets the emotion and the rationale as an annotation. Choices
    of the least emotional say what a painting does not evoke and are counted, not used.
    """

    annotations_metavar: ClassVar[str] = "feelingblue.csv"
    images_anywhere: ClassVar[bool] = True

    def entries(self, annotations: Path, images: Path, remarks: Counter[str]) -> Iterator[Entry]:
        """One entry per painting chosen at least once, in order of first choice."""
        splits = _splits(annotations.parent / SPLITS_FILE)
        spelled = LabelSpelling(self.task, remarks)
        found: dict[str, list[Annotation]] = {}
        names = [f"image{i}_{kind}" for i in (1, 2, 3, 4) for kind in ("id", "filename")]
        for where, row in read_rows(annotations, (*COLUMNS, *names), encoding=self.option("encoding", "utf-8")):
            files = {row[f"image{i}_id"]: row[f"image{i}_filename"] for i in (1, 2, 3, 4)}
            if row["selected_image_id"] not in files:
                raise UserError(f"{where}: selected_image_id {row['selected_image_id']!r} is none of the four images")
            if row["min/max"].upper() not in ("MIN", "MAX"):
                raise UserError(f"{where}: min/max must be MIN or MAX, got {row['min/max']!r}")
            if row["min/max"].upper() == "MIN":
                remarks["choices of the least emotional image, not used"] += 1
                continue
            said = found.setdefault(files[row["selected_image_id"]], [])
            said.append(Annotation(spelled(row["emotion"], where), row["rationale"]))
        for name, said in found.items():
            if name in splits:
                yield Entry(Path(name).stem, name, tuple(said), splits[name])
            else:
                remarks["images in no split, left out"] += 1


def _splits(path: Path) -> Mapping[str, str]:
    try:
        lists = json.loads(read_text(path))
        return {name: SPLIT_NAMES[split] for split, names in lists.items() for name in names}
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError):
        raise UserError(f"{path}: expected lists of file names under {', '.join(SPLIT_NAMES)}") from None

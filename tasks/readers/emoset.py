"""EmoSet-118K: `train.json`, `val.json`, `test.json` and one attribute file per image."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from harness.tasks.readers.base import LabelSpelling
from harness.tasks.readers.image_files import inside
from harness.tasks.readers.layout import Entry, LayoutReader
from harness.tasks.readers.tables import read_text
from harness.types import Annotation, UserError

ATTRIBUTES = ("brightness", "colorfulness", "scene", "facial_expression", "human_action", "object")
SPLITS = ("train", "val", "test")


class EmoSetReader(LayoutReader):
    """Reads the dataset's folder: lists of [label, id, image, attribute file], or EmoVIT's without the id.

    Attributes become `meta`; an attribute that an image lacks is absent (the official loader writes -1), the
    multi-label `object` is joined by commas.
    """

    annotations_metavar: ClassVar[str] = "EMOSET_FOLDER"

    def entries(self, annotations: Path, images: Path, remarks: Counter[str]) -> Iterator[Entry]:
        """One entry per listed image."""
        lists = {split: annotations / f"{split}.json" for split in SPLITS}
        present = {split: path for split, path in lists.items() if path.is_file()}
        if not present:
            raise UserError(f"{annotations}: holds none of {', '.join(path.name for path in lists.values())}")
        spelled = LabelSpelling(self.task, remarks)
        for split, path in present.items():
            for number, item in enumerate(_listed(path), 1):
                where = f"{path}, entry {number}"
                if not (isinstance(item, list) and len(item) in (3, 4) and all(isinstance(i, str) for i in item)):
                    raise UserError(f"{where}: expected [label, id, image, attribute file], got {str(item)[:80]}")
                label, image, attributes = item[0], item[-2], item[-1]
                id_ = item[1] if len(item) == 4 else Path(image).stem
                meta = _attributes(annotations, attributes, remarks)
                yield Entry(id_, image, (Annotation(spelled(label, where), ""),), split, meta)


def _listed(path: Path) -> list[Any]:
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON: {error}") from None
    if not isinstance(content, list):
        raise UserError(f"{path}: expected a JSON list")
    return content


def _attributes(folder: Path, name: str, remarks: Counter[str]) -> Mapping[str, str]:
    path = inside(folder, name)
    if not path.is_file():
        remarks["attribute files missing"] += 1
        return {}
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object")
    values = {key: content[key] for key in ATTRIBUTES if content.get(key) not in (None, -1, "", [])}
    return {key: ", ".join(value) if isinstance(value, list) else str(value) for key, value in values.items()}

"""Images sorted into one folder per label (FI), perhaps below one folder per split (Emo8)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from harness.tasks.readers.base import LabelSpelling
from harness.tasks.readers.layout import Entry, LayoutReader
from harness.types import Annotation, UserError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif"})
SPLITS = ("train", "val", "test")


class ImageFoldersReader(LayoutReader):
    """Reads the tree itself: `--annotations` and `--images` are the same folder.

    Options:
        split_folders: true if the labels lie below `train`, `val`, `test` (default false: splits are drawn).
    """

    options: ClassVar[tuple[str, ...]] = (*LayoutReader.options, "split_folders")
    annotations_metavar: ClassVar[str] = "FOLDER"

    def entries(self, annotations: Path, images: Path, remarks: Counter[str]) -> Iterator[Entry]:
        """One entry per image file, by sorted path."""
        if annotations.resolve() != images.resolve():
            raise UserError(
                f"{annotations}: the labels are the folders of images; give the same --annotations and --images"
            )
        spelled = LabelSpelling(self.task, remarks)
        for split, folder in self._roots(images):
            for labelled in sorted(path for path in folder.iterdir() if path.is_dir()):
                annotation = Annotation(spelled(labelled.name, str(labelled)), "")
                for path in sorted(labelled.iterdir()):
                    if path.suffix.lower() not in SUFFIXES:
                        remarks["files that are no images"] += 1
                        continue
                    name = path.relative_to(images).as_posix()
                    yield Entry(name, name, (annotation,), split)

    def _roots(self, images: Path) -> list[tuple[str | None, Path]]:
        if self.task.options.get("split_folders", False) is not True:
            return [(None, images)]
        found = [(split, images / split) for split in SPLITS if (images / split).is_dir()]
        if not found:
            raise UserError(f"{images}: holds none of the folders {', '.join(SPLITS)}")
        return list(found)

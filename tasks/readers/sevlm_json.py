"""The json files of the official SEVLM code (`preprocess_data.md` of BetterZH/SEVLM-code).

One file per split, `artEmisX_train.json`, `artEmisX_val.json`, `artEmisX_test.json`, each an object
    {"<image id>": {"emotions": [...], "explanations": [...], "image_name": "<style>/<painting>.jpg",
                    "origin_emotion_distribution": [one number per emotion]}}

`origin_emotion_distribution` was counted before utterances were dropped, as counts or as shares.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from harness.tasks.readers.base import PreparedTable, Reader, TableRow, check_label, count_splits, facts_of
from harness.tasks.readers.image_files import image_names, inside, locate
from harness.tasks.readers.layout import sha256
from harness.types import Annotation, Example, UserError, histogram

SPLITS = ("train", "val", "test")
_MOST_ANNOTATORS = 200


class SEVLMJsonReader(Reader):
    """Reads SEVLM's json files.

    Options:
        folder: where the files are, relative to the card.
        images: WikiArt's folder, relative to the card.
        files: the name pattern (default `artEmisX_{split}.json`); splits without a file do not exist.
    """

    options: ClassVar[tuple[str, ...]] = ("folder", "images", "files")

    def examples(self, split: str | None = None) -> Iterator[Example]:
        """Stream the entries whose image is there, in file order.

        Raises:
            UserError: no file, or an entry that is not as described; the message names file, id and key.
        """
        for name, path in self._files.items():
            if split in (None, name):
                yield from self._split_examples(name, path)

    def splits(self) -> dict[str, int]:
        """Examples per split."""
        return count_splits(self.examples())

    def fingerprint(self) -> dict[str, Any]:
        """Checksum of each file."""
        return {f"{split}_sha256": sha256(path) for split, path in self._files.items()}

    def notes(self) -> list[str]:
        """How many entries are left out for want of an image."""
        entries = sum(len(_read(path)) for path in self._files.values())
        left_out = entries - sum(self.splits().values())
        return [f"{left_out:,} of {entries:,} entries have no image and are left out."] if left_out else []

    def check(self) -> PreparedTable:
        """Count entries, images and annotations per split."""
        rows = []
        for split, path in self._files.items():
            examples = list(self._split_examples(split, path))
            rows += [
                TableRow(f"entries in {split}", len(_read(path)), path.name),
                TableRow(f"images found for {split}", len(examples)),
                TableRow(f"annotations in {split}", sum(len(e.annotations) for e in examples)),
            ]
        return PreparedTable(f"{self.task.name}: SEVLM json files", tuple(rows))

    @cached_property
    def facts(self) -> tuple[TableRow, ...]:
        """What one reading of the files counts."""
        return tuple(facts_of(self.examples(), self.task.emotions))

    @cached_property
    def _files(self) -> dict[str, Path]:
        folder, pattern = self.option_path("folder"), self.option("files", "artEmisX_{split}.json")
        paths = {split: folder / pattern.replace("{split}", split) for split in SPLITS}
        found = {split: path for split, path in paths.items() if path.is_file()}
        if not found:
            raise UserError(f"{folder}: holds none of {', '.join(path.name for path in paths.values())}")
        return found

    @cached_property
    def _present(self) -> frozenset[str]:
        return image_names(self.option_path("images"))

    def _split_examples(self, split: str, path: Path) -> Iterator[Example]:
        for key, entry in _read(path).items():
            where = f"{path}, id {key}"
            emotions, explanations = (_field(entry, name, list, where) for name in ("emotions", "explanations"))
            if len(emotions) != len(explanations):
                raise UserError(f"{where}: {len(emotions)} emotions but {len(explanations)} explanations")
            annotations = tuple(
                Annotation(check_label(str(emotion), self.task, where), str(explanation))
                for emotion, explanation in zip(emotions, explanations, strict=True)
            )
            located = locate(_field(entry, "image_name", str, where), self._present)
            if located is not None:
                yield Example(
                    id=key,
                    image=inside(self.option_path("images"), located.name),
                    annotations=annotations,
                    emotion_histogram=_histogram(entry, annotations, self.task.emotions, where),
                    split=split,
                    meta={"style": located.name.split("/")[0].replace("_", " ")},
                )


def whole_counts(distribution: Sequence[float], at_least: int) -> list[int] | None:
    """The smallest whole numbers, summing to `at_least` or more, in the proportions of `distribution`.

    Args:
        distribution: counts (returned as they are) or shares that sum to 1.
        at_least: number of annotations known.

    Returns:
        Counts, or None when no total up to 200 annotators gives whole numbers.
    """
    if sum(distribution) > 1 + 1e-6:
        return [round(count) for count in distribution] if all(c == round(c) for c in distribution) else None
    for total in range(max(at_least, 1), _MOST_ANNOTATORS + 1):
        counts = [share * total for share in distribution]
        if sum(map(round, counts)) == total and all(abs(c - round(c)) < 1e-4 for c in counts):
            return [round(count) for count in counts]
    return None


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON: {error}") from None
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path}: expected a JSON object of image ids")
    return content


def _field(entry: Any, key: str, kind: type, where: str) -> Any:
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, kind) or not value:
        raise UserError(f"{where}: key {key!r} must be a non-empty {kind.__name__}, got {value!r}")
    return value


def _histogram(entry: Any, annotations: Sequence[Annotation], labels: Sequence[str], where: str) -> Mapping[str, int]:
    if "origin_emotion_distribution" not in entry:
        return histogram(annotations)
    shares = _field(entry, "origin_emotion_distribution", list, where)
    numbers = all(isinstance(share, int | float) and share >= 0 for share in shares)
    counts = whole_counts(shares, len(annotations)) if numbers and len(shares) == len(labels) else None
    if counts is None:
        raise UserError(
            f"{where}: key 'origin_emotion_distribution' must hold {len(labels)} counts, or shares of a whole "
            f"number of annotators, got {shares!r}"
        )
    return {label: count for label, count in zip(labels, counts, strict=True) if count}

"""The examples file: one JSON object per line, images relative to the file.

    {"id": "1", "image": "images/1.jpg", "split": "test", "meta": {"style": "Cubism"},
     "annotations": [{"emotion": "awe", "explanation": "the light ..."}]}

`split` defaults to `test`; `meta` may be absent. `image` may be absent too: then only models that ignore images can
answer, and outcomes made elsewhere be scored. In the split `train`, `annotations` may be empty: what another model says
about the image can still be learned. If the card says `explanations: false`, `explanation` may be absent or empty; if
it has `ratings`, a line may have `"ratings": {"valence": 4.2, ...}`, a number on the scale of each.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from io import BufferedReader
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from harness.errors import nearest
from harness.tasks.readers.base import PreparedTable, Reader, TableRow, check_label, count_splits, facts_of
from harness.tasks.readers.image_files import image_problem, inside
from harness.types import Annotation, Example, Task, UserError, histogram

_KEYS = ("id", "image", "split", "annotations", "meta", "ratings")
_ANNOTATION_KEYS = ("emotion", "explanation")
DEMO_DATA = Path(__file__).parent.parent / "demo_data"
ABSENT = ".absent"
"""Suffix of the path of an image that a line does not name."""


class JsonlReader(Reader):
    """Reads an examples file (option `examples`: its path, relative to the task's card)."""

    options: ClassVar[tuple[str, ...]] = ("examples",)

    @property
    def path(self) -> Path:
        """The examples file."""
        return self.option_path("examples")

    def examples(self, split: str | None = None) -> Iterator[Example]:
        """Stream the file in its order.

        Raises:
            UserError: no such file; or a line that is not an example (malformed, no such image, unknown label, an id
                that was given before): the message names the line and the key.
        """
        lines: dict[str, int] = {}
        path = self.path
        for number, text in self._lines():
            where = f"{path}, line {number}"
            try:
                line = json.loads(text)
            except (ValueError, RecursionError) as error:  # numbers may be too long as well
                raise UserError(f"{where}: not JSON: {error}") from None
            if not isinstance(line, dict):
                raise UserError(f"{where}: expected a JSON object, got {text.strip()[:40]!r}")
            example = example_from_json(line, self.task, path.parent, where)
            if example.id in lines:
                raise UserError(f"{where}: key 'id': {example.id!r} was given in line {lines[example.id]} already")
            lines[example.id] = number
            if split is None or example.split == split:
                yield example
        if not lines:
            raise UserError(f"{path}: holds no example; expected one JSON object per line")

    def splits(self) -> dict[str, int]:
        """Examples per split, in order of appearance."""
        return count_splits(self.examples())

    def fingerprint(self) -> dict[str, Any]:
        """Checksum and size of the examples file."""
        with self._open() as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return {"examples_sha256": digest, "examples_bytes": file.tell()}

    def check(self) -> PreparedTable:
        """Read every line and decode every image; one that cannot be decoded is counted and named."""
        examples = list(self.examples())
        annotations = [annotation for example in examples for annotation in example.annotations]
        images = {example.image for example in examples if example.image.suffix != ABSENT}
        corrupt = sorted(path.name for path in images if image_problem(path))
        rows = [
            TableRow("without a majority emotion", sum(e.dominant_emotion is None for e in examples)),
            TableRow("annotations", len(annotations)),
            TableRow("images", len(images)),
            TableRow("images that cannot be decoded", len(corrupt), ", ".join(corrupt[:5])),
            TableRow("examples without an image", sum(example.image.suffix == ABSENT for example in examples)),
        ]
        rows += facts_of(examples, self.task.emotions)
        return PreparedTable(f"{self.task.name}: examples file {self.path}", tuple(rows))

    @cached_property
    def facts(self) -> tuple[TableRow, ...]:
        """What one reading of the file counts."""
        return tuple(facts_of(self.examples(), self.task.emotions))

    def _lines(self) -> Iterator[tuple[int, str]]:
        with self._open() as file:
            for number, line in enumerate(file, 1):
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise UserError(f"{self.path}, line {number}: not UTF-8 text (byte {error.start})") from None
                if text.strip():
                    yield number, text

    def _open(self) -> BufferedReader:
        if self.path.exists() and not self.path.is_file():  # a pipe or a device may never end
            raise UserError(f"{self.path}: not a regular file, expected the examples file of {self._where()}")
        try:
            return self.path.open("rb")
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot read the examples file of {self._where()} ({error.strerror})"
            ) from None


class DemoReader(JsonlReader):
    """Reads the demonstration data that comes with the harness (see its DATA_CARD.md); needs no preparing."""

    options: ClassVar[tuple[str, ...]] = ()

    @property
    def path(self) -> Path:
        """The packaged examples file."""
        return DEMO_DATA / "examples.jsonl"

    def notes(self) -> list[str]:
        """The warning that belongs on every page made from this data."""
        return [
            "The demo's annotations are machine-written illustrations, not human judgements: "
            "its numbers show what the harness does and must never be reported as a result."
        ]


def example_from_json(line: Mapping[str, Any], task: Task, root: Path, where: str) -> Example:
    """Turn one line of an examples file into an `Example`.

    Args:
        line: the parsed object.
        task: for its label set.
        root: folder that `image` is relative to.
        where: start of every error message.

    Raises:
        UserError: unknown, missing or mistyped key; label of another set; image absent or outside `root`.
    """
    for key in line:
        if key not in _KEYS:
            raise UserError(f"{where}: unknown key {key!r}; {nearest(key, _KEYS)}")
    entries = line.get("annotations")
    if not isinstance(entries, list) or not (entries or line.get("split") == "train"):
        raise UserError(f"{where}: key 'annotations' must be a list with at least one entry, got {entries!r}")
    annotations = tuple(_annotation(entry, task, f"{where}: annotation {i}") for i, entry in enumerate(entries, 1))
    id_, image = _text(line, "id", where), _image(line, root, where)
    split = _text(line, "split", where) if "split" in line else "test"
    meta = line.get("meta", {})
    if not isinstance(meta, dict) or not all(isinstance(value, str) for value in meta.values()):
        raise UserError(f"{where}: key 'meta' must map names to text, got {meta!r}")
    ratings = _ratings(line["ratings"], task, where) if "ratings" in line else {}
    return Example(id_, image, annotations, histogram(annotations), split, meta, ratings)


def _text(line: Mapping[str, Any], key: str, where: str) -> str:
    value = line.get(key)
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{where}: key {key!r} must be a non-empty string, got {value!r}")
    return value


def _image(line: Mapping[str, Any], root: Path, where: str) -> Path:
    """The image; for a line without one, a path named by the id, at which there is no file."""
    if line.get("image") is None:
        return root / f"{quote(_text(line, 'id', where), safe='')}{ABSENT}"
    name = _text(line, "image", where)
    try:
        path = inside(root, name)
    except UserError as error:
        raise UserError(f"{where}: key 'image': {error}") from None
    try:
        is_there = path.is_file()
    except OSError as error:
        raise UserError(f"{where}: key 'image': {error.strerror}: {name[:80]}") from None
    if not is_there:
        raise UserError(f"{where}: key 'image': no such image {path}")
    return path


def _annotation(entry: Any, task: Task, where: str) -> Annotation:
    if not task.explanations and isinstance(entry, dict):
        entry = {"explanation": ""} | entry
    if not isinstance(entry, dict) or set(entry) != set(_ANNOTATION_KEYS):
        raise UserError(f"{where}: expected an object with exactly 'emotion' and 'explanation', got {entry!r}")
    emotion = check_label(_text(entry, "emotion", where), task, where)
    if not task.explanations and entry["explanation"] == "":
        return Annotation(emotion, "")
    return Annotation(emotion, _text(entry, "explanation", where))


def _ratings(found: Any, task: Task, where: str) -> dict[str, float]:
    """The ratings of an image, each dimension that the card declares."""
    if not isinstance(found, dict) or found.keys() != task.ratings.keys():
        wanted = ", ".join(task.ratings) or "none, as the card declares no `ratings`"
        raise UserError(f"{where}: key 'ratings': expected {wanted}; got {found!r}")
    for name, value in found.items():
        low, high = task.ratings[name]
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            raise UserError(f"{where}: key 'ratings': {name} must be a number from {low:g} to {high:g}, got {value!r}")
    return {name: float(value) for name, value in found.items()}

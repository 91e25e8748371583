"""AffectVisDial: pickled lists of dialogues about an artwork, with the emotion before and after seeing it."""

from __future__ import annotations

import io
import pickle
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from harness.errors import nearest
from harness.tasks.readers.base import LabelSpelling
from harness.tasks.readers.layout import Entry, LayoutReader
from harness.types import Annotation, UserError

SPLITS = ("train", "val", "test")
MOMENTS = ("before", "after", "answerer")
_ABSENT = ("", "na", "nan", "none")


class AffectVisDialReader(LayoutReader):
    """Reads the folder of `train_data.pkl`, `val_data.pkl`, `test_data.pkl`; one entry per dialogue.

    The two captions and the dialogue are the context. A questioner who felt the same before and after has given the
    explanation before, which then is the one of `after` (as in the official loaders).

    Options:
        moment: whose emotion: the questioner's `before` or `after` (default) seeing the artwork, or the `answerer`'s.
        edited: prefer the `corrected_...` explanations (default true).
    """

    options: ClassVar[tuple[str, ...]] = (*LayoutReader.options, "moment", "edited")
    annotations_metavar: ClassVar[str] = "FOLDER_OF_PKL_FILES"

    def entries(self, annotations: Path, images: Path, remarks: Counter[str]) -> Iterator[Entry]:
        """Entries in order of the files; a dialogue without an emotion is counted and left out."""
        moment = self.option("moment", "after")
        if moment not in MOMENTS:
            raise UserError(f"{self._where()}: option 'moment': {nearest(moment, MOMENTS)}")
        present = {split: annotations / f"{split}_data.pkl" for split in SPLITS}
        present = {split: path for split, path in present.items() if path.is_file()}
        if not present:
            raise UserError(f"{annotations}: holds none of train_data.pkl, val_data.pkl, test_data.pkl")
        spelled = LabelSpelling(self.task, remarks)
        for split, path in present.items():
            for number, dialogue in enumerate(read_pickle(path)):
                where = f"{path}, dialogue {number + 1}"
                emotion, explanation = self._said(dialogue, moment, where)
                notes = (Annotation(spelled(emotion, where), explanation),) if emotion else ()
                yield Entry(f"{split}-{number}", _image(dialogue, where), notes, split, {}, context=_context(dialogue))

    def _said(self, dialogue: Mapping[str, Any], moment: str, where: str) -> tuple[str, str]:
        key = "answerer_emotion" if moment == "answerer" else f"emotion_{moment}"
        if key not in dialogue:
            raise UserError(f"{where}: no key {key!r}; {nearest(key, map(str, dialogue))}")
        emotion = _text(dialogue[key])
        if moment == "after" and emotion == _text(dialogue.get("emotion_before")):
            moment = "before"
        name = "answerer_explanation" if moment == "answerer" else f"explanation_{moment}"
        edited = _text(dialogue.get(f"corrected_{name}")) if self.task.options.get("edited", True) is True else ""
        return emotion, edited or _text(dialogue.get(name))


def read_pickle(path: Path) -> list[Mapping[str, Any]]:
    """A pickled list of dictionaries of plain values; nothing else can be in the file, so nothing in it can run.

    Raises:
        UserError: the file holds anything but plain values, or is no such list.
    """
    try:
        content = _PlainUnpickler(io.BytesIO(path.read_bytes())).load()
    except Exception as error:  # a broken pickle may fail in any way
        raise UserError(f"{path}: not a pickled list of plain values: {error}") from None
    if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
        raise UserError(f"{path}: expected a list of dialogues, got {type(content).__name__}")
    return content


class _PlainUnpickler(pickle.Unpickler):
    """Refuses every class and function, so that a pickle is data only."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it wants to load {module}.{name}, which could run code")


def _text(value: Any) -> str:
    """A value as text; what the files use for nothing (None, NaN, `NA`) as empty."""
    text = "" if value is None else str(value).strip()
    return "" if text.casefold() in _ABSENT else text


def _image(dialogue: Mapping[str, Any], where: str) -> str:
    name = _text(dialogue.get("img_src"))
    if not name:
        raise UserError(f"{where}: no img_src")
    return name.lstrip("/")


def _context(dialogue: Mapping[str, Any]) -> str:
    turns = [_text(turn) for turn in dialogue.get("conversation") or ()]
    captions = [_text(dialogue.get(key)) for key in ("caption1", "caption2")]
    lines = [f"Caption: {caption}" for caption in captions if caption]
    lines += [f"{'Q' if i % 2 == 0 else 'A'}: {turn}" for i, turn in enumerate(turns)]
    return "\n".join(lines)

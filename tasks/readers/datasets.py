"""Datasets in layouts of their own: EmoSet, FeelingBlue, Socratis, AffectVisDial, and images in a folder per label."""

from __future__ import annotations

import io
import json
import pickle
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from harness.errors import nearest
from harness.tasks.readers.base import LabelSpelling
from harness.tasks.readers.emotion_words import EMOTION_WORDS
from harness.tasks.readers.image_files import inside
from harness.tasks.readers.layout import Entry, LayoutReader
from harness.tasks.readers.tables import read_json, read_rows, read_text, text_list
from harness.types import Annotation, UserError

SPLITS = ("train", "val", "test")


def _files_of_splits(folder: Path, ending: str) -> dict[str, Path]:
    """The files that are there of `train`, `val` and `test` with this ending, by split."""
    files = {split: folder / f"{split}{ending}" for split in SPLITS}
    present = {split: path for split, path in files.items() if path.is_file()}
    if not present:
        raise UserError(f"{folder}: holds none of {', '.join(path.name for path in files.values())}")
    return present


class ImageFoldersReader(LayoutReader):
    """Images in one folder per label (FI), perhaps below one per split (Emo8).

    Reads the tree itself: `--annotations` and `--images` are the same folder.

    Options:
        split_folders: true if the labels lie below `train`, `val`, `test` (default false: splits are drawn).
    """

    options: ClassVar[tuple[str, ...]] = (*LayoutReader.options, "split_folders")
    annotations_metavar: ClassVar[str] = "FOLDER"
    suffixes: ClassVar[frozenset[str]] = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif"})

    def entries(self, annotations: Path, images: Path, remarks: Counter[str]) -> Iterator[Entry]:
        """One entry per image file, by sorted path."""
        if annotations.resolve() != images.resolve():
            raise UserError(
                f"{annotations}: the labels are the folders of images; give the same --annotations and --images"
            )
        roots: list[tuple[str | None, Path]] = [(None, images)]
        if self.task.options.get("split_folders", False) is True:
            roots = [(split, images / split) for split in SPLITS if (images / split).is_dir()]
            if not roots:
                raise UserError(f"{images}: holds none of the folders {', '.join(SPLITS)}")
        spelled = LabelSpelling(self.task, remarks)
        for split, root in roots:
            for folder in sorted(path for path in root.iterdir() if path.is_dir()):
                annotation = Annotation(spelled(folder.name, str(folder)), "")
                for path in sorted(folder.iterdir()):
                    if path.suffix.lower() not in self.suffixes:
                        remarks["files that are no images"] += 1
                        continue
                    name = path.relative_to(images).as_posix()
                    yield Entry(name, name, (annotation,), split)


class EmoSetReader(LayoutReader):
    """EmoSet-118K: `train.json`, `val.json`, `test.json` and one attribute file per image.

    Reads the dataset's folder: lists of [label, id, image, attribute file], or EmoVIT's without the id. Attributes
    become `meta`; an attribute that an image lacks is absent (the official loader writes -1), the multi-label `object`
    is joined by commas.
    """

    annotations_metavar: ClassVar[str] = "EMOSET_FOLDER"
    attributes: ClassVar[tuple[str, ...]] = (
        "brightness", "colorfulness", "scene", "facial_expression", "human_action", "object",
    )  # fmt: skip

    def entries(self, annotations: Path, images: Path, remarks: Counter[str]) -> Iterator[Entry]:
        """One entry per listed image."""
        spelled = LabelSpelling(self.task, remarks)
        for split, path in _files_of_splits(annotations, ".json").items():
            listed = read_json(path)
            if not isinstance(listed, list):
                raise UserError(f"{path}: expected a JSON list")
            for number, item in enumerate(listed, 1):
                where = f"{path}, entry {number}"
                if not (isinstance(item, list) and len(item) in (3, 4) and all(isinstance(i, str) for i in item)):
                    raise UserError(f"{where}: expected [label, id, image, attribute file], got {str(item)[:80]}")
                label, image = item[0], item[-2]
                id_ = item[1] if len(item) == 4 else Path(image).stem
                meta = self._attributes_in(inside(annotations, item[-1]), remarks)
                yield Entry(id_, image, (Annotation(spelled(label, where), ""),), split, meta)

    def _attributes_in(self, path: Path, remarks: Counter[str]) -> Mapping[str, str]:
        if not path.is_file():
            remarks["attribute files missing"] += 1
            return {}
        content = read_json(path)
        if not isinstance(content, dict):
            raise UserError(f"{path}: expected a JSON object")
        values = {key: content[key] for key in self.attributes if content.get(key) not in (None, -1, "", [])}
        return {key: ", ".join(value) if isinstance(value, list) else str(value) for key, value in values.items()}


class FeelingBlueReader(LayoutReader):
    """FeelingBlue: which of four abstract paintings is the most or least angry, sad ..., and why.

    Reads `feelingblue.csv` beside `feelingblue_splits.json`. A painting chosen as the *most* emotional of its four gets
    the emotion and the rationale as an annotation. Choices of the least emotional say what a painting does not evoke
    and are counted, not used.
    """

    annotations_metavar: ClassVar[str] = "feelingblue.csv"
    images_anywhere: ClassVar[bool] = True
    columns: ClassVar[tuple[str, ...]] = (
        "emotion", "min/max", "selected_image_id", "rationale",
        *(f"image{i}_{kind}" for i in (1, 2, 3, 4) for kind in ("id", "filename")),
    )  # fmt: skip

    def entries(self, annotations: Path, images: Path, remarks: Counter[str]) -> Iterator[Entry]:
        """One entry per painting chosen at least once, in order of first choice."""
        path, names = annotations.parent / "feelingblue_splits.json", {"train": "train", "valid": "val", "test": "test"}
        try:
            lists = json.loads(read_text(path))
            splits = {image: names[split] for split, listed in lists.items() for image in listed}
        except (ValueError, AttributeError, TypeError, KeyError, RecursionError):
            raise UserError(f"{path}: expected lists of file names under {', '.join(names)}") from None
        spelled = LabelSpelling(self.task, remarks)
        found: dict[str, list[Annotation]] = {}
        for where, row in read_rows(annotations, self.columns, encoding=self.option("encoding", "utf-8")):
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


class SocratisReader(LayoutReader):
    """Socratis: a json of image-caption pairs, each with several people's emotion words and explanations.

    Reads the json file: id -> [[image, caption, emotions, explanations, person], ...]. People used words of their own.
    Each is mapped to the task's labels by `emotion_words.EMOTION_WORDS`; words that it does not hold are counted and
    their annotations left out. The caption is the context.

    Options:
        words: `map` (default), or `own` if the card's labels are the words themselves.
    """

    options: ClassVar[tuple[str, ...]] = (*LayoutReader.options, "words")
    annotations_metavar: ClassVar[str] = "imCaptionEmotionExplanation_formatted.json"

    def entries(self, annotations: Path, images: Path, remarks: Counter[str]) -> Iterator[Entry]:
        """One entry per image-caption pair."""
        choice = self.option("words", "map")
        if choice not in ("map", "own"):
            raise UserError(f"{self._where()}: option 'words': {nearest(choice, ('map', 'own'))}")
        words = {label.casefold(): label for label in self.task.emotions}
        if choice == "map":
            words = {word: label for word, label in EMOTION_WORDS.items() if label in self.task.emotions} | words
        pairs = read_json(annotations)
        if not isinstance(pairs, dict) or not pairs:
            raise UserError(f"{annotations}: expected a JSON object of image-caption pairs")
        for id_, people in pairs.items():
            where = f"{annotations}, id {id_}"
            if not isinstance(people, list) or not people:
                raise UserError(f"{where}: expected a list of answers, got {str(people)[:60]}")
            notes: list[Annotation] = []
            for emotion, explanation in (note for person in people for note in _said_by(person, where)):
                label = words.get(emotion.strip().casefold())
                remarks["emotion words without a label, left out"] += label is None
                notes += [Annotation(label, explanation)] if label is not None else []
            yield Entry(id_, str(people[0][0]).lstrip("/"), tuple(notes), context=str(people[0][1]))


def _said_by(person: Any, where: str) -> Iterator[tuple[str, str]]:
    """One person's emotions and explanations side by side, or one explanation for all emotions."""
    if not isinstance(person, list) or len(person) < 4:
        raise UserError(f"{where}: expected [image, caption, emotions, explanations, person], got {str(person)[:60]}")
    sides: list[list[str]] = []
    for value in person[2:4]:
        if isinstance(value, str):
            sides.append(text_list(value, where) if value.startswith("[") else [value])
        else:
            sides.append([str(item) for item in value] if isinstance(value, list) else [])
    emotions, explanations = sides
    if len(explanations) == 1:
        explanations *= len(emotions)
    if len(emotions) != len(explanations):
        raise UserError(f"{where}: {len(emotions)} emotions but {len(explanations)} explanations")
    return zip(emotions, explanations, strict=True)


class AffectVisDialReader(LayoutReader):
    """AffectVisDial: pickled lists of dialogues about an artwork, with the emotion before and after seeing it.

    Reads the folder of `train_data.pkl`, `val_data.pkl`, `test_data.pkl`; one entry per dialogue. The two captions and
    the dialogue are the context. A questioner who felt the same before and after has given the explanation before,
    which then is the one of `after` (as in the official loaders).

    Options:
        moment: whose emotion: the questioner's `before` or `after` (default) seeing the artwork, or the `answerer`'s.
        edited: prefer the `corrected_...` explanations (default true).
    """

    options: ClassVar[tuple[str, ...]] = (*LayoutReader.options, "moment", "edited")
    annotations_metavar: ClassVar[str] = "FOLDER_OF_PKL_FILES"
    moments: ClassVar[tuple[str, ...]] = ("before", "after", "answerer")

    def entries(self, annotations: Path, images: Path, remarks: Counter[str]) -> Iterator[Entry]:
        """Entries in order of the files; a dialogue without an emotion is counted and left out."""
        moment = self.option("moment", "after")
        if moment not in self.moments:
            raise UserError(f"{self._where()}: option 'moment': {nearest(moment, self.moments)}")
        spelled = LabelSpelling(self.task, remarks)
        for split, path in _files_of_splits(annotations, "_data.pkl").items():
            for number, dialogue in enumerate(read_pickle(path)):
                where = f"{path}, dialogue {number + 1}"
                emotion, explanation = self._said(dialogue, moment, where)
                notes = (Annotation(spelled(emotion, where), explanation),) if emotion else ()
                image = _text(dialogue.get("img_src"))
                if not image:
                    raise UserError(f"{where}: no img_src")
                captions = [_text(dialogue.get(key)) for key in ("caption1", "caption2")]
                lines = [f"Caption: {caption}" for caption in captions if caption]
                turns = [_text(turn) for turn in dialogue.get("conversation") or ()]
                lines += [f"{'Q' if i % 2 == 0 else 'A'}: {turn}" for i, turn in enumerate(turns)]
                yield Entry(f"{split}-{number}", image.lstrip("/"), notes, split, context="\n".join(lines))

    def _said(self, dialogue: Mapping[str, Any], moment: str, where: str) -> tuple[str, str]:
        """The emotion of a moment and its explanation."""
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
    return "" if text.casefold() in ("", "na", "nan", "none") else text

"""Socratis: a json of image-caption pairs, each with several people's emotion words and explanations."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from harness.errors import nearest
from harness.tasks.readers.emotion_words import EMOTION_WORDS
from harness.tasks.readers.layout import Entry, LayoutReader
from harness.tasks.readers.tables import read_text, text_list
from harness.types import Annotation, UserError


class SocratisReader(LayoutReader):
    """Reads the json file: id -> [[image, caption, emotions, explanations, person], ...].

    People used words of their own. Each is mapped to the task's labels by `emotion_words.EMOTION_WORDS`; words that it
    does not hold are counted and their annotations left out. The caption is the context.

    Options:
        words: `map` (default), or `own` if the card's labels are the words themselves.
    """

    options: ClassVar[tuple[str, ...]] = (*LayoutReader.options, "words")
    annotations_metavar: ClassVar[str] = "imCaptionEmotionExplanation_formatted.json"

    def entries(self, annotations: Path, images: Path, remarks: Counter[str]) -> Iterator[Entry]:
        """One entry per image-caption pair."""
        words = self._words()
        for id_, people in _read(annotations).items():
            where = f"{annotations}, id {id_}"
            if not isinstance(people, list) or not people:
                raise UserError(f"{where}: expected a list of answers, got {str(people)[:60]}")
            said = [note for person in people for note in _notes(person, words, remarks, where)]
            yield Entry(id_, str(people[0][0]).lstrip("/"), tuple(said), context=str(people[0][1]))

    def _words(self) -> Mapping[str, str]:
        own = {label.casefold(): label for label in self.task.emotions}
        match self.option("words", "map"):
            case "map":
                return {w: label for w, label in EMOTION_WORDS.items() if label in self.task.emotions} | own
            case "own":
                return own
            case other:
                raise UserError(f"{self._where()}: option 'words': {nearest(other, ('map', 'own'))}")


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON: {error}") from None
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path}: expected a JSON object of image-caption pairs")
    return content


def _notes(person: Any, words: Mapping[str, str], remarks: Counter[str], where: str) -> Iterator[Annotation]:
    """One person's annotations: emotions and explanations side by side, or one explanation for all emotions."""
    if not isinstance(person, list) or len(person) < 4:
        raise UserError(f"{where}: expected [image, caption, emotions, explanations, person], got {str(person)[:60]}")
    emotions, explanations = (_texts(value, where) for value in person[2:4])
    if len(explanations) == 1:
        explanations *= len(emotions)
    if len(emotions) != len(explanations):
        raise UserError(f"{where}: {len(emotions)} emotions but {len(explanations)} explanations")
    for emotion, explanation in zip(emotions, explanations, strict=True):
        label = words.get(emotion.strip().casefold())
        remarks["emotion words without a label, left out"] += label is None
        if label is not None:
            yield Annotation(label, explanation)


def _texts(value: Any, where: str) -> list[str]:
    if isinstance(value, str):
        return text_list(value, where) if value.startswith("[") else [value]
    return [str(item) for item in value] if isinstance(value, list) else []

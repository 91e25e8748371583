"""Task cards: YAML -> `harness.types.Task`, with every mistake named by file, line and column."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias, get_args

from pydantic import Field

from harness.errors import nearest
from harness.tasks.prompts import DEFAULT_PROMPT, render
from harness.types import Task, UserError
from harness.yaml_file import Number, Plain, Settings, Text, Texts, YamlFile

Reliability: TypeAlias = Literal["P", "R", "W", "D"]
RELIABILITIES = get_args(Reliability)
"""Marks of a published row: primary (the authors' own code or notebooks), another group, web page, derived."""

LONGEST_NAME = 100


class PublishedRow(Settings):
    """A row of numbers reported elsewhere; what is not stated is left out."""

    key_description: ClassVar[str] = "key of a published row"
    model: Text
    metrics: dict[str, Number]
    source: Text
    reliability: Reliability
    test_set: Text = ""
    n: Number = 0
    note: Text = ""


class Ratings(Settings):
    """The lowest and the highest rating of each dimension that people rated."""

    key_description: ClassVar[str] = "dimension"
    valence: tuple[Number, Number] = Field(default=(0, 0), strict=False)
    arousal: tuple[Number, Number] = Field(default=(0, 0), strict=False)
    dominance: tuple[Number, Number] = Field(default=(0, 0), strict=False)


class Card(Settings):
    """The keys of a card; their meaning is that of `harness.types.Task`."""

    name: Text
    dataset: Text
    emotions: Texts
    title: Text = ""
    version: Text = ""
    paper: Text = ""
    protocol: Literal["coco-ptb", "artemis-plain"] = "coco-ptb"
    dominance: Literal["", "majority", "half", "plurality"] = ""
    polarity: dict[str, Literal["positive", "negative", "other"]] = Field(default={})
    metrics: Texts = ()
    prompts: dict[str, Text] = Field(default={})
    slices: Texts = ()
    published: tuple[PublishedRow, ...] = Field(default=(), strict=False)
    illustrative: bool = False
    options: dict[str, Plain] = Field(default={})
    year: int = Field(default=0, ge=1900, le=2100)
    annotated_by: Literal["", "people", "artists", "machine"] = ""
    terms: Literal["", "free", "non-commercial", "on request", "not stated"] = ""
    description: Text = ""
    licence: Text = ""
    access: Text = ""
    traps: Texts = ()
    splits: Text = ""
    explanations: bool = True
    triggers: bool = False
    ratings: Ratings = Ratings()
    label_maps: dict[str, dict[str, Text]] = Field(default={})


CARD_KEYS = tuple(Card.model_fields)
"""Every key that a card may have."""


def builtin_cards() -> dict[str, Path]:
    """Task name -> card file, for the cards that come with the harness."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "cards").glob("*.yaml"))}


def load_task(path: Path) -> Task:
    """Read a task card.

    Required keys: `name`, `dataset`, `emotions`. The others are those of `harness.types.Task` (without `source`,
    which is the path read). A card without a `default` prompt gets `harness.tasks.prompts.DEFAULT_PROMPT`.

    Raises:
        UserError: unknown or repeated key, wrong type, duplicate label, unknown protocol, a polarity that does
            not cover the labels, a prompt that cannot be rendered; the message names file, line and column.
    """
    document = YamlFile(path)
    card = document.read(Card)
    values: dict[str, Any] = card.model_dump(exclude_unset=True)
    plain = card.name.isascii() and card.name[0].isalnum() and card.name.translate(_PUNCTUATION).isalnum()
    if not plain or len(card.name) > LONGEST_NAME:
        allowed = f"letters, digits, '.', '_' and '-' only, at most {LONGEST_NAME}"
        raise document.error(document.at("name"), f"name {card.name!r}: use {allowed}; it names files")
    _check_labels(document, card)
    for dimension, (low, high) in values.get("ratings", {}).items():
        if low >= high:
            node = document.at("ratings", dimension)
            raise document.error(node, "expected the lowest and the highest rating, such as [1, 7]")
    for name, prompt in card.prompts.items():
        try:
            render(prompt, card.emotions, values.get("ratings", {}))
        except UserError as error:
            raise document.error(document.at("prompts", name), str(error)) from None
    values["prompts"] = {"default": DEFAULT_PROMPT} | card.prompts
    return Task(**values, source=path)


_PUNCTUATION = str.maketrans("", "", "._-")


def _check_labels(document: YamlFile, card: Card) -> None:
    """Labels differ in more than capitals; a polarity covers all of them, a label map leads to them.

    Raises:
        UserError: one of these is not so.
    """
    labels = card.emotions
    if len(labels) < 2:
        raise document.error(document.at("emotions"), f"expected at least two labels, got {len(labels)}")
    seen: dict[str, str] = {}
    for i, label in enumerate(labels):
        if label.casefold() in seen:
            what = f"duplicate label {label!r} (already given as {seen[label.casefold()]!r})"
            raise document.error(document.at("emotions", i), what)
        seen[label.casefold()] = label
    for label in card.polarity:
        if label not in labels:
            node = document.key_at("polarity", label)
            raise document.error(node, f"unknown label {label!r}; {nearest(label, labels)}")
    missing = [label for label in labels if label not in card.polarity]
    if card.polarity and missing:
        what = f"polarity covers all labels or none; missing: {', '.join(missing)}"
        raise document.error(document.at("polarity"), what)
    for source, table in card.label_maps.items():
        for key, label in table.items():
            if label not in labels:
                node = document.at("label_maps", source, key)
                raise document.error(node, f"unknown label {label!r}; {nearest(label, labels)}")

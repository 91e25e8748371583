"""Task cards: YAML -> `harness.types.Task`, with every mistake named by file, line and column."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from harness.suggestions import nearest
from harness.tasks.prompts import DEFAULT_PROMPT, render
from harness.types import Task, UserError
from harness.yaml_file import YamlFile

PROTOCOLS = ("coco-ptb", "artemis-plain")
POLARITIES = ("positive", "negative", "other")
DIMENSIONS = ("valence", "arousal", "dominance")
RELIABILITIES = ("P", "R", "W", "D")
"""Marks of a published row: primary (the authors' own code or notebooks), another group, web page, derived."""

LONGEST_NAME = 100
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_Check: TypeAlias = Callable[[YamlFile, yaml.Node], Any]


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
    nodes = _known_entries(document, document.root, _FIELDS, "key")
    for required in ("name", "dataset", "emotions"):
        if required not in nodes:
            raise document.error(document.root, f"required key {required!r} is missing")
    values = {key: _FIELDS[key](document, node) for key, node in nodes.items()}
    if "polarity" in nodes:
        _check_polarity(document, nodes["polarity"], values["emotions"])
    if "label_maps" in nodes:
        _check_label_maps(document, nodes["label_maps"], values["emotions"])
    values["prompts"] = {"default": DEFAULT_PROMPT} | values.get("prompts", {})
    if "prompts" in nodes:
        _check_prompts(document, nodes["prompts"], values["emotions"], values.get("ratings", {}))
    return Task(**values, source=path)


def _known_entries(document: YamlFile, node: yaml.Node, known: Iterable[str], what: str) -> dict[str, yaml.Node]:
    names = tuple(known)
    entries = document.mapping(node)
    for key, key_node, _ in entries:
        if key not in names:
            raise document.error(key_node, f"unknown {what} {key!r}; {nearest(key, names)}")
    return {key: value for key, _, value in entries}


def _name(document: YamlFile, node: yaml.Node) -> str:
    name = document.text(node)
    if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        allowed = f"letters, digits, '.', '_' and '-' only, at most {LONGEST_NAME}"
        raise document.error(node, f"name {name!r}: use {allowed}; it names files")
    return name


def _emotions(document: YamlFile, node: yaml.Node) -> tuple[str, ...]:
    labels = document.texts(node)
    if len(labels) < 2:
        raise document.error(node, f"expected at least two labels, got {len(labels)}")
    seen: dict[str, str] = {}
    for label, item in zip(labels, document.sequence(node), strict=True):
        if label.casefold() in seen:
            raise document.error(item, f"duplicate label {label!r} (already given as {seen[label.casefold()]!r})")
        seen[label.casefold()] = label
    return labels


def _one_of(allowed: tuple[str, ...], what: str) -> _Check:
    def check(document: YamlFile, node: yaml.Node) -> str:
        value = document.text(node)
        if value not in allowed:
            raise document.error(node, f"unknown {what} {value!r}; {nearest(value, allowed)}")
        return value

    return check


def _mapping_of(check: _Check) -> _Check:
    def read(document: YamlFile, node: yaml.Node) -> dict[str, Any]:
        return {key: check(document, value) for key, _, value in document.mapping(node)}

    return read


def _boolean(document: YamlFile, node: yaml.Node) -> bool:
    value = document.plain(node)
    if not isinstance(value, bool):
        raise document.error(node, f"expected true or false, got {value!r}")
    return value


def _scale(document: YamlFile, node: yaml.Node) -> tuple[float, float]:
    ends = tuple(_number(document, end) for end in document.sequence(node))
    if len(ends) != 2 or ends[0] >= ends[1]:
        raise document.error(node, "expected the lowest and the highest rating, such as [1, 7]")
    return ends[0], ends[1]


def _ratings(document: YamlFile, node: yaml.Node) -> dict[str, tuple[float, float]]:
    nodes = _known_entries(document, node, DIMENSIONS, "dimension")
    return {dimension: _scale(document, scale) for dimension, scale in nodes.items()}


def _number(document: YamlFile, node: yaml.Node) -> float:
    value = document.plain(node)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise document.error(node, f"expected a number, got {value!r}")
    return value


def _published(document: YamlFile, node: yaml.Node) -> tuple[Mapping[str, Any], ...]:
    return tuple(_published_row(document, row) for row in document.sequence(node))


def _published_row(document: YamlFile, node: yaml.Node) -> dict[str, Any]:
    nodes = _known_entries(document, node, _PUBLISHED_FIELDS, "key of a published row")
    for required in ("model", "metrics", "source", "reliability"):
        if required not in nodes:
            raise document.error(node, f"a published row needs {required!r}")
    return {key: _PUBLISHED_FIELDS[key](document, value) for key, value in nodes.items()}


def _check_polarity(document: YamlFile, node: yaml.Node, labels: tuple[str, ...]) -> None:
    entries = _known_entries(document, node, labels, "label")
    if missing := [label for label in labels if label not in entries]:
        raise document.error(node, f"polarity covers all labels or none; missing: {', '.join(missing)}")


def _check_label_maps(document: YamlFile, node: yaml.Node, labels: tuple[str, ...]) -> None:
    for _, _, table in document.mapping(node):
        for _, _, target in document.mapping(table):
            _one_of(labels, "label")(document, target)


def _check_prompts(
    document: YamlFile, node: yaml.Node, labels: tuple[str, ...], ratings: Mapping[str, tuple[float, float]]
) -> None:
    for _, _, value in document.mapping(node):
        try:
            render(document.text(value), labels, ratings)
        except UserError as error:
            raise document.error(value, str(error)) from None


_FIELDS: dict[str, _Check] = {
    "name": _name,
    "dataset": YamlFile.text,
    "emotions": _emotions,
    "title": YamlFile.text,
    "version": YamlFile.text,
    "paper": YamlFile.text,
    "protocol": _one_of(PROTOCOLS, "protocol"),
    "polarity": _mapping_of(_one_of(POLARITIES, "polarity")),
    "metrics": YamlFile.texts,
    "prompts": _mapping_of(YamlFile.text),
    "slices": YamlFile.texts,
    "published": _published,
    "illustrative": _boolean,
    "options": _mapping_of(YamlFile.plain),
    "description": YamlFile.text,
    "licence": YamlFile.text,
    "access": YamlFile.text,
    "traps": YamlFile.texts,
    "splits": YamlFile.text,
    "explanations": _boolean,
    "ratings": _ratings,
    "label_maps": _mapping_of(_mapping_of(YamlFile.text)),
}
CARD_KEYS = tuple(_FIELDS)
"""Every key that a card may have."""

_PUBLISHED_FIELDS: dict[str, _Check] = {
    "model": YamlFile.text,
    "metrics": _mapping_of(_number),
    "source": YamlFile.text,
    "reliability": _one_of(RELIABILITIES, "reliability mark"),
    "test_set": YamlFile.text,
    "n": _number,
    "note": YamlFile.text,
}

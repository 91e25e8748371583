"""Reading `--models`: `sevlm,qwen3-vl-8b:dtype=bf16,hf:CHECKPOINT,openai:MODEL,as=gpt`.

A name is an adapter's, a model card's, or the path of a card of one's own (`./mine.yaml`). Settings follow a model's
first colon; `hf:CHECKPOINT` and `openai:MODEL` name the model itself there. A comma piece that looks like `name=value`
belongs to the model before it; values may hold `:` and `/`.

`as=NAME` names the row and its file, `prompt=NAME` picks one of the task's prompts, `group=NAME` says that rows are one
model trained with several seeds, whose mean and standard deviation are shown. `trained_on=TASK` takes a model that was
trained on another task and maps its labels to those of the task it is asked on; `overlap=allow` asks it also about
images that it was trained on.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import re
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.adapters.cards import ModelCard, find_card
from harness.errors import nearest
from harness.redact import is_secret_name, keep_secret, keep_secrets_in
from harness.types import UserError, check_name
from harness.yaml_file import typed_value

NAMED_FIRST = {
    "hf": "checkpoint",
    "llava": "checkpoint",
    "openai": "model",
    "gpt4v": "model",
    "claude": "model",
    "gemini": "model",
}
"""Adapter -> the setting that may stand without its name right after the colon."""
_SETTING = re.compile(r"[a-z][a-z0-9_]*=")


@dataclass(frozen=True)
class ModelSpec:
    """One model as asked for.

    Attributes:
        name: row name in tables and file name (`as=`, else what was typed: the adapter, the card, the checkpoint).
        adapter: registry name.
        settings: as typed, without the five that belong to every model: `as`, `prompt`, `group`, `trained_on`,
            `overlap`.
        prompt: name of the task's prompt to use.
        trained_on: name of another task whose checkpoint and labels the model uses; its answers are mapped.
        overlap_allowed: ask also about images that the model was trained on.
        group: name shared by rows that are one model trained with several seeds.
        card: the model card that was asked for by its name; its checkpoint or model is among `settings`, its other
            settings count less than the command line's.
    """

    name: str
    adapter: str
    settings: Mapping[str, str] = field(default_factory=dict)
    prompt: str = "default"
    trained_on: str | None = None
    overlap_allowed: bool = False
    group: str | None = None
    card: ModelCard | None = None


def parse_models(text: str) -> list[ModelSpec]:
    """Read a `--models` value.

    Raises:
        UserError: an empty list, a setting before any model, or two rows of one name.
    """
    groups: list[list[str]] = []
    for piece in _pieces(text):
        if not piece:
            continue
        if _SETTING.match(piece):
            if not groups:
                raise UserError(f"--models: setting {piece!r} comes before any model")
            groups[-1].append(piece)
        else:
            name, colon, first = piece.partition(":")
            groups.append([name, first] if colon else [name])
    if not groups:
        raise UserError("--models: name at least one model; see: harness list models")
    specs = [_spec(group[0], group[1:]) for group in groups]
    names = [spec.name for spec in specs]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"--models: two rows are named {name!r}; tell them apart with as=NAME")
    return specs


def _pieces(text: str) -> Iterator[str]:
    """What stands between commas, except those in a JSON value (`extra_body={"a":1,"b":2}`)."""
    start = place = 0
    while place <= len(text):
        if text.startswith("={", place):
            with contextlib.suppress(ValueError):
                place = json.JSONDecoder().raw_decode(text, place + 1)[1] - 1
        elif place == len(text) or text[place] == ",":
            yield text[start:place].strip()
            start = place + 1
        place += 1


def _spec(head: str, pieces: Sequence[str]) -> ModelSpec:
    card = find_card(head)
    if card is None and "/" in head:
        raise UserError(f"unknown model {head!r}; for a checkpoint of the hub or in a folder type hf:{head}")
    adapter = head if card is None else card.adapter
    settings: dict[str, str] = {} if card is None else dict(card.identity())
    name = head if card is None else card.name
    for place, piece in enumerate(pieces):
        key, equals, value = piece.partition("=")
        if not equals and place == 0 and piece and card is None and adapter in NAMED_FIRST:
            key, value = NAMED_FIRST[adapter], piece
            name = re.sub(r"[^A-Za-z0-9._-]", "-", piece.rstrip("/").rpartition("/")[2])
        elif not equals:
            raise UserError(f"--models: expected name=value after {head!r}, got {piece!r}")
        settings[key] = value
    name = check_name(settings.pop("as", name), "model")
    prompt, trained_on = settings.pop("prompt", "default"), settings.pop("trained_on", None)
    overlap = settings.pop("overlap", "refuse")
    if overlap not in ("refuse", "allow"):
        raise UserError(f"{name}:overlap={overlap}: expected refuse or allow")
    group = settings.pop("group", None)
    return ModelSpec(name, adapter, settings, prompt, trained_on, overlap == "allow", group, card)


def typed_settings(cls: type, spec: ModelSpec, offered: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments for `cls`: the settings as typed, then `offered` ones that `__init__` takes, then the card's.

    Raises:
        UserError: a setting that `__init__` does not know, or a value of the wrong type.
    """
    parameters = inspect.signature(cls).parameters
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    hints = typing.get_type_hints(getattr(cls, "__init__"), include_extras=True)  # noqa: B009 (mypy: unsound)
    arguments: dict[str, Any] = {}
    for key, value in spec.settings.items():
        if key not in parameters and not open_ended:
            raise UserError(f"model {spec.name!r} has no setting {key!r}; {nearest(key, parameters)}")
        arguments[key] = typed_value(value, hints.get(key, Any), f"{spec.name}:{key}")
    for key, value in offered.items():
        if key in parameters and key not in arguments and value is not None:
            arguments[key] = value
    if spec.card is not None:
        for key, value in spec.card.settings.items():
            if key not in parameters and not open_ended:
                raise UserError(f"card {spec.card.name!r} has a setting {key!r}; {nearest(key, parameters)}")
            arguments.setdefault(key, typed_value(str(value), hints.get(key, Any), f"{spec.card.name}:{key}"))
    for key, parameter in parameters.items():
        variadic = parameter.kind in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        if key not in arguments and parameter.default is inspect.Parameter.empty and not variadic:
            raise UserError(f"model {spec.name!r} needs {key}=…; type: {spec.adapter}:{key}=VALUE")
    return arguments


def keep_model_secrets(specs: Iterable[ModelSpec]) -> None:
    """Remember settings that are or hold secrets, and the values of variables that some, like `api_key_env`, name."""
    for spec in specs:
        for name, value in spec.settings.items():
            if is_secret_name(name):
                keep_secret(value)
            elif name.endswith("_env"):
                keep_secret(os.environ.get(value))
            else:
                keep_secrets_in(value)

"""`--config`: a YAML file that stands for options of a command, checked like them, with mistakes named by line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import nearest
from harness.yaml_file import YamlFile

if TYPE_CHECKING:
    import yaml

COMMA_LISTS = ("tasks", "models", "controls")
ONLY_TYPED = "trust_remote_code"
"""Never taken from a file: whoever wrote the file may not be who runs it."""


def read_config(path: Path, parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Options by long name with underscores, of the types that `parser` gives them.

    Lists may stand for comma lists.

    Raises:
        UserError: no such file, not plain YAML, an unknown option or a value that the option does not take; the message
            names file, line and column.
    """
    document = YamlFile(path)
    known = {a.dest: a for a in parser._actions if a.option_strings and a.dest not in ("help", "config")}
    values: dict[str, Any] = {}
    for key, key_node, node in document.mapping(document.root):
        name = key.replace("-", "_")
        if name not in known:
            raise document.error(key_node, f"unknown option {key!r}; {nearest(name, known)}")
        values[name] = _value(document, node, known[name])
        if name == ONLY_TYPED or f"{ONLY_TYPED}=" in str(values[name]):
            raise document.error(key_node, f"{ONLY_TYPED} must be typed: --trust-remote-code on the command line")
    return values


def _value(document: YamlFile, node: yaml.Node, action: argparse.Action) -> Any:
    plain = document.plain(node)
    if action.nargs == 0:  # a switch
        if not isinstance(plain, bool):
            raise document.error(node, f"expected true or false, got {plain!r}")
        return plain
    pieces = plain if isinstance(plain, list) else [plain]
    if any(isinstance(piece, dict | list | bool) or piece is None for piece in pieces):
        raise document.error(node, "expected text or a number")
    if isinstance(action, argparse._AppendAction):
        return [str(piece) for piece in pieces]
    if isinstance(plain, list) and action.dest not in COMMA_LISTS:
        raise document.error(node, "expected one value, got a list")
    return _converted(document, node, action, ",".join(map(str, pieces)))


def _converted(document: YamlFile, node: yaml.Node, action: argparse.Action, text: str) -> Any:
    """The text as its option takes it on the command line."""
    try:
        value = action.type(text) if callable(action.type) else text
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise document.error(node, f"{action.option_strings[0]} does not take {text!r} ({error})") from None
    if action.choices is not None and value not in action.choices:
        raise document.error(node, f"{action.option_strings[0]}: expected one of {', '.join(action.choices)}")
    return value

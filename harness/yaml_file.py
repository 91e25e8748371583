"""YAML whose mistakes can be pointed at: every value is read from its node, which knows line and column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from harness.types import UserError

LONGEST, DEEPEST = 1_000_000, 50
"""Characters and levels of a YAML file."""
_TAG = "tag:yaml.org,2002:"
_TEXT_TAGS = {_TAG + kind for kind in ("str", "int", "float", "timestamp")}
_KINDS = {"str": "text", "int": "a number", "float": "a number", "bool": "true/false", "null": "nothing"}


class YamlFile:
    """One YAML document, composed safely into nodes but not yet turned into Python values.

    Args:
        path: a UTF-8 file holding one document.

    Raises:
        UserError: no such file, not UTF-8, not YAML, more than one document, empty, longer than `LONGEST`, deeper than
            `DEEPEST`, or it uses aliases (`*name`), which a few bytes can expand without bound.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists() and not path.is_file() and not path.is_dir():  # a pipe or a device may never end
            raise UserError(f"{path}: not a regular file, expected a YAML file")
        try:
            text = path.read_text(encoding="utf-8-sig")
            self._refuse_expansion(text)
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except FileNotFoundError:
            raise UserError(f"{path}: no such file") from None
        except IsADirectoryError:
            raise UserError(f"{path}: is a folder, expected a YAML file") from None
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not UTF-8 text (byte {error.start})") from None
        except yaml.MarkedYAMLError as error:
            raise self._error_at(error.problem_mark, f"not valid YAML: {error.problem}") from None
        except (yaml.YAMLError, RecursionError) as error:
            raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
        if root is None:
            raise UserError(f"{path}: is empty, expected a YAML mapping")
        self.root: yaml.Node = root

    def error(self, node: yaml.Node, message: str) -> UserError:
        """The error to raise about `node`: file, line and column before the message."""
        return self._error_at(node.start_mark, message)

    def mapping(self, node: yaml.Node) -> list[tuple[str, yaml.Node, yaml.Node]]:
        """The entries of a mapping as (key, key node, value node).

        Raises:
            UserError: not a mapping, a key that is not text, or a key given twice.
        """
        if not isinstance(node, yaml.MappingNode):
            raise self.error(node, f"expected a mapping (key: value), got {self._kind(node)}")
        entries = [(self.text(key), key, value) for key, value in node.value]
        seen: dict[str, int] = {}
        for key, key_node, _ in entries:
            if key in seen:
                raise self.error(key_node, f"key {key!r} is given twice (first in line {seen[key]})")
            seen[key] = key_node.start_mark.line + 1
        return entries

    def sequence(self, node: yaml.Node) -> list[yaml.Node]:
        """The nodes of a list.

        Raises:
            UserError: not a list.
        """
        if not isinstance(node, yaml.SequenceNode):
            raise self.error(node, f"expected a list, got {self._kind(node)}")
        return list(node.value)

    def text(self, node: yaml.Node) -> str:
        """A text scalar, stripped; numbers and dates are taken as written.

        Raises:
            UserError: anything else. `no`, `yes`, `on`, `off` are true/false in YAML unless quoted.
        """
        if isinstance(node, yaml.ScalarNode) and node.tag in _TEXT_TAGS and node.value.strip():
            return str(node.value).strip()
        hint = f"; write {node.value!r} in quotes" if node.tag == _TAG + "bool" else ""
        raise self.error(node, f"expected text, got {self._kind(node)}{hint}")

    def texts(self, node: yaml.Node) -> tuple[str, ...]:
        """A list of text scalars.

        Raises:
            UserError: not a list, or an entry that is not text.
        """
        return tuple(self.text(item) for item in self.sequence(node))

    def plain(self, node: yaml.Node) -> Any:
        """Any plain value: text, number, true/false, null, and lists and mappings of them.

        Raises:
            UserError: a tag that is not plain YAML, or a key given twice.
        """
        if isinstance(node, yaml.MappingNode):
            return {key: self.plain(value) for key, _, value in self.mapping(node)}
        if isinstance(node, yaml.SequenceNode):
            return [self.plain(item) for item in node.value]
        try:
            return yaml.constructor.SafeConstructor().construct_document(node)
        except (yaml.YAMLError, ValueError) as error:
            problem = getattr(error, "problem", error)
            raise self.error(node, f"not a plain value: {problem}") from None

    def _refuse_expansion(self, text: str) -> None:
        """Refuse what takes a parser far longer to read than it took to write."""
        if len(text) > LONGEST:
            raise UserError(f"{self.path}: {len(text)} characters; expected at most {LONGEST} in a YAML file")
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise self._error_at(event.start_mark, f"aliases (*{event.anchor}) are not supported; repeat the value")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise self._error_at(event.start_mark, f"not valid YAML here: more than {DEEPEST} levels deep")

    def _error_at(self, mark: Any, message: str) -> UserError:
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        return UserError(f"{self.path}{where}: {' '.join(message.split())}")

    @staticmethod
    def _kind(node: yaml.Node) -> str:
        if isinstance(node, yaml.MappingNode):
            return "a mapping"
        if isinstance(node, yaml.SequenceNode):
            return "a list"
        if not node.value.strip():
            return "nothing"
        return _KINDS.get(node.tag.removeprefix(_TAG), f"a {node.tag.removeprefix(_TAG)}")

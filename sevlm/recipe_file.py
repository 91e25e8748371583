"""Reading a recipe's YAML: plain values only, each mistake told with its line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from sevlm.errors import SEVLMError

DEEPEST = 50
"""Levels of nesting; reading very deep YAML takes time that grows with the square of the depth."""
GROUPS = ("model", "training")


def read_recipe_file(path: Path, check: Callable[[Mapping[str, Any]], object]) -> dict[str, Any]:
    """The keys and values of a recipe.

    Args:
        path: a YAML file without aliases, which a few bytes can expand without bound.
        check: raises `SEVLMError` for settings that cannot be; called with one key at a time, to know its line.

    Raises:
        SEVLMError: not UTF-8, not YAML, not a mapping, a key given twice, or refused by `check`; the message names the
            line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        root = yaml.compose(text, Loader=_PlainLoader)
    except UnicodeDecodeError as error:
        raise SEVLMError(f"{path} is not UTF-8 text (byte {error.start})") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise SEVLMError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    values: dict[str, Any] = {}
    for key, line, node in _entries(path, root):
        entries = [(key, line, node)] if key not in GROUPS else list(_entries(path, node))
        found = {name: _plain(path, at, inner) for name, at, inner in entries}
        for name, at, _ in entries:
            try:
                check({name: found[name]})
            except SEVLMError as error:
                raise SEVLMError(f"{path}, line {at}: {error}") from None
        values[key] = found if key in GROUPS else found[key]
    return values


class _PlainLoader(yaml.SafeLoader):
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases are not supported; repeat the value", problem_mark=mark)
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.YAMLError(f"more than {DEEPEST} levels deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _entries(path: Path, node: yaml.Node | None) -> Iterator[tuple[str, int, yaml.Node]]:
    """Key, line and value of each entry of a mapping."""
    if not isinstance(node, yaml.MappingNode):
        line = f", line {node.start_mark.line + 1}" if node is not None else ""
        raise SEVLMError(f"{path}{line} must hold the keys mode, model and training, with values")
    seen: set[str] = set()
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode) or key.value in seen:
            raise SEVLMError(f"{path}, line {line}: expected a key of text, each once, got {str(key.value)[:60]!r}")
        seen.add(key.value)
        yield key.value, line, value


def _plain(path: Path, line: int, node: yaml.Node) -> Any:
    constructor = yaml.constructor.SafeConstructor()
    try:
        return constructor.construct_document(node)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SEVLMError(f"{path}, line {line}: not a plain value: {getattr(error, 'problem', error)}") from None

"""Whatever speaks text is read by one parser: no adapter of a model makes an answer of its own."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from harness.adapters.endpoint_reply import Reply, outcome_of_reply
from harness.adapters.sevlm import read_answer
from harness.plan.registry import adapter_registry
from harness.types import Item, Outcome, Usage
from sevlm.generation import Generated
from sevlm.tokenization import split_caption

LABELS = ("contentment", "fear", "awe")
PARSER = "harness.tasks.parser"
SPEECHLESS = ("nearest", "linear", "majority", "people", "local")
"""Modules whose answers come from people or from scores: there is no text to be read."""
TEXTS = [
    "◁think▷It evokes fear because of the cliff.◁/think▷contentment because the lake is calm",
    "awe because the sky is vast",
    "awe | fear because the sky is vast",
    "rage because the sky is red",
    "awe",
    "I'm sorry, I can't help with that.",
    "",
]
"""Of every kind that the parser tells apart."""


def models() -> dict[str, ModuleType]:
    registry = adapter_registry()
    loaded = {name: registry.load(name) for name in registry.names()}
    return {name: sys.modules[cls.__module__] for name, cls in loaded.items() if cls.kind == "model"}


def reached(module: ModuleType) -> Iterator[ModuleType]:
    """The module and all modules of the adapters that it uses."""
    seen, left = set(), [module]
    while left:
        one = left.pop()
        if one.__name__ in seen:
            continue
        seen.add(one.__name__)
        yield one
        for node in ast.walk(ast.parse(inspect.getsource(one))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("harness.adapters."):
                left.append(sys.modules.get(str(node.module)) or __import__(str(node.module), fromlist=["_"]))


def calls(module: ModuleType) -> set[str]:
    tree = ast.parse(inspect.getsource(module))
    return {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}


@pytest.mark.parametrize("name", sorted(models()))
def test_every_model_is_read_by_the_parser_and_by_nothing_else(name: str) -> None:
    modules = list(reached(models()[name]))
    found = set().union(*map(calls, modules))
    assert "parse_answer" in found
    speaking = [m for m in modules if Path(str(m.__file__)).stem not in SPEECHLESS]
    assert not {"Answer", "Unparsed"} & set().union(*map(calls, speaking))


@pytest.mark.parametrize("text", TEXTS)
def test_sevlm_and_endpoints_understand_the_same(text: str) -> None:
    item = Item("a", Path("a.jpg"), LABELS, "?")
    told: list[Outcome] = [
        outcome_of_reply(Reply(text), item, Usage()),
        read_answer(Generated(text, *split_caption(text), True, None, (1,)), LABELS, Usage()),
    ]
    assert told[0] == told[1]

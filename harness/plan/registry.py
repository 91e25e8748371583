"""Names -> things: adapters, tasks, readers and metrics, built in or brought by installed packages.

Targets are `"module:attr"` strings and are imported only when asked for, so that listing stays fast. Installed
packages add entries through the entry-point groups `harness.adapters`, `harness.tasks` and `harness.metrics`;
`--adapter NAME=FILE.py:Class` adds one from a file.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from harness.suggestions import nearest
from harness.types import UserError

if TYPE_CHECKING:
    from harness.adapters.base import Adapter

ADAPTERS: Mapping[str, str] = {
    "majority": "harness.adapters.majority:Majority",
    "nearest": "harness.adapters.nearest:Nearest",
    "human": "harness.adapters.human:Human",
    "crowd": "harness.adapters.crowd:Crowd",
    "sevlm": "harness.adapters.sevlm:SEVLMAdapter",
    "hf": "harness.adapters.hf_vlm:HFVisionLanguage",
    "openai": "harness.adapters.openai_chat:OpenAIChat",
    "llava": "harness.adapters.hf_vlm:HFVisionLanguage",
    "gpt4v": "harness.adapters.openai_chat:OpenAIChat",
}

FILE_MODULE = "adapter_file_"
"""Begins the module names of files given by `--adapter`: a file may be called like a module that others import."""


def import_target(target: str) -> Any:
    """Import `"module:attr"`, or a family's variant by `"module:attr:argument"`.

    Raises:
        UserError: the module or the attribute does not exist.
    """
    module_name, _, attribute = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # somebody else's module may fail in any way
        raise UserError(f"{target}: cannot be imported ({type(error).__name__}: {error})") from error
    attribute, _, argument = attribute.partition(":")
    found = _attribute(module, attribute, target)
    return found.variant(argument) if argument else found


def _attribute(module: ModuleType, attribute: str, target: str) -> Any:
    try:
        return getattr(module, attribute)
    except AttributeError:
        public = [n for n in vars(module) if not n.startswith("_")]
        raise UserError(f"{target}: no {attribute!r} in there; {nearest(attribute, public)}") from None


class Registry:
    """A table of names with lazy targets.

    Args:
        kind: what the entries are, for messages (`model`, `task`, `metric`).
        builtin: name -> `"module:attr"`.
        group: entry-point group whose entries are merged in.
        also: other names that would have been understood, for messages.
    """

    def __init__(
        self,
        kind: str,
        builtin: Mapping[str, str],
        group: str | None = None,
        also: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self.kind = kind
        self._also = also
        self._targets = dict(builtin)
        self._loaded: dict[str, Any] = {}
        for entry in entry_points(group=group) if group else ():
            self.add(entry.name, entry.value)

    def add(self, name: str, target: str, value: Any = None) -> None:
        """Register `target` under `name`; `value`, if given, is the thing already loaded.

        Raises:
            UserError: the name is taken by another target.
        """
        if self._targets.get(name, target) != target:
            raise UserError(f"{self.kind} name {name!r} is claimed by both {self._targets[name]} and {target}")
        self._targets[name] = target
        if value is not None:
            self._loaded[name] = value

    def names(self) -> list[str]:
        """All registered names, built-in ones first, in order of registration."""
        return list(self._targets)

    def target(self, name: str) -> str:
        """The `"module:attr"` (or file) behind a name.

        Raises:
            UserError: unknown name; the message suggests the nearest ones.
        """
        if name not in self._targets:
            raise UserError(f"unknown {self.kind} {name!r}; {nearest(name, [*self._targets, *self._also()])}")
        return self._targets[name]

    def load(self, name: str) -> Any:
        """Import the thing behind a name.

        Raises:
            UserError: unknown name, or its module cannot be imported.
        """
        target = self.target(name)
        if name not in self._loaded:
            self._loaded[name] = import_target(target)
        return self._loaded[name]


def adapter_registry(from_files: Iterable[str] = ()) -> Registry:
    """Adapters: built in, installed, and those given as `NAME=FILE.py:Class`."""
    registry = Registry("model", ADAPTERS, "harness.adapters", _card_names)
    for definition in from_files:
        name, _, target = definition.partition("=")
        if not name or ":" not in target:
            raise UserError(f"--adapter {definition!r}: expected NAME=FILE.py:Class")
        registry.add(name, target, load_class_from_file(target))
    return registry


def _card_names() -> tuple[str, ...]:
    from harness.adapters.cards import card_names

    return card_names()


def metric_registry() -> Registry:
    """Metrics: built in and installed."""
    from harness.tasks.metrics import METRICS

    return Registry("metric", METRICS, "harness.metrics")


def load_class_from_file(target: str) -> type[Adapter]:
    """Import an adapter class from `FILE.py:Class`.

    Raises:
        UserError: no such file or class, the file fails to import, or the class is not an adapter.
    """
    from harness.adapters import EndpointAdapter, LocalAdapter

    file_name, _, class_name = target.rpartition(":")
    path = Path(file_name)
    if not path.is_file():
        raise UserError(f"{file_name}: no such file; expected FILE.py:Class")
    name = f"{FILE_MODULE}{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{file_name}: not a Python file; expected FILE.py:Class")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"{file_name}: fails to import ({type(error).__name__}: {error})") from error
    found = _attribute(module, class_name, target)
    if not (isinstance(found, type) and issubclass(found, LocalAdapter | EndpointAdapter)):
        raise UserError(f"{target}: must be a subclass of harness.adapters.LocalAdapter or EndpointAdapter")
    return found

"""Names -> things: adapters, metrics, tasks, their readers and checkpoints, built in or brought by installed packages.

Targets are `"module:attr"` strings and are imported only when asked for, so that listing stays fast. Installed
packages add entries through the entry-point groups `harness.adapters`, `harness.tasks` and `harness.metrics`;
`--adapter NAME=FILE.py:Class` adds one from a file.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.metadata import entry_points, packages_distributions
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.adapters.base import EndpointAdapter, LocalAdapter
from harness.adapters.cards import card_names
from harness.errors import nearest
from harness.tasks import READERS
from harness.tasks.loading import builtin_cards, load_task
from harness.tasks.metrics import METRICS
from harness.tasks.readers.base import Reader
from harness.types import Task, UserError

ADAPTERS: Mapping[str, str] = {
    "majority": "harness.adapters.majority:Majority",
    "nearest": "harness.adapters.nearest:Nearest",
    "linear": "harness.adapters.linear:Linear",
    "human": "harness.adapters.people:Human",
    "crowd": "harness.adapters.people:Crowd",
    "sevlm": "harness.adapters.sevlm:SEVLMAdapter",
    "hf": "harness.adapters.hf:HFVisionLanguage",
    "openai": "harness.adapters.openai_chat:OpenAIChat",
    "claude": "harness.adapters.claude:Claude",
    "gemini": "harness.adapters.gemini:Gemini",
    "llava": "harness.adapters.hf:HFVisionLanguage",
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


@cache
def _installed() -> Any:
    """Entry points of all packages, found once: that reads a file of each."""
    return entry_points()


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
        for entry in _installed().select(group=group) if group else ():
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
    registry = Registry("model", ADAPTERS, "harness.adapters", card_names)
    for definition in from_files:
        name, _, target = definition.partition("=")
        if not name or ":" not in target:
            raise UserError(f"--adapter {definition!r}: expected NAME=FILE.py:Class")
        registry.add(name, target, load_class_from_file(target))
    return registry


def metric_registry() -> Registry:
    """Metrics: built in and installed."""
    return Registry("metric", METRICS, "harness.metrics")


def load_class_from_file(target: str) -> type[LocalAdapter | EndpointAdapter]:
    """Import an adapter class from `FILE.py:Class`.

    Raises:
        UserError: no such file or class, the file fails to import, or the class is not an adapter.
    """
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


# --------------------------------------------------------------------------- tasks and their data

_MODULE_CLASS = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
TEXT_EMOTION = "text-emotion"
"""Name of the text classifier in `harness train` and of its checkpoint folder."""


def task_cards() -> dict[str, Path]:
    """Name -> YAML card of every known task: built in, and installed (entry points that give a path).

    Raises:
        UserError: two cards of one name.
    """
    cards = dict(builtin_cards())
    for entry in _installed().select(group="harness.tasks"):
        if entry.name in cards:
            raise UserError(f"task name {entry.name!r} is claimed by both {cards[entry.name]} and {entry.value}")
        cards[entry.name] = Path(import_target(entry.value))
    return cards


def find_task(name: str) -> Task:
    """Load a task by registry name or by path of a YAML card.

    Raises:
        UserError: unknown name (the nearest ones are suggested), or the card is wrong.
    """
    cards = task_cards()
    if name in cards:
        return load_task(cards[name])
    if name.endswith((".yaml", ".yml")):
        return load_task(Path(name))
    raise UserError(f"unknown task {name!r}; {nearest(name, cards)} (or give the path of a task .yaml)")


def data_root(given: str | Path | None = None) -> Path:
    """The folder of prepared data and checkpoints: `given`, else `$HARNESS_DATA`, else the user's cache folder.

    Raises:
        UserError: it is a file.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    root = Path(given or os.environ.get("HARNESS_DATA") or Path(cache) / "sevlm-harness").expanduser().absolute()
    if root.exists() and not root.is_dir():
        raise UserError(f"data root {root}: is a file, expected a folder (--data-root DIR, or HARNESS_DATA)")
    return root


def check_writable(root: Path) -> None:
    """Check that files can be made in a data root, before hours are spent on what is to be written there.

    Raises:
        UserError: they cannot.
    """
    there = next(folder for folder in (root, *root.parents) if folder.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"data root {root}: {there} cannot be written to; name another: --data-root DIR")


def open_reader(task: Task, root: Path) -> Reader:
    """Build the reader of a task's dataset: a registered name, or `module:Class`.

    Raises:
        UserError: unknown dataset, or a module that is not installed, is Python's own or holds no such reader.
    """
    if ":" not in task.dataset and task.dataset not in READERS:
        raise UserError(f"task {task.name!r}: unknown dataset {task.dataset!r}; {nearest(task.dataset, READERS)}")
    if ":" in task.dataset:
        package = task.dataset.partition(":")[0].partition(".")[0]
        if not _MODULE_CLASS.fullmatch(task.dataset) or package in sys.stdlib_module_names:
            raise UserError(f"task {task.name!r}: dataset {task.dataset!r}: expected a reader's name or module:Class")
        # A card is data, not a program: it must not run a module that merely lies in the working folder, beside it.
        spec = importlib.util.find_spec(package)
        here = spec is not None and spec.origin is not None and Path(spec.origin).is_relative_to(Path.cwd())
        if here and package not in packages_distributions():
            raise UserError(
                f"task {task.name!r}: dataset {task.dataset!r}: {package} lies in the working folder and is not "
                "installed; if you trust it, type: pip install -e FOLDER"
            )
    found = import_target(READERS.get(task.dataset, task.dataset))
    if not (isinstance(found, type) and issubclass(found, Reader)):
        raise UserError(
            f"task {task.name!r}: dataset {task.dataset!r} is no subclass of harness.tasks.readers.base.Reader"
        )
    return found(task, root)


def checkpoint_folder(root: Path, task: str, model: str) -> Path:
    """Where `harness train MODEL --task TASK` writes by default and `--models MODEL` looks."""
    return root / task / "checkpoints" / model

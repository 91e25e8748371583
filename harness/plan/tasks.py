"""Finding tasks and their data: registry names or YAML paths, the data root, readers."""

from __future__ import annotations

import os
import re
import sys
from importlib.metadata import entry_points, packages_distributions
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from harness.plan.registry import import_target
from harness.suggestions import nearest
from harness.types import Task, UserError

if TYPE_CHECKING:
    from harness.tasks.readers.base import Reader

_MODULE_CLASS = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
TEXT_EMOTION = "text-emotion"
"""Name of the text classifier in `harness train` and of its checkpoint folder."""


def task_cards() -> dict[str, Path]:
    """Name -> YAML card of every known task: built in, and installed (entry points that give a path).

    Raises:
        UserError: two cards of one name.
    """
    from harness.tasks.loading import builtin_cards

    cards = dict(builtin_cards())
    for entry in entry_points(group="harness.tasks"):
        if entry.name in cards:
            raise UserError(f"task name {entry.name!r} is claimed by both {cards[entry.name]} and {entry.value}")
        cards[entry.name] = Path(import_target(entry.value))
    return cards


def find_task(name: str) -> Task:
    """Load a task by registry name or by path of a YAML card.

    Raises:
        UserError: unknown name (the nearest ones are suggested), or the card is wrong.
    """
    from harness.tasks.loading import load_task

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
    """See that files can be made in a data root, before hours are spent on what is to be written there.

    Raises:
        UserError: they cannot.
    """
    there = next(folder for folder in (root, *root.parents) if folder.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"data root {root}: {there} cannot be written to; name another: --data-root DIR")


def open_reader(task: Task, root: Path) -> Reader:
    """Build the reader of a task's dataset: a registered name, or `module:Class`.

    Raises:
        UserError: unknown dataset, or a module that is not installed or holds no such reader.
    """
    from harness.tasks import READERS
    from harness.tasks.readers.base import Reader

    if ":" not in task.dataset and task.dataset not in READERS:
        raise UserError(f"task {task.name!r}: unknown dataset {task.dataset!r}; {nearest(task.dataset, READERS)}")
    if ":" in task.dataset:
        _check_installed(task)
    found = import_target(READERS.get(task.dataset, task.dataset))
    if not (isinstance(found, type) and issubclass(found, Reader)):
        raise UserError(
            f"task {task.name!r}: dataset {task.dataset!r} is no subclass of harness.tasks.readers.base.Reader"
        )
    return found(task, root)


def _check_installed(task: Task) -> None:
    """Refuse a module that merely lies in the working folder, beside the card perhaps: a card is data, not a program.

    Raises:
        UserError: such a module, or one of Python's own.
    """
    package = task.dataset.partition(":")[0].partition(".")[0]
    if not _MODULE_CLASS.fullmatch(task.dataset) or package in sys.stdlib_module_names:
        raise UserError(f"task {task.name!r}: dataset {task.dataset!r}: expected a reader's name or module:Class")
    spec = find_spec(package)
    here = spec is not None and spec.origin is not None and Path(spec.origin).is_relative_to(Path.cwd())
    if here and package not in packages_distributions():
        raise UserError(
            f"task {task.name!r}: dataset {task.dataset!r}: {package} lies in the working folder and is not installed; "
            "if you trust it, type: pip install -e FOLDER"
        )


def checkpoint_folder(root: Path, task: str, model: str) -> Path:
    """Where `harness train MODEL --task TASK` writes by default and `--models MODEL` looks."""
    return root / task / "checkpoints" / model

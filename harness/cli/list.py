"""`harness list`: tasks, models or metrics, each with a line on what it is."""

from __future__ import annotations

import argparse

from harness.cli import EXIT_COMPLETE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the argument of `list`."""
    parser.add_argument("what", choices=("tasks", "models", "metrics"))
    parser.add_argument("--adapter", metavar="NAME=FILE.py:Class", action="append", help="list a model of your own too")


def execute(arguments: argparse.Namespace) -> int:
    """Print the list; the exit code."""
    match arguments.what:
        case "tasks":
            lines = _tasks()
        case "models":
            lines = _models(arguments.adapter or [])
        case _:
            lines = _metrics()
    print("\n".join(lines))
    return EXIT_COMPLETE


def _tasks() -> list[str]:
    from harness.plan.tasks import find_task, task_cards

    tasks = [find_task(name) for name in task_cards()]
    width = max(len(t.name) for t in tasks)
    return [f"{t.name:<{width}}  {len(t.emotions)} emotions  {t.title}" for t in tasks]


def _models(from_files: list[str]) -> list[str]:
    from harness.plan.registry import adapter_registry

    registry = adapter_registry(from_files)
    width = max(len(name) for name in registry.names())
    lines = [f"{name:<{width}}  {_summary(registry.load(name).__doc__)}" for name in registry.names()]
    return [*lines, "", "checkpoints for llava (weights in 10^9, licence):", *_presets()]


def _presets() -> list[str]:
    from harness.adapters.hf_presets import presets

    found = presets()
    width = max(len(p.setting) for p in found)
    return [f"  {p.setting:<{width}}  {p.billions:>5g}  {p.licence}{f' ({p.note})' if p.note else ''}" for p in found]


def _metrics() -> list[str]:
    from harness.plan.registry import metric_registry

    registry = metric_registry()
    width = max(len(name) for name in registry.names())
    return [f"{name:<{width}}  {_summary(registry.load(name).__doc__)}" for name in registry.names()]


def _summary(documentation: str | None) -> str:
    return (documentation or "").strip().partition("\n")[0]

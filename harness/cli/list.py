"""`harness list`: tasks, models or metrics, each with a line on what it is."""

from __future__ import annotations

import argparse

from harness.adapters.cards import CARDS, card_names, read_card
from harness.cli import EXIT_COMPLETE
from harness.plan.registry import adapter_registry, find_task, metric_registry, task_cards


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the argument of `list`."""
    parser.add_argument("what", choices=("tasks", "models", "metrics"))
    parser.add_argument("--adapter", metavar="NAME=FILE.py:Class", action="append", help="list a model of your own too")


def execute(arguments: argparse.Namespace) -> int:
    """Print the list; the exit code."""
    match arguments.what:
        case "tasks":
            tasks = [find_task(name) for name in task_cards()]
            width = max(len(t.name) for t in tasks)
            lines = [f"{t.name:<{width}}  {len(t.emotions)} emotions  {t.title}" for t in tasks]
        case "models":
            adapters = adapter_registry(arguments.adapter or [])
            width = max(len(name) for name in adapters.names())
            lines = []
            for name in adapters.names():
                summary = (adapters.load(name).__doc__ or "").strip().partition("\n")[0]
                lines.append(f"{name:<{width}}  {summary}")
            lines += ["", "by name (weights in 10^9, licence):", *_cards(), "any other: hf:CHECKPOINT, openai:MODEL"]
        case _:
            metrics = metric_registry()
            width = max(len(name) for name in metrics.names())
            lines = [f"{name:<{width}}  {metrics.load(name).description}" for name in metrics.names()]
    print("\n".join(lines))
    return EXIT_COMPLETE


def _cards() -> list[str]:
    cards = [read_card(CARDS / f"{name}.yaml") for name in card_names()]
    rows = []
    for card in cards:
        size, needs = "-" if card.billions is None else f"{card.billions:g}", ", ".join(card.requires)
        rows.append((card.name, size, card.licence or "-", card.checkpoint or card.model, needs and f"needs {needs}"))
    widths = [max(len(str(row[column])) for row in rows) for column in range(5)]
    return ["  " + "  ".join(str(cell).ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]

"""Why runs of a task of the same name do not stand in one leaderboard."""

from __future__ import annotations

from collections.abc import Sequence

from harness.reports.task_view import TaskView


def reasons_apart(view: TaskView, views: Sequence[TaskView]) -> list[str]:
    """A sentence for each other leaderboard of the task of this name: what differs."""
    others = [other for other in views if other.name == view.name and other is not view]
    return [
        f"{_names(other)} ran this task with {' and '.join(_differences(view, other))}: a leaderboard of its own."
        for other in others
    ]


def _names(view: TaskView) -> str:
    return ", ".join(run.name for run in view.runs)


def _differences(view: TaskView, other: TaskView) -> list[str]:
    pairs = {
        "version": (view.entry.get("version"), other.entry.get("version")),
        "split": (view.split, other.split),
        "protocol": (view.entry.get("protocol"), other.entry.get("protocol")),
    }
    found = [f"{name} {theirs}, not {ours}" for name, (ours, theirs) in pairs.items() if ours != theirs]
    if view.emotions != other.emotions:
        found.append("other labels, or in another order")
    return found

"""`harness train text-emotion`: the classifier of emotional alignment, in three strengths."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.score.resources import utterances
from harness.types import Task, UserError


def train_text_emotion(
    task: Task, root: Path, out: Path, settings: Mapping[str, Any], *, seed: int, device: str | None
) -> dict[str, Any]:
    """Train a classifier on a task's training utterances, write it to `out` and return its record.

    Args:
        task: its labels and data.
        root: data root.
        out: folder of the checkpoint.
        settings: `kind=tfidf|lstm|encoder` and the settings of that kind.
        seed: of initialisation and order.
        device: where `lstm` and `encoder` train, None for cuda where there is one.

    Raises:
        UserError: the task has no explanations or no training split at hand, or a setting is wrong.
    """
    from harness.tasks.text_emotion.checkpoint import save, train_classifier

    if not task.explanations:
        raise UserError(f"text-emotion: task {task.name!r} has labels without explanations; there is nothing to read")
    train, val, test = (utterances(task, root, split) for split in ("train", "val", "test"))
    if not train:
        raise UserError(f"text-emotion: no training split at hand; see: harness data check {task.name}")
    trained = train_classifier(task.emotions, train, val, test, settings, seed=seed, device=device)
    save(trained, out)
    return dict(trained.record)

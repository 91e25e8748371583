"""The checks behind `harness doctor` without a run."""

from __future__ import annotations

from pathlib import Path

from harness.check import Finding
from harness.environment import describe_environment
from harness.plan.registry import data_root, find_task, open_reader, task_cards
from harness.tasks.metrics.java import find_java
from harness.types import UserError


def examine_installation(root: str | None) -> list[Finding]:
    """Versions, Java, GPU, and which tasks' data is prepared under the data root."""
    import torch  # noqa: F401 (loaded so that the GPU is seen)

    environment = describe_environment()
    versions = ", ".join(f"{name} {v}" for name, v in environment["packages"].items())
    java = find_java()
    folder = data_root(root)
    findings = [
        Finding(True, f"Python {environment['python']}: {versions}"),
        Finding(True, f"GPU: {environment['gpu'] or 'none, models run on the CPU'}"),
        Finding(
            java is not None,
            f"Java for METEOR and the PTB tokenizer: {java or 'none; type: pip install sevlm-harness[java]'}",
        ),
        Finding(True, f"data root: {folder}"),
    ]
    return findings + [_task_finding(name, folder) for name in task_cards()]


def _task_finding(name: str, root: Path) -> Finding:
    try:
        splits = open_reader(find_task(name), root).splits()
    except UserError as error:
        return Finding(True, f"task {name}: not prepared ({error})")
    return Finding(True, f"task {name}: " + ", ".join(f"{n} {split}" for split, n in splits.items()))

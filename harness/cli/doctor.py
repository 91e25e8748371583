"""`harness doctor`: what this installation can do, or whether a run folder is whole."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.check import Finding
from harness.check.run import examine_run
from harness.cli import EXIT_COMPLETE, EXIT_TOO_MANY_FAILURES, add_data_root
from harness.environment import describe_environment
from harness.plan.registry import data_root, find_task, open_reader, task_cards
from harness.tasks.metrics.java import find_java
from harness.types import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `doctor`."""
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN", help="a run folder to verify")
    add_data_root(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Print findings; exit code 1 when something is wrong."""
    findings = examine_run(arguments.run) if arguments.run else examine_installation(arguments.data_root)
    for finding in findings:
        print(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.text}")
    return EXIT_COMPLETE if all(f.ok for f in findings) else EXIT_TOO_MANY_FAILURES


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
    for name in task_cards():
        try:
            splits = open_reader(find_task(name), folder).splits()
        except UserError as error:
            findings.append(Finding(True, f"task {name}: not prepared ({error})"))
        else:
            sizes = ", ".join(f"{n} {split}" for split, n in splits.items())
            findings.append(Finding(True, f"task {name}: {sizes}"))
    return findings

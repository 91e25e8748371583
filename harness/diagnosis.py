"""The checks behind `harness doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from harness.environment import describe_environment
from harness.store import RowKey, RunFolder
from harness.task_source import data_root, find_task, open_reader, task_cards
from harness.types import UserError


class Finding(NamedTuple):
    """One line of the doctor's."""

    ok: bool
    text: str


def examine_installation(root: str | None) -> list[Finding]:
    """Versions, Java, GPU, and which tasks' data is prepared under the data root."""
    import torch  # noqa: F401 (loaded so that the GPU is seen)

    from harness.tasks.metrics.java import find_java

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


def examine_run(path: Path) -> list[Finding]:
    """Whether a run folder is whole: manifest, snapshot, every outcome readable and complete, scores up to date."""
    folder = RunFolder.open(path)
    manifest = folder.manifest()
    findings = [Finding(True, f"manifest: run of {manifest['created']}, identity {manifest['identity'][:8]}")]
    for record in manifest["tasks"]:
        findings += _examine_task(folder, record["name"])
    scored = (path / "results.json").exists()
    findings.append(Finding(scored, "results.json is there" if scored else f"not scored; type: harness score {path}"))
    return findings


def _examine_task(folder: RunFolder, task: str) -> list[Finding]:
    try:
        ids = {e.id for e in folder.examples(task)}
    except (UserError, OSError) as error:
        return [Finding(False, f"task {task}: examples cannot be read ({error})")]
    rows = folder.rows(task)
    expected = {RowKey(r["model"], r["control"]) for r in folder.manifest()["runs"] if r["task"] == task}
    findings = [Finding(False, f"{task}/{row.stem}: no outcomes") for row in sorted(expected - set(rows), key=str)]
    return findings + [_examine_row(folder, task, row, ids) for row in rows]


def _examine_row(folder: RunFolder, task: str, row: RowKey, ids: set[str]) -> Finding:
    try:
        outcomes = folder.outcomes(task, row)
    except UserError as error:
        return Finding(False, f"{task}/{row.stem}: {error}")
    missing, unknown = len(ids - outcomes.keys()), len(outcomes.keys() - ids)
    return Finding(
        not missing and not unknown,
        f"{task}/{row.stem}: {len(outcomes)} outcomes, {missing} missing, {unknown} unknown",
    )

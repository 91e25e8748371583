"""Turning outcome files made by anybody into a run folder that can be scored and reported."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from harness.manifest import new_manifest, run_record
from harness.model_spec import ModelSpec
from harness.outcome_log import read_outcomes
from harness.plan import Options, Plan, make_plan
from harness.registry import Registry
from harness.store import RowKey, RunFolder, check_name
from harness.task_source import data_root
from harness.types import UserError

SHOWN_IDS = 5


def import_outcomes(
    task: str, files: Sequence[str], out: Path, *, split: str, root: str | None, command: list[str]
) -> RunFolder:
    """Make a run folder from outcome files, after checking their ids against the task.

    Args:
        files: `[NAME=]FILE.jsonl`; the file's stem names the row when NAME is absent.

    Raises:
        UserError: a file is missing or has a wrong line, duplicate or unknown ids, or `out` is in use.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file, expected a folder")
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty; choose another --out")
    sources = dict(_named(file) for file in files)
    if len(sources) != len(files):
        raise UserError("--outcomes: two files share a name; tell them apart as NAME=FILE.jsonl")
    plan = _plan(task, list(sources), split, root)
    ids = {e.id for e in plan.tasks[0].examples}
    for name, path in sources.items():
        _check_ids(path, name, ids)
    return _write(plan, sources, out, command)


def _named(file: str) -> tuple[str, Path]:
    name, equals, path = file.partition("=")
    source = Path(path if equals else file)
    if not source.is_file():
        raise UserError(f"--outcomes {file}: no such file")
    return check_name(name if equals else source.stem, "outcomes name"), source


def _plan(task: str, names: Sequence[str], split: str, root: str | None) -> Plan:
    registry = Registry("model", {"outcomes": "harness.foreign_outcomes:import_outcomes"})
    specs = [ModelSpec(name, "outcomes") for name in names]
    return make_plan([task], specs, registry, Options(data_root(root), split=split))


def _check_ids(path: Path, name: str, ids: set[str]) -> None:
    counts = Counter(example_id for example_id, _ in read_outcomes(path))
    duplicates = sorted(i for i, n in counts.items() if n > 1)
    unknown = sorted(counts.keys() - ids)
    missing = sorted(ids - counts.keys())
    if duplicates:
        raise UserError(f"{path}: {len(duplicates)} ids appear twice or more: {_some(duplicates)}")
    if unknown:
        raise UserError(f"{path}: {len(unknown)} ids are not in this task and split: {_some(unknown)}")
    if missing:
        print(
            f"{name}: {len(missing)} of {len(ids)} examples missing, counted as failed: {_some(missing)}",
            file=sys.stderr,
        )


def _some(ids: Sequence[str]) -> str:
    return ", ".join(json.dumps(i) for i in ids[:SHOWN_IDS]) + (" …" if len(ids) > SHOWN_IDS else "")


def _write(plan: Plan, sources: dict[str, Path], out: Path, command: list[str]) -> RunFolder:
    folder, task = RunFolder(out), plan.tasks[0]
    folder.save_examples(task.task.name, task.examples)
    manifest = new_manifest(plan, command)
    for name, path in sources.items():
        row = RowKey(name)
        target = folder.outcomes_path(task.task.name, row)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        run_record(manifest, task.task.name, row)["source"] = path.name
    folder.save_manifest(manifest)
    return folder

"""Turning outcome files made by anybody into a run folder that can be scored and reported."""

from __future__ import annotations

import filecmp
import json
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from harness.atomic import atomic_write
from harness.plan.manifest import check_resumable, new_manifest, run_record
from harness.plan.models import ModelSpec
from harness.plan.plan import Options, Plan, make_plan
from harness.plan.registry import Registry
from harness.plan.tasks import data_root
from harness.score.rows import checked_outcomes
from harness.store.outcomes import read_outcomes
from harness.store.run_folder import RowKey, RunFolder, check_name
from harness.types import UserError

SHOWN_IDS = 5


def import_outcomes(
    task: str, files: Sequence[str], out: Path, *, split: str, root: str | None, command: list[str]
) -> RunFolder:
    """Make a run folder from outcome files, after checking their ids against the task; or go on with one.

    Args:
        files: `[NAME=]FILE.jsonl`; the file's stem names the row when NAME is absent.

    Raises:
        UserError: a file is missing or has a wrong line, duplicate or unknown ids, or labels of another task, or `out`
            is in use for anything but these outcomes.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file, expected a folder")
    begun = (out / "manifest.json").exists()
    if not begun and out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty; choose another --out")
    sources = dict(_named(file) for file in files)
    if len(sources) != len(files):
        raise UserError("--outcomes: two files share a name; tell them apart as NAME=FILE.jsonl")
    plan = _plan(task, list(sources), split, root)
    asked = plan.tasks[0]
    ids = {e.id for e in asked.examples}
    for name, path in sources.items():
        _check_ids(path, name, ids)
        # before anything is written: else the mended file would meet a folder that holds the wrong one
        checked_outcomes(asked.task, list(asked.examples), RowKey(name), dict(read_outcomes(path)))
    folder = RunFolder(out)
    if begun:
        check_resumable(folder, plan)
    else:
        _begin(folder, plan, sources, command)
    _copy(folder, plan, sources)
    return folder


def _named(file: str) -> tuple[str, Path]:
    # a path may hold an equals sign itself
    name, equals, path = ("", "", file) if Path(file).is_file() else file.partition("=")
    source = Path(path if equals else file)
    if not source.is_file():
        raise UserError(f"--outcomes {file}: no such file")
    return check_name(name if equals else source.stem, "outcomes name"), source


def _plan(task: str, names: Sequence[str], split: str, root: str | None) -> Plan:
    registry = Registry("model", {"outcomes": "harness.store.import_outcomes:import_outcomes"})
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


def _begin(folder: RunFolder, plan: Plan, sources: dict[str, Path], command: list[str]) -> None:
    """Write the manifest: whatever follows can then be repeated by the same command."""
    manifest = new_manifest(plan, command)
    for name, path in sources.items():
        run_record(manifest, plan.tasks[0].task.name, RowKey(name))["source"] = path.name
    folder.save_manifest(manifest)


def _copy(folder: RunFolder, plan: Plan, sources: dict[str, Path]) -> None:
    """Copy examples and outcomes, but for those that an earlier command copied.

    Raises:
        UserError: it copied other outcomes.
    """
    task = plan.tasks[0]
    if not folder.has_examples(task.task.name):
        folder.save_examples(task.task.name, task.examples)
    for name, path in sources.items():
        target = folder.outcomes_path(task.task.name, RowKey(name))
        if not target.exists():
            atomic_write(target, partial(shutil.copyfile, path))
        elif not filecmp.cmp(path, target, shallow=False):
            raise UserError(f"{target} holds other outcomes than {path}; choose another --out")

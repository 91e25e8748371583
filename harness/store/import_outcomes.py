"""Turning predictions made elsewhere into a run folder that can be scored and reported."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.atomic import write_atomically
from harness.plan.models import ModelSpec
from harness.plan.plan import Options, TaskPlan, check_resumable, make_plan, new_manifest, run_record
from harness.plan.registry import Registry, data_root
from harness.store.outcomes import KINDS, named_file, outcome_to_json
from harness.store.prediction_files import Columns, read_predictions
from harness.store.run_folder import RunFolder
from harness.tasks.parser import PARSER_VERSION
from harness.types import Answer, Outcome, RowKey, Unparsed, UserError

SHOWN = 5


def import_outcomes(
    task: str,
    files: Sequence[str],
    out: Path,
    *,
    split: str,
    root: str | None,
    command: list[str],
    columns: Columns | None = None,
    format_name: str | None = None,
    positions: bool = False,
) -> RunFolder:
    """Make a run folder from files of predictions, after checking their ids against the task; or resume one.

    Args:
        files: `[NAME=]FILE`; the file's stem names the row if NAME is absent.
        columns, format_name: how to read them, see `read_predictions`.
        positions: ids are row numbers: 0 is the first example of the split.

    Raises:
        UserError: a file is missing or cannot be read, holds duplicate or unknown ids, or `out` is in use for anything
            but these predictions.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file, expected a folder")
    begun = (out / "manifest.json").exists()
    if not begun and out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty; choose another --out")
    sources = dict(named_file(file, "--outcomes") for file in files)
    if len(sources) != len(files):
        raise UserError("--outcomes: two files share a name; tell them apart as NAME=FILE")
    registry = Registry("model", {"outcomes": "harness.store.import_outcomes:import_outcomes"})
    specs = [ModelSpec(name, "outcomes") for name in sources]
    plan = make_plan([task], specs, registry, Options(data_root(root), split=split))
    asked = plan.tasks[0]
    annotations = {example.id: len(example.annotations) for example in asked.examples}
    texts: dict[str, str] = {}
    for name, path in sources.items():  # all are read before anything is written
        found = read_predictions(path, asked.task, columns, format_name)
        if positions:
            found = _by_position(path, found, [*annotations])
        _check(path, name, found, annotations)
        _report(name, found)
        lines = (json.dumps(outcome_to_json(*pair), ensure_ascii=False, allow_nan=False) + "\n" for pair in found)
        texts[name] = "".join(lines)
    folder = RunFolder(out)
    if begun:
        check_resumable(folder.manifest(), plan, folder.path)
    else:  # the manifest first: whatever follows can then be repeated by the same command
        manifest = new_manifest(plan, command)
        for name, path in sources.items():
            run_record(manifest, asked.task.name, RowKey(name)).update(source=path.name, parser=PARSER_VERSION)
        folder.save_manifest(manifest)
    _write(folder, asked, sources, texts)
    return folder


def _by_position(path: Path, found: Sequence[tuple[str, Outcome]], ids: Sequence[str]) -> list[tuple[str, Outcome]]:
    """Outcomes whose ids are row numbers, under the ids of these rows."""
    placed = []
    for given, outcome in found:
        position = given.removesuffix(".0")  # pandas keeps whole numbers beside empty cells as 5.0
        if not position.isdecimal() or int(position) >= len(ids):
            raise UserError(f"{path}: id {position!r} is no row number from 0 to {len(ids) - 1}")
        placed.append((ids[int(position)], outcome))
    return placed


def _check(path: Path, name: str, found: Sequence[tuple[str, Outcome]], annotations: Mapping[str, int]) -> None:
    """Refuse ids that are unknown or appear twice, and left-out annotations that an example lacks."""
    ids = [*annotations]
    counts = Counter(id_ for id_, _ in found)
    duplicates = [id_ for id_, n in counts.items() if n > 1]
    unknown = sorted(counts.keys() - set(ids))
    missing = [id_ for id_ in ids if id_ not in counts]
    if duplicates:
        raise UserError(f"{path}: {len(duplicates)} ids appear twice or more: {_some(duplicates)}")
    if unknown:
        hint = f"; ids of the task: {_some(ids[:2])}" if len(unknown) == len(counts) else ""
        if hint and all(id_.isdecimal() and int(id_) < len(ids) for id_ in unknown):
            hint += "; if they are row numbers of the split, counted from 0, add --positions"
        raise UserError(f"{path}: {len(unknown)} ids are not in this task and split: {_some(unknown)}{hint}")
    if missing:
        print(
            f"{name}: {len(missing)} of {len(ids)} examples missing, counted as failed: {_some(missing)}",
            file=sys.stderr,
        )
    for id_, outcome in found:
        held_out = outcome.held_out if isinstance(outcome, Answer) else None
        indexes = held_out if isinstance(held_out, tuple) else () if held_out is None else (held_out,)
        if not all(0 <= index < annotations[id_] for index in indexes):
            raise UserError(f"{path}: {id_!r}: held_out {held_out} of {annotations[id_]} annotations")


def _report(name: str, found: Sequence[tuple[str, Outcome]]) -> None:
    """Say what was read unless everything is an answer, with what could not be."""
    kinds = Counter(KINDS[type(outcome)] for _, outcome in found)
    if kinds["answer"] == len(found):
        return
    reasons = Counter(o.reason or "no answer read" for _, o in found if isinstance(o, Unparsed))
    outside = Counter(o.raw for _, o in found if isinstance(o, Unparsed) and o.reason == "label outside the task")
    print(f"{name}: {', '.join(f'{count} {kind}' for kind, count in kinds.items())}", file=sys.stderr)
    for reason, count in reasons.most_common():
        print(f"{name}: {count} unparsed: {reason}", file=sys.stderr)
    if outside:
        shown = ", ".join(f"{json.dumps(label[:40])} {count}" for label, count in outside.most_common(SHOWN))
        print(f"{name}: labels outside the task: {shown}", file=sys.stderr)


def _some(ids: Sequence[str]) -> str:
    return ", ".join(json.dumps(i) for i in ids[:SHOWN]) + (" …" if len(ids) > SHOWN else "")


def _write(folder: RunFolder, task: TaskPlan, sources: Mapping[str, Path], texts: Mapping[str, str]) -> None:
    """Write examples and outcomes, but for those that an earlier command wrote.

    Raises:
        UserError: it wrote other outcomes.
    """
    if not folder.has_examples(task.task.name):
        folder.save_examples(task.task.name, task.examples)
    for name, text in texts.items():
        target = folder.outcomes_path(task.task.name, RowKey(name))
        if not target.exists():
            write_atomically(target, text)
        elif target.read_bytes() != text.encode("utf-8", errors="backslashreplace"):
            raise UserError(f"{target} holds other outcomes than {sources[name]}; choose another --out")

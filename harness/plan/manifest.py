"""The manifest: what was run, with what, where; and the comparison that decides whether a folder may be resumed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.environment import __version__, describe_environment
from harness.plan.plan import Plan, TaskPlan, differences, identity_hash
from harness.redact import redact
from harness.types import SCHEMA, RowKey, Task, UserError

DECIDES_ANSWERS = ("dataset", "options", "emotions", "ratings", "explanations", "label_maps")
"""Keys of a card that decide what models are asked and may answer; others may change while a run is resumed."""


def new_manifest(plan: Plan, command: list[str]) -> dict[str, Any]:
    """A manifest for a run that starts now."""
    identity = plan.identity()
    manifest: dict[str, Any] = redact(
        {
            "schema": SCHEMA,
            "identity": identity_hash(identity),
            "identity_of": identity,
            "version": __version__,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": command,
            "data_root": str(plan.options.data_root),
            "tasks": [task_record(t) for t in plan.tasks],
            "models": [
                {
                    "model": m.name,
                    "adapter": m.adapter,
                    "settings": dict(m.settings),
                    "prompt": m.prompt,
                    "group": m.group,
                    "kind": getattr(plan.registry.load(m.adapter), "kind", "model"),
                }
                for m in plan.models
            ],
            "runs": [],
            "environment": describe_environment(),
        }
    )
    return manifest


def task_record(plan: TaskPlan) -> dict[str, Any]:
    """A task's card, data fingerprint and selection, as plain values."""
    return {
        **task_to_json(plan.task),
        "split": plan.split,
        "examples": len(plan.examples),
        "available": plan.examples.available,
        "notes": plan.reader.notes(),
        "facts": [dataclasses.astuple(row) for row in plan.reader.facts],
        "preprocessing": plan.reader.preprocessing,
        "fingerprint": plan.reader.fingerprint(),
    }


def task_to_json(task: Task) -> dict[str, Any]:
    """A task's fields as plain values."""
    place = {"source": task.source.name, "card_folder": str(task.source.absolute().parent)} if task.source else {}
    return dataclasses.asdict(task) | {"source": None} | place


def task_from_json(record: Mapping[str, Any]) -> Task:
    """The inverse of `task_to_json`; unknown keys are ignored."""
    known = {f.name for f in dataclasses.fields(Task)} - {"source"}
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items() if k in known}
    if record.get("card_folder"):
        fields["source"] = Path(record["card_folder"]) / record["source"]
    return Task(**fields)


def check_resumable(manifest: Mapping[str, Any], plan: Plan, folder: Path) -> None:
    """Refuse to continue the run of a manifest with another plan.

    Raises:
        UserError: another identity, or the data behind a task has changed; the message names the differences.
    """
    wanted = redact(plan.identity())
    found = differences(manifest.get("identity_of"), wanted)
    data = {t["name"]: t.get("fingerprint") for t in manifest["tasks"]}
    found += differences(data, {t.task.name: t.reader.fingerprint() for t in plan.tasks}, "data")
    for record, task in zip(manifest["tasks"], plan.tasks, strict=False):  # of equal names: the identity holds them
        known = {key: record[key] for key in DECIDES_ANSWERS if key in record}
        now = json.loads(json.dumps(redact(task_to_json(task.task))))
        found += differences(known, {key: now[key] for key in known}, f"card.{task.task.name}")
    if found:
        shown = "; ".join(found[:4]) + (f" (+{len(found) - 4} more)" if len(found) > 4 else "")
        raise UserError(f"{folder} holds another run: {shown}. Choose another --out, or leave --out away")


def note_environment(manifest: dict[str, Any]) -> None:
    """Note under `environments` when a run is continued elsewhere: versions, processor or git state that differ."""
    now = describe_environment()
    seen = [manifest["environment"], *(later["environment"] for later in manifest.get("environments", []))]
    changed = differences({**seen[-1], "gpu": None}, {**now, "gpu": None})
    if changed:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        later = {"since": since, "changed": changed, "environment": redact(now)}
        manifest["environments"] = [*manifest.get("environments", []), later]


def run_record(manifest: dict[str, Any], task: str, row: RowKey) -> dict[str, Any]:
    """The mutable record of a (task, model, control) row in the manifest, made when absent."""
    for record in manifest["runs"]:
        if (record["task"], record["model"], record["control"]) == (task, row.model, row.control):
            found: dict[str, Any] = record
            return found
    record = {"task": task, "model": row.model, "control": row.control}
    manifest["runs"].append(record)
    return record


def check_fingerprint(record: Mapping[str, Any], fingerprint: Mapping[str, Any], folder: Path) -> None:
    """Refuse to add answers of a changed model to a row.

    Raises:
        UserError: the model's fingerprint differs from the recorded one.
    """
    if "fingerprint" not in record:
        return
    found = differences(record["fingerprint"], redact(fingerprint))
    if found:
        raise UserError(
            f"model {record['model']!r} has changed since {folder} was begun: {'; '.join(found[:4])}. "
            f"Choose another --out for the changed model"
        )

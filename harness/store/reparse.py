"""Reading the recorded texts of a run again, with the parser of this version."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from harness.atomic import write_atomically
from harness.store.outcomes import outcome_to_json
from harness.store.run_folder import RunFolder
from harness.tasks.parser import PARSER_VERSION, parse_answer
from harness.tasks.parser.ratings import read_ratings
from harness.types import Answer, Failed, Outcome, Refusal, RowKey, Task, UserError, task_from_json


def reparse_run(folder: RunFolder) -> None:
    """Read the texts of all rows again whose models are read by the parser; the caller holds the folder's lock.

    The manifest's record of a row then names the version under `fingerprint` and each reading under `reparsed`, so that
    the run can be resumed by this version.

    Raises:
        UserError: no row was read by the parser.
    """
    manifest = folder.manifest()
    tasks = {record["name"]: task_from_json(record) for record in manifest["tasks"]}
    records = [record for record in manifest["runs"] if _version(record) is not None]
    if not records:
        raise UserError(f"--reparse: no row of {folder.path} was read from text; outcomes of files are imported again")
    elsewhere = {model["model"] for model in manifest.get("identity_of", {}).get("models", []) if "trained_on" in model}
    for record in records:
        name = f"{record['task']}/{record['model']}"
        if record["model"] in elsewhere:
            print(f"{name}: not read again, because its labels are those of another task", file=sys.stderr)
            continue
        task, row = tasks[record["task"]], RowKey(record["model"], record["control"])
        recorded = list(folder.each_outcome(task.name, row))
        again = [(id_, reparsed(outcome, task)) for id_, outcome in recorded]
        changed = sum(one != other for one, other in zip(recorded, again, strict=True))
        if changed:
            lines = (json.dumps(outcome_to_json(*pair), ensure_ascii=False, allow_nan=False) + "\n" for pair in again)
            write_atomically(folder.outcomes_path(task.name, row), "".join(lines))
        before, now = _version(record), datetime.now(UTC).isoformat(timespec="seconds")
        what = f"{changed} of {len(recorded)} outcomes changed"
        print(f"{name}: read again by parser {PARSER_VERSION} (was {before}), {what}")
        record["fingerprint"] |= {"parser": PARSER_VERSION}
        record["reparsed"] = [*record.get("reparsed", []), {"from": before, "to": PARSER_VERSION, "at": now}]
    folder.save_manifest(manifest)


def _version(record: Mapping[str, Any]) -> str | None:
    fingerprint = record.get("fingerprint")
    version = fingerprint.get("parser") if isinstance(fingerprint, dict) else None
    return version if isinstance(version, str) else None


def reparsed(outcome: Outcome, task: Task) -> Outcome:
    """What the parser reads now from an outcome's text.

    What the endpoint itself called a refusal or a failure stays one. Label probabilities are those of the place where
    the label was read, so they stay only with the same label.
    """
    is_cut = isinstance(outcome, Failed) and outcome.error_type == "truncated"
    if not outcome.raw or (isinstance(outcome, Failed) and not is_cut and outcome.error_type != "no-answer"):
        return outcome
    is_cut |= isinstance(outcome, Answer) and outcome.truncated
    found = parse_answer(
        outcome.raw,
        task.emotions,
        outcome.usage,
        truncated=is_cut,
        explained=task.explanations,
        reasoning="" if outcome.reasoning in outcome.raw else outcome.reasoning,
    )
    if not isinstance(found, Answer):
        return outcome if isinstance(outcome, Refusal) else found
    ratings = read_ratings(found.raw, task.ratings) or None if task.ratings else None
    is_same = isinstance(outcome, Answer) and outcome.emotion == found.emotion
    probabilities = outcome.emotion_probs if isinstance(outcome, Answer) and is_same else None
    return dataclasses.replace(found, ratings=ratings, emotion_probs=probabilities)

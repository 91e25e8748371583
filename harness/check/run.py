"""`harness doctor RUN`: every line of a run folder against its manifest, every file against its checksum."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness.check import Finding
from harness.plan.plan import identity_hash
from harness.store.outcomes import outcome_from_json
from harness.store.run_folder import RunFolder, changes, example_from_json
from harness.types import Failed, RowKey, UserError

SHOWN = 5


def examine_run(path: Path) -> list[Finding]:
    """Whether a run folder is whole: manifest, examples, every outcome, checksums, scores and report up to date.

    Raises:
        UserError: it is no run folder, or its manifest cannot be read.
    """
    folder = RunFolder.open(path)
    manifest = folder.manifest()
    identity = str(manifest.get("identity"))
    if identity_hash(manifest.get("identity_of") or {}) == identity:
        findings = [Finding(True, f"manifest: run of {manifest.get('created')}, identity {identity[:8]}")]
    else:
        findings = [Finding(False, "manifest: the identity is not that of its tasks and models; it was edited")]
    if (path / ".lock").exists():
        try:
            with FileLock(path / ".lock", timeout=0):
                pass
        except Timeout:
            findings.append(Finding(False, "a harness process works in this folder now; wait for it and look again"))
        except OSError:
            pass  # a folder that cannot be written to cannot be worked in either
    for record in manifest.get("tasks", []):
        findings += _examine_task(folder, manifest, record)
    try:
        changed = [Finding(False, change) for change in changes(path)]
        findings += changed or [Finding(True, "checksums: every file is as the last command left it")]
    except UserError as error:
        findings.append(Finding(False, str(error)))
    try:
        folder.results()
        current = folder.results_are_current()
        stale = f"results.json is older than what it was made from; type: harness score {path}"
        findings.append(Finding(current, "results.json is up to date" if current else stale))
    except UserError as error:
        findings.append(Finding(False, str(error)))
    there = (path / "report" / "index.html").is_file()
    report = "report/index.html is there" if there else f"no report; type: harness report {path}"
    return [*findings, Finding(True, report)]


def _examine_task(folder: RunFolder, manifest: dict[str, Any], record: dict[str, Any]) -> list[Finding]:
    """Examples of a task, and the outcomes of each of its rows."""
    task = str(record["name"])
    path = folder.path / "examples" / f"{task}.jsonl"
    if not path.is_file():
        return [Finding(False, f"task {task}: {path.name} is gone; outcomes cannot be scored without it")]
    ids, problems = _scan(path, "examples", lambda line: (example_from_json(line).id, None))
    if record.get("examples") != len(ids):
        problems.append(f"the manifest says {record.get('examples')}")
    findings = [_finding(f"task {task}: {len(ids)} examples", problems)]
    rows = set(folder.rows(task))
    expected = {RowKey(r["model"], r["control"]) for r in manifest.get("runs", []) if r["task"] == task}
    findings += [Finding(False, f"{task}/{row.stem}: no outcomes") for row in sorted(expected - rows, key=str)]
    for row in sorted(rows, key=str):
        answered, problems = _scan(folder.outcomes_path(task, row), "outcomes", outcome_from_json)
        for group, what in ((ids.keys() - answered.keys(), "missing"), (answered.keys() - ids.keys(), "unknown")):
            problems += [f"{len(group)} {what} ({_some(group)})"] if group else []
        findings.append(_finding(f"{task}/{row.stem}: {len(answered)} outcomes", problems))
    return findings


def _scan(
    path: Path, what: str, read: Callable[[dict[str, Any]], tuple[str, object]]
) -> tuple[Counter[str], list[str]]:
    """Look at every line of a JSONL file, however many are wrong.

    Args:
        what: what the lines hold.
        read: gives the id of a line, and what the line says about it.

    Returns:
        Id -> how often it stands in a line that counts (a failed answer that was asked again does not); what is wrong.
    """
    ids: Counter[str] = Counter()
    corrupt: list[str] = []
    torn = 0  # bytes of an unfinished last line
    with path.open("rb") as file:
        for number, data in enumerate(file, start=1):
            try:
                example_id, found = read(json.loads(data.decode("utf-8")))
                ids[example_id] += not isinstance(found, Failed)
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                if data.endswith(b"\n"):
                    corrupt.append(f"line {number} is corrupt ({type(error).__name__}: {str(error)[:80]})")
                else:
                    torn = len(data)
    problems = corrupt[:SHOWN]
    if len(corrupt) > SHOWN:
        problems.append(f"{len(corrupt) - SHOWN} more lines are corrupt")
    twice = [example_id for example_id, count in ids.items() if count > 1]
    if twice:
        problems.append(f"{len(twice)} {what} stand there twice or more ({_some(twice)})")
    if torn:
        problems.append(f"the last line is unfinished ({torn} bytes); repeating the command cuts it off")
    return ids, problems


def _some(ids: Any) -> str:
    shown = sorted(ids)[:SHOWN]
    return ", ".join(json.dumps(i, ensure_ascii=False) for i in shown) + (", …" if len(ids) > SHOWN else "")


def _finding(text: str, problems: list[str]) -> Finding:
    return Finding(not problems, "; ".join([text, *problems]))

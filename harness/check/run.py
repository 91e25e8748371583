"""`harness doctor RUN`: every line of a run folder against its manifest, every file against its checksum."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness.check import Finding
from harness.plan.plan import identity_hash
from harness.store.outcomes import outcome_from_json
from harness.store.run_folder import RunFolder, changes, example_from_json
from harness.types import Failed, RowKey, UserError

SHOWN = 5


@dataclass
class Lines:
    """What a JSONL file holds.

    Attributes:
        ids: id -> how often it stands in a line that counts (a failed answer that was asked again does not).
        corrupt: line number -> what is wrong with it.
        torn: bytes of an unfinished last line.
    """

    ids: Counter[str] = field(default_factory=Counter)
    corrupt: dict[int, str] = field(default_factory=dict)
    torn: int = 0


def examine_run(path: Path) -> list[Finding]:
    """Whether a run folder is whole: manifest, examples, every outcome, checksums, scores and report up to date.

    Raises:
        UserError: it is no run folder, or its manifest cannot be read.
    """
    folder = RunFolder.open(path)
    manifest = folder.manifest()
    findings = [_manifest_finding(manifest), *_lock_findings(path)]
    for record in manifest.get("tasks", []):
        findings += _examine_task(folder, manifest, record)
    findings += _checksum_findings(path)
    return [*findings, _results_finding(folder), _report_finding(path)]


def _manifest_finding(manifest: dict[str, Any]) -> Finding:
    identity = str(manifest.get("identity"))
    if identity_hash(manifest.get("identity_of") or {}) != identity:
        return Finding(False, "manifest: the identity is not that of its tasks and models; it was edited")
    return Finding(True, f"manifest: run of {manifest.get('created')}, identity {identity[:8]}")


def _lock_findings(path: Path) -> list[Finding]:
    if not (path / ".lock").exists():
        return []
    try:
        with FileLock(path / ".lock", timeout=0):
            return []
    except Timeout:
        return [Finding(False, "a harness process works in this folder now; wait for it and look again")]
    except OSError:
        return []  # a folder that cannot be written to cannot be worked in either


def _examine_task(folder: RunFolder, manifest: dict[str, Any], record: dict[str, Any]) -> list[Finding]:
    task = str(record["name"])
    path = folder.path / "examples" / f"{task}.jsonl"
    if not path.is_file():
        return [Finding(False, f"task {task}: {path.name} is gone; outcomes cannot be scored without it")]
    found = _scan(path, lambda line: (example_from_json(line).id, True))
    problems = _problems(found, "examples")
    if record.get("examples") != len(found.ids):
        problems.append(f"the manifest says {record.get('examples')}")
    findings = [_finding(f"task {task}: {len(found.ids)} examples", problems)]
    rows = set(folder.rows(task))
    expected = {RowKey(r["model"], r["control"]) for r in manifest.get("runs", []) if r["task"] == task}
    findings += [Finding(False, f"{task}/{row.stem}: no outcomes") for row in sorted(expected - rows, key=str)]
    return findings + [_examine_row(folder, task, row, found.ids) for row in sorted(rows, key=str)]


def _examine_row(folder: RunFolder, task: str, row: RowKey, ids: Counter[str]) -> Finding:
    found = _scan(folder.outcomes_path(task, row), _outcome)
    problems = _problems(found, "outcomes")
    missing, unknown = ids.keys() - found.ids.keys(), found.ids.keys() - ids.keys()
    problems += [
        f"{len(group)} {what} ({_some(group)})" for what, group in (("missing", missing), ("unknown", unknown)) if group
    ]
    return _finding(f"{task}/{row.stem}: {len(found.ids)} outcomes", problems)


def _outcome(line: dict[str, Any]) -> tuple[str, bool]:
    example_id, outcome = outcome_from_json(line)
    return example_id, not isinstance(outcome, Failed)


def _scan(path: Path, read: Callable[[dict[str, Any]], tuple[str, bool]]) -> Lines:
    """Look at every line, however many are wrong; `read` gives the id, and whether another line would double it."""
    lines = Lines()
    with path.open("rb") as file:
        for number, data in enumerate(file, start=1):
            try:
                example_id, counts = read(json.loads(data.decode("utf-8")))
                lines.ids[example_id] += counts
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                if data.endswith(b"\n"):
                    lines.corrupt[number] = f"{type(error).__name__}: {str(error)[:80]}"
                else:
                    lines.torn = len(data)
    return lines


def _problems(found: Lines, what: str) -> list[str]:
    problems = [f"line {number} is corrupt ({why})" for number, why in list(found.corrupt.items())[:SHOWN]]
    if len(found.corrupt) > SHOWN:
        problems.append(f"{len(found.corrupt) - SHOWN} more lines are corrupt")
    twice = [example_id for example_id, count in found.ids.items() if count > 1]
    if twice:
        problems.append(f"{len(twice)} {what} stand there twice or more ({_some(twice)})")
    if found.torn:
        problems.append(f"the last line is unfinished ({found.torn} bytes); repeating the command cuts it off")
    return problems


def _some(ids: Any) -> str:
    shown = sorted(ids)[:SHOWN]
    return ", ".join(json.dumps(i, ensure_ascii=False) for i in shown) + (", …" if len(ids) > SHOWN else "")


def _finding(text: str, problems: list[str]) -> Finding:
    return Finding(not problems, "; ".join([text, *problems]))


def _checksum_findings(path: Path) -> Iterator[Finding]:
    try:
        found = list(changes(path))
    except UserError as error:
        yield Finding(False, str(error))
        return
    yield from (Finding(False, change) for change in found)
    if not found:
        yield Finding(True, "checksums: every file is as the last command left it")


def _results_finding(folder: RunFolder) -> Finding:
    type_this = f"type: harness score {folder.path}"
    try:
        folder.results()
    except UserError as error:
        return Finding(False, str(error))
    if folder.results_are_current():
        return Finding(True, "results.json is up to date")
    return Finding(False, f"results.json is older than what it was made from; {type_this}")


def _report_finding(path: Path) -> Finding:
    there = (path / "report" / "index.html").is_file()
    return Finding(True, "report/index.html is there" if there else f"no report; type: harness report {path}")

"""The run folder: manifest, example snapshots, append-only outcomes, results, report.

    RUN/manifest.json                 what was run, with what, where (secrets redacted)
    RUN/examples/<task>.jsonl         the examples as they were, references included
    RUN/outcomes/<task>/<model>.jsonl one line per example, appended as it is answered
    RUN/requests/<task>/<model>.log   one byte per request to an endpoint, appended before it is sent
    RUN/results.json                  scores (schema 1)
    RUN/report/index.html             what people read
    RUN/checksums.json                of all of these, as the last command that ended left them

A control's outcomes lie beside the model's as `<model>@<control>.jsonl`. Whole files are written to a temporary
neighbour and renamed, so that they are either old or new; outcomes are appended with one O_APPEND write each.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness.atomic import to_json as to_json
from harness.atomic import write_atomically
from harness.store.outcomes import OutcomeLog, RequestLog, cut_torn_line, json_lines, read_outcomes
from harness.types import SCHEMA as SCHEMA
from harness.types import Annotation, Example, Outcome, UserError
from harness.types import RowKey as RowKey
from harness.types import check_name as check_name

_LISTS: dict[str, dict[str, tuple[str, ...]]] = {
    "manifest.json": {"tasks": ("name",), "models": ("model",), "runs": ("task", "model", "control")},
    "results.json": {
        "cells": ("task", "model", "control", "metric", "n", "references"),
        "coverage": ("task", "model", "control", "examples", "answered", "refused", "unparsed", "failed"),
        "confusion": ("task", "model", "labels", "counts"),
        "models": ("model",),
        "comparisons": ("task", "metric", "emotion", "a", "b", "difference", "low", "high", "p", "p_holm", "n"),
    },
}
"""What must be in a file for anything to be made of it: lists of objects, and the keys of each object."""
_OTHERS: dict[str, dict[str, tuple[type, type]]] = {
    "manifest.json": {
        **dict.fromkeys(("identity_of", "environment", "scoring"), (dict, object)),
        "command": (list, object),
    },
    "results.json": {
        **dict.fromkeys(("manifest", "programs"), (dict, object)),
        **dict.fromkeys(("calibration", "headline", "differences", "planes", "classifiers", "groups"), (list, dict)),
        "metrics": (dict, dict),
        "headlines": (list, str),
    },
}
"""What may be in a file, and not in those of earlier versions: kind of each value, and of what it holds."""
_KIND_OF_ADAPTER = {"human": "person", "crowd": "person", "majority": "baseline", "nearest": "baseline"}
"""Kinds of adapters of runs whose manifest does not say them."""


def adapter_kind(model: Mapping[str, Any]) -> str:
    """`person`, `baseline` or `model`: what an entry of the manifest's `models` answers with."""
    return str(model.get("kind") or _KIND_OF_ADAPTER.get(str(model.get("adapter") or model.get("model")), "model"))


@dataclass(frozen=True)
class RunFolder:
    """Access to one run's files.

    Attributes:
        path: the folder (created by `save_manifest`).
    """

    path: Path

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open an existing run.

        Raises:
            UserError: the folder is not a run folder.
        """
        if not (path / "manifest.json").is_file():
            raise UserError(f"{path}: not a run folder (no manifest.json); make one with: harness run")
        return cls(path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of the folder (the operating system frees the lock of a dead process).

        Raises:
            UserError: another process works in the folder.
        """
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise UserError(f"{self.path}: another harness process works in this run folder; wait for it") from None
        try:
            yield
        finally:
            lock.release()

    # ------------------------------------------------------------------ manifest, results

    def manifest(self) -> dict[str, Any]:
        """Read manifest.json."""
        return self._read_json("manifest.json")

    def save_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Write manifest.json atomically."""
        write_atomically(self.path / "manifest.json", to_json(manifest))

    def results(self) -> dict[str, Any]:
        """Read results.json.

        Raises:
            UserError: not scored yet.
        """
        if not (self.path / "results.json").is_file():
            raise UserError(f"{self.path}: not scored yet; type: harness score {self.path}")
        return self._read_json("results.json")

    def save_results(self, results: Mapping[str, Any]) -> None:
        """Write results.json atomically."""
        write_atomically(self.path / "results.json", to_json(results))

    def results_are_current(self) -> bool:
        """True when results.json is newer than everything it was made from (make's rule)."""
        results = self.path / "results.json"
        sources = [self.path / "manifest.json", *self.path.glob("examples/*"), *self.path.glob("outcomes/*/*")]
        return results.is_file() and all(results.stat().st_mtime_ns > s.stat().st_mtime_ns for s in sources)

    def _read_json(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{path}: cannot be read ({error})") from error
        if not isinstance(value, dict) or value.get("schema") != SCHEMA:
            found = value.get("schema") if isinstance(value, dict) else type(value).__name__
            raise UserError(f"{path}: expected schema {SCHEMA}, got {found}")
        for key, needed in _LISTS[name].items():
            entries = value.get(key)
            if not isinstance(entries, list) or not all(isinstance(e, dict) and e.keys() >= {*needed} for e in entries):
                objects = f"objects with {', '.join(needed)}" if needed else "objects"
                raise UserError(f"{path}: key {key!r} must be a list of {objects}; the file is not as harness wrote it")
        for key, (kind, of) in _OTHERS[name].items():
            found = value.get(key, kind())
            held = found.values() if isinstance(found, dict) else found
            if not isinstance(found, kind) or not all(isinstance(one, of) for one in held):
                what = "an object" if kind is dict else "a list"
                raise UserError(f"{path}: key {key!r} must be {what}; the file is not as harness wrote it")
        return value

    # ------------------------------------------------------------------ examples

    def save_examples(self, task: str, examples: Iterable[Example]) -> None:
        """Snapshot the examples of a task, so that scoring and reporting need nothing but this folder."""
        lines = (json.dumps(example_to_json(e), ensure_ascii=False) + "\n" for e in examples)
        write_atomically(self._examples_path(task), lines)

    def examples(self, task: str) -> Iterator[Example]:
        """Stream the snapshot of a task's examples, in the order they were run."""
        path = self._examples_path(task)
        for number, line in json_lines(path):
            try:
                yield example_from_json(line)
            except (KeyError, TypeError, ValueError) as error:
                raise UserError(f"{path}:{number}: not an example ({error})") from error

    def has_examples(self, task: str) -> bool:
        """True when a snapshot of this task exists."""
        return self._examples_path(task).is_file()

    def _examples_path(self, task: str) -> Path:
        return self.path / "examples" / f"{check_name(task, 'task')}.jsonl"

    # ------------------------------------------------------------------ outcomes

    def outcomes_path(self, task: str, row: RowKey) -> Path:
        """Where the outcomes of a row lie."""
        check_name(row.model, "model")
        return self.path / "outcomes" / check_name(task, "task") / f"{row.stem}.jsonl"

    def outcomes(self, task: str, row: RowKey) -> dict[str, Outcome]:
        """Read a row's outcomes; a retried example's last line counts."""
        return dict(self.each_outcome(task, row))

    def each_outcome(self, task: str, row: RowKey) -> Iterator[tuple[str, Outcome]]:
        """Stream a row's outcomes as they were recorded: a retried example comes again."""
        path = self.outcomes_path(task, row)
        return read_outcomes(path) if path.exists() else iter(())

    def open_log(self, task: str, row: RowKey) -> OutcomeLog:
        """Open a row's outcomes for appending, cutting off a line that a crash left unfinished."""
        path = self.outcomes_path(task, row)
        if path.exists():
            cut_torn_line(path)
        return OutcomeLog(path)

    def open_requests(self, task: str, row: RowKey) -> RequestLog:
        """Open the count of a row's requests."""
        return RequestLog(self._requests_path(task, row))

    def requests(self, task: str, row: RowKey) -> int:
        """How many requests were begun for a row."""
        path = self._requests_path(task, row)
        return path.stat().st_size if path.exists() else 0

    def requests_without_outcome(self, task: str, row: RowKey) -> int:
        """How many of a row's requests were begun by a command that did not live to record what came of them."""
        begun = self.requests(task, row)
        ended = sum(outcome.usage.attempts or 0 for _, outcome in self.each_outcome(task, row)) if begun else 0
        return max(0, begun - ended)

    def _requests_path(self, task: str, row: RowKey) -> Path:
        return self.path / "requests" / task / f"{row.stem}.log"

    def rows(self, task: str) -> list[RowKey]:
        """The rows of a task that have outcomes, in the manifest's order of models."""
        folder = self.path / "outcomes" / task
        found = {RowKey.from_stem(p.stem) for p in folder.glob("*.jsonl")}
        order = [m["model"] for m in self.manifest().get("models", [])]
        rank = {name: i for i, name in enumerate(order)}
        return sorted(found, key=lambda r: (rank.get(r.model, len(rank)), r.model, r.control or ""))


class StoredExamples:
    """The examples of a run's snapshot, read anew each time they are iterated over."""

    def __init__(self, folder: RunFolder, task: str) -> None:
        self._folder, self._task = folder, task

    def __iter__(self) -> Iterator[Example]:
        return self._folder.examples(self._task)


def example_to_json(example: Example) -> dict[str, Any]:
    """One line of an example snapshot: the examples file's keys plus the full histogram."""
    return {
        "id": example.id,
        "image": str(example.image),
        "split": example.split,
        "annotations": [{"emotion": a.emotion, "explanation": a.explanation} for a in example.annotations],
        "emotion_histogram": dict(example.emotion_histogram),
        "meta": dict(example.meta),
        "ratings": dict(example.ratings),
        "context": example.context,
        **({"statements": [[s.emotion, s.explanation] for s in example.statements]} if example.statements else {}),
    }


def example_from_json(line: Mapping[str, Any]) -> Example:
    """The inverse of `example_to_json`."""
    return Example(
        id=line["id"],
        image=Path(line["image"]),
        annotations=tuple(Annotation(a["emotion"], a["explanation"]) for a in line["annotations"]),
        emotion_histogram={str(k): int(v) for k, v in line["emotion_histogram"].items()},
        split=line["split"],
        meta={str(k): str(v) for k, v in line.get("meta", {}).items()},
        ratings={str(k): float(v) for k, v in line.get("ratings", {}).items()},
        context=line.get("context", ""),
        statements=tuple(Annotation(emotion, text) for emotion, text in line.get("statements", ())),
    )


# ------------------------------------------- checksums: what changed since a command ended can be said

CHECKSUMS = "checksums.json"
_SEALED = ("manifest.json", "results.json", "examples/*", "outcomes/*/*", "report/*", "report/*/*")
_BLOCK = 1 << 20


def write_checksums(run: Path) -> None:
    """Write size and SHA-256 of every file of a run, once a command has ended."""
    found = {str(path.relative_to(run)): path for path in _files(run)}
    files = {name: {"bytes": path.stat().st_size, "sha256": _digest(path)} for name, path in found.items()}
    write_atomically(run / CHECKSUMS, to_json({"schema": SCHEMA, "files": files}))


def changes(run: Path) -> Iterator[str]:
    """What differs from the checksums, a sentence each; outcomes that were only appended since are no difference.

    Raises:
        UserError: there are no checksums, or they cannot be read.
    """
    path = run / CHECKSUMS
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))["files"]
        sealed = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in recorded.items()}
    except FileNotFoundError:
        raise UserError(f"{path}: no checksums; the command that made this run never ended: repeat it") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path}: cannot be read ({type(error).__name__}); repeat the command to write it anew"
        ) from None
    present = {str(file.relative_to(run)): file for file in _files(run)}
    for name, (size, digest) in sealed.items():
        if name not in present:
            yield f"{name}: is gone"
        elif present[name].stat().st_size < size:
            yield f"{name}: is shorter than it was: {present[name].stat().st_size} of {size} bytes"
        elif _digest(present[name], size if name.startswith("outcomes/") else None) != digest:
            yield f"{name}: is not what the last command left"
    yield from (f"{name}: appeared since the last command ended" for name in sorted(present.keys() - sealed.keys()))


def _files(run: Path) -> list[Path]:
    found = {path for pattern in _SEALED for path in run.glob(pattern) if path.is_file()}
    return sorted(path for path in found if not path.name.startswith("."))


def _digest(path: Path, first: int | None = None) -> str:
    """SHA-256 of a file, or of its first bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        left = path.stat().st_size if first is None else first
        while left > 0 and (data := file.read(min(_BLOCK, left))):
            digest.update(data)
            left -= len(data)
    return digest.hexdigest()

"""How the numbers came about: what the data hold, prompts verbatim, metric signatures, manifests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.reports.numbers import MetricInfo, grouped, number_or_none
from harness.reports.view import Run, TaskView
from harness.score.statistics import wilson


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as sent (or its template), and the rows that got it."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Method:
    """A metric, what it measures, and the signatures under which it was computed here."""

    info: MetricInfo
    signatures: tuple[str, ...]
    unavailable: tuple[str, ...]


def prompts(view: TaskView) -> list[Prompt]:
    """Rendered prompts with the rows that got them; the task's templates if no rendered prompt is recorded."""
    sent: dict[str, list[str]] = {}
    for run in view.runs:
        for record in run.manifest.get("runs", ()):
            row = view.row(run.index, record.get("model", ""), record.get("control"))
            if row is None or row.kind == "reference" or record.get("task") != view.name:
                continue
            if record.get("prompt"):
                sent.setdefault(str(record["prompt"]), []).append(row.label)
    if sent:
        return [Prompt(f"Sent to {', '.join(rows)}", text) for text, rows in sent.items()]
    templates: Mapping[str, str] = view.entry.get("prompts") or {}
    return [Prompt(f"Template “{name}”", str(text)) for name, text in templates.items()]


def counted(view: TaskView) -> list[tuple[str, str, str]]:
    """What was counted in the task's data when it was prepared or first read: what, how many, a remark."""
    return [(str(what), grouped(int(number)), str(note)) for what, number, note in view.entry.get("facts") or ()]


def methods(view: TaskView) -> list[Method]:
    """Every metric of the task, in the order of the leaderboard."""
    signatures: dict[str, dict[str, None]] = {}
    reasons: dict[str, dict[str, None]] = {}
    for key, cell in view.cells.items():
        if cell.get("signature"):
            signatures.setdefault(key.metric, {})[str(cell["signature"])] = None
        if cell.get("unavailable"):
            reasons.setdefault(key.metric, {})[str(cell["unavailable"])] = None
    return [
        Method(info, tuple(signatures.get(info.name, ())), tuple(reasons.get(info.name, ())))
        for info in view.infos(view.metrics())
    ]


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run folder as the methods section describes it; `facts` are label and value.

    `classifiers` has a sentence on each text-emotion classifier that was used, its own accuracy included.
    """

    name: str
    facts: tuple[tuple[str, str], ...]
    classifiers: tuple[str, ...]
    manifest: str
    results_file: str


def run_records(runs: list[Run]) -> list[RunRecord]:
    """All merged runs; `results_file` names the copy of results.json that lies beside the page."""
    records = []
    for run in runs:
        environment = run.manifest.get("environment") or {}
        git = environment.get("git") or {}
        commit = (
            f"{git['commit']}{' with uncommitted changes' if git.get('dirty') else ''}" if git.get("commit") else ""
        )
        packages = environment.get("packages") or {}
        # programs beside Python that scored: versions and digests of their files
        programs = run.results.get("programs") or {}
        facts = (
            ("Made", run.manifest.get("created")),
            ("Command", " ".join(str(word) for word in run.manifest.get("command") or ())),
            ("Harness", run.manifest.get("version")),
            ("Identity", run.manifest.get("identity")),
            ("Commit", commit),
            ("Python", environment.get("python")),
            ("Platform", environment.get("platform")),
            ("GPU", environment.get("gpu")),
            ("From the response cache", _by_row(run.manifest, "cached")),
            ("Requests sent", _by_row(run.manifest, "requests")),
            ("Requests sent again after a stop, maybe billed twice", _by_row(run.manifest, "requests_without_outcome")),
            ("Packages", ", ".join(f"{name} {version}" for name, version in packages.items())),
            ("Programs", ", ".join(f"{name} {value}" for name, value in programs.items())),
        )
        records.append(
            RunRecord(
                run.name,
                tuple((label, str(value)) for label, value in facts if value),
                tuple(_classifier(record) for record in run.results.get("classifiers") or ()),
                json.dumps(run.manifest, ensure_ascii=False, indent=2),
                results_file(run, runs),
            )
        )
    return records


def results_file(run: Run, runs: list[Run]) -> str:
    """The name of a run's results within the report."""
    return "results.json" if len(runs) == 1 else f"results-{run.index + 1}.json"


def _by_row(manifest: Mapping[str, Any], count: str) -> str:
    """A count that the manifest has of each row, if it is not 0."""
    rows = [run for run in manifest.get("runs") or () if run.get(count)]
    named = [f"{r['model']}{'@' + r['control'] if r.get('control') else ''} on {r['task']}: {r[count]}" for r in rows]
    return ", ".join(named)


def _classifier(record: Mapping[str, Any]) -> str:
    """Kind, training data and how often it reads test utterances correctly: what bounds alignment and consistency."""
    tested, right = record.get("test_utterances"), number_or_none(record, "test_accuracy")
    read = "its accuracy on test utterances is not known"
    if right is not None and tested:
        low, high = wilson(right * tested, int(tested))
        read = (
            f"reads {100 * right:.1f} % [{100 * low:.1f}–{100 * high:.1f}] of {grouped(int(tested))} test utterances "
            "as the label that their writer chose"
        )
    settings = ", ".join(f"{key}={value}" for key, value in (record.get("settings") or {}).items())
    trained = f"trained on {grouped(int(record.get('train_utterances') or 0))} utterances"
    return (
        f"{record.get('task')}: {record.get('kind')}, {trained}; {read}. "
        f"Settings: {settings or 'none'}; weights {str(record.get('sha256', ''))[:16]}."
    )

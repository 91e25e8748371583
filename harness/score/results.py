"""From a run folder to `results.json`: reads the snapshot and the outcomes, asks for scores, adds cost and speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.plan.manifest import task_from_json
from harness.plan.registry import data_root, metric_registry, open_reader
from harness.score.groups import group_records
from harness.score.headline import Contest, contest, headline_record
from harness.score.predictions import write_readings
from harness.score.resources import emotion_reader, text_similarity, word_affect
from harness.score.scoring import Resources, TaskScores, score_task
from harness.store.run_folder import SCHEMA, RowKey, RunFolder, adapter_kind
from harness.tasks.metrics import HEADLINES
from harness.tasks.metrics.caption_store import CaptionStore
from harness.tasks.metrics.java import MeteorProcess, jar_hashes, java_version
from harness.types import Example, Task, UserError

_OF_A_TASK = ("dataset", "emotions", "split", "examples", "available", "preprocessing")
"""What scoring reads of a task in the manifest, besides its name."""


def _measured(label: str, group: str, up: bool, style: str, decimals: int, description: str) -> dict[str, Any]:
    return {
        "label": label,
        "group": group,
        "higher_is_better": up,
        "style": style,
        "decimals": decimals,
        "range": [0.0, None],
        "description": description,
    }


MEASURED: Mapping[str, Mapping[str, Any]] = {
    "answered": _measured("Answered", "coverage", True, "percent", 1, "Images with an answer among all asked."),
    "refused": _measured("Refused", "coverage", False, "count", 0, "Images that the model declined to answer."),
    "unparsed": _measured("Unparsed", "coverage", False, "count", 0, "Texts without a readable label of the task."),
    "failed": _measured("Failed", "coverage", False, "count", 0, "No text at all: unreadable image, endpoint error."),
    "truncated": _measured("Cut off", "coverage", False, "percent", 1, "Answers that the token limit cut off."),
    "parameters": _measured("Parameters", "cost", False, "si", 0, "Weights of the model, frozen parts included."),
    "images_per_s": _measured("Images/s", "cost-more", True, "plain", 2, "Throughput of the run."),
    "peak_memory_gb": _measured("Peak memory, GB", "cost-more", False, "plain", 1, "Largest memory held on the GPU."),
}
"""What the run itself measured and is shown like a metric: coverage, size, speed."""


def metric_records() -> dict[str, Mapping[str, Any]]:
    """`metrics` of results.json: how each registered metric is to be shown, in the order of columns."""
    registry = metric_registry()
    return {**MEASURED, **{name: registry.load(name).record() for name in registry.names()}}


def score_run(folder: RunFolder, *, root: Path | None = None) -> dict[str, Any]:
    """Score every task of a run; the value written to results.json.

    What was read from each explanation is written to the run's `scores/`, see `harness.score.predictions`.
    The manifest's `scoring` names the lexicon and the encoder of BERTScore, where the user chose them. What the Java
    programs say is kept in the run's `cache/captions.sqlite`.

    Args:
        folder: a run with outcomes.
        root: data root for metrics that need the training split; the one recorded in the manifest when None.

    Raises:
        UserError: the lexicon cannot be read, or outcomes do not fit their task.
    """
    manifest = folder.manifest()
    _check_manifest(folder, manifest)
    chosen = manifest.get("scoring", {})
    lexicon, similarity = word_affect(chosen.get("lexicon")), text_similarity(chosen.get("bert_score"))
    results: dict[str, Any] = {
        "schema": SCHEMA,
        "manifest": manifest,
        "cells": [],
        "coverage": [],
        "confusion": [],
        "models": [model_record(manifest, m) for m in manifest["models"]],
        "comparisons": [],
        "metrics": metric_records(),
        "headlines": list(HEADLINES),
        "calibration": [],
        "headline": [],
        "differences": [],
        "planes": [],
        "classifiers": [],
        "programs": programs(),
    }
    # one METEOR for all tasks: starting it takes longer than most of them
    with CaptionStore(folder.path / "cache" / "captions.sqlite") as store, MeteorProcess() as meteor:
        for record in manifest["tasks"]:
            task = task_from_json(record)
            reader = emotion_reader(task, root or data_root(manifest.get("data_root")))
            resources = Resources(meteor, store, reader, lexicon, similarity)
            sides = contest(manifest, task.name)
            scores = _task_scores(folder, manifest, record, task, root, resources, sides)
            results["cells"] += scores.cells + speed_cells(manifest, task, record["split"])
            results["coverage"] += scores.coverage
            results["confusion"] += scores.confusion
            results["comparisons"] += scores.comparisons
            results["calibration"] += scores.calibration
            results["differences"] += scores.differences
            if sides is not None:
                results["headline"].append(headline_record(sides, results, task.name, scores.shares))
            results["planes"] += scores.planes
            for row, readings in scores.readings.items():
                write_readings(folder, task.name, row, readings)
            if reader.record is not None:
                results["classifiers"].append({"task": task.name, **reader.record})
    results["groups"] = group_records(manifest["models"], results["cells"])
    return results


def _check_manifest(folder: RunFolder, manifest: Mapping[str, Any]) -> None:
    """See that a manifest says what scoring needs.

    Raises:
        UserError: it does not; the message names what is absent.
    """
    absent = [f"task {t['name']!r}: {key}" for t in manifest["tasks"] for key in _OF_A_TASK if key not in t]
    identity = manifest.get("identity_of")
    if not isinstance(identity, dict) or not isinstance(identity.get("seed"), int):
        absent.append("identity_of: seed")
    if absent:
        raise UserError(
            f"{folder.path / 'manifest.json'}: {', '.join(absent[:3])} is absent; it is not as harness wrote it"
        )


def programs() -> dict[str, str]:
    """The programs beside Python that score texts: Java's own name and digests of the two jars it runs."""
    java = java_version()
    jars = {f"{name}_jar_sha256": value for name, value in jar_hashes().items()}
    return ({"java": java} if java else {}) | jars


def _task_scores(
    folder: RunFolder,
    manifest: Mapping[str, Any],
    record: Mapping[str, Any],
    task: Task,
    root: Path | None,
    resources: Resources,
    sides: Contest | None,
) -> TaskScores:
    reader_root = root or data_root(manifest.get("data_root"))
    limited = record["examples"] < record["available"]
    return score_task(
        task,
        list(folder.examples(task.name)),
        examples_of(task, reader_root, "train"),
        {row: folder.outcomes(task.name, row) for row in folder.rows(task.name)},
        split=record["split"],
        seed=int(manifest["identity_of"]["seed"]),
        preprocessing=record["preprocessing"],
        whole_split=examples_of(task, reader_root, record["split"]) if limited else None,
        resources=resources,
        sides=sides,
    )


def examples_of(task: Task, root: Path, split: str) -> Sequence[Example] | None:
    """A split of a task, or None where the data is not at hand (metrics that need it say so)."""
    try:
        return list(open_reader(task, root).examples(split))
    except UserError:
        return None


def model_record(manifest: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """A `models` entry of results.json: fingerprint (per task where they differ), size, memory, time."""
    rows = [r for r in manifest["runs"] if r["model"] == model["model"] and r["control"] is None]
    fingerprints = {r["task"]: r.get("fingerprint") for r in rows}
    distinct = list(fingerprints.values())
    same = all(f == distinct[0] for f in distinct)
    return {
        "model": model["model"],
        "kind": adapter_kind(model),
        "fingerprint": (distinct[0] if distinct else None) if same else fingerprints,
        "parameters": next((r["parameters"] for r in rows if r.get("parameters") is not None), None),
        "card": next((r["card"] for r in rows if r.get("card")), None),
        "peak_memory_gb": max((r["peak_memory_gb"] for r in rows if r.get("peak_memory_gb")), default=None),
        "wall_s": sum(r.get("wall_s", 0.0) for r in rows),
    }


def speed_cells(manifest: Mapping[str, Any], task: Task, split: str) -> list[dict[str, Any]]:
    """Cells of what the runner measured: parameters, peak GPU memory, throughput."""
    cells = []
    (examples,) = (t["examples"] for t in manifest["tasks"] if t["name"] == task.name)
    for record in (r for r in manifest["runs"] if r["task"] == task.name):
        row = RowKey(record["model"], record["control"])
        # of the sittings that ended by themselves: what a killed one took is not known
        asked, wall_s = record.get("asked", 0), record.get("wall_s", 0.0)
        values = {
            "parameters": (record.get("parameters"), "this kind of model does not tell its size"),
            "peak_memory_gb": (record.get("peak_memory_gb"), "measured on a GPU only"),
            "images_per_s": (asked / wall_s if wall_s else None, "not measured: outcomes were given"),
        }
        measured = {"parameters": examples}
        cells += [_speed_cell(task, split, row, name, measured.get(name, asked), *v) for name, v in values.items()]
    return cells


def _speed_cell(
    task: Task, split: str, row: RowKey, metric: str, n: int, value: float | None, reason: str
) -> dict[str, Any]:
    return {
        "task": task.name,
        "split": split,
        "model": row.model,
        "control": row.control,
        "metric": metric,
        "value": value,
        "low": None,
        "high": None,
        "n": n,
        "emotion": None,
        "conditioned_on": None,
        "slice": None,
        "references": "all",
        "protocol": task.protocol,
        "signature": metric,
        "unavailable": reason if value is None else None,
    }

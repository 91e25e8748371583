"""From outcomes to `results.json`: the scores of a task, and of a run folder with cost, speed and spread over seeds."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from harness.plan.registry import data_root, metric_registry, open_reader
from harness.score.cells import TEXTUAL, Scorer, tokenise_ahead
from harness.score.compare import compare
from harness.score.headline import Contest, contest, headline_record, shares, slice_differences
from harness.score.predictions import EmotionPrediction, write_predictions
from harness.score.resources import chosen_encoders, emotion_reader, load_metrics, word_affect
from harness.score.survey import Outcomes, ReferenceTexts, survey
from harness.store.outcomes import StoredOutcomes
from harness.store.run_folder import SCHEMA, RowKey, RunFolder, StoredExamples, adapter_kind
from harness.tasks.metrics import HEADLINES
from harness.tasks.metrics.affect import WordAffect
from harness.tasks.metrics.alignment import READERS, EmotionReader
from harness.tasks.metrics.base import Context
from harness.tasks.metrics.caption_engine import CORES, CaptionEngine
from harness.tasks.metrics.caption_store import CaptionStore
from harness.tasks.metrics.java import jar_hashes, java_version
from harness.tasks.metrics.meteor import MeteorProcess
from harness.tasks.metrics.style import WordIds
from harness.types import Example, Task, UserError, task_from_json

_OF_A_TASK = ("dataset", "emotions", "split", "examples", "available", "preprocessing")
"""What scoring reads of a task in the manifest, besides its name."""


@dataclass(frozen=True)
class Resources:
    """What metrics may use besides examples and outcomes; a metric whose resource is None says that it is missing.

    Attributes:
        meteor: a METEOR process to use (the caller closes it); one is started and ended by `score_task` if None.
        store: what the Java programs said before.
        reader: the text-to-emotion classifier.
        lexicon: valence, arousal and dominance of words.
        encoders: what the user chose: the encoder of BERTScore, a CLIP, a sentence encoder.
        cores: processes that may work at the same time.
    """

    meteor: MeteorProcess | None = None
    store: CaptionStore | None = None
    reader: EmotionReader | None = None
    lexicon: WordAffect | None = None
    encoders: tuple[object, ...] = ()
    cores: int = CORES


_NONE = Resources()


@dataclass(frozen=True)
class TaskScores:
    """Records for the keys of `results.json` of the same names, and what was read from each explanation.

    `predictions` is row -> example id -> prediction, empty for a row without explanations or without a classifier.
    """

    cells: list[dict[str, Any]]
    coverage: list[dict[str, Any]]
    confusion: list[dict[str, Any]]
    comparisons: list[dict[str, Any]]
    calibration: list[dict[str, Any]]
    planes: list[dict[str, Any]]
    shares: list[dict[str, Any]]
    differences: list[dict[str, Any]]
    predictions: dict[RowKey, dict[str, EmotionPrediction]]


def score_task(
    task: Task,
    examples: Iterable[Example],
    train: Sequence[Example] | None,
    rows: Outcomes,
    *,
    split: str,
    seed: int = 0,
    replicates: int = 1000,
    preprocessing: str = "none",
    is_part: bool = False,
    whole_split: Iterable[Example] | None = None,
    resources: Resources = _NONE,
    sides: Contest | None = None,
) -> TaskScores:
    """Score every row of a task.

    Args:
        task: label set, protocol, metrics, slices.
        examples: the examples that were asked about; iterated over several times.
        train: the training split, or None if it is not available.
        rows: for each row of the leaderboard, example id -> outcome.
        split: name of the split, for the cells.
        seed: of bootstrap and permutations.
        replicates: bootstrap replicates.
        preprocessing: of the reader, for signatures.
        is_part: whether `examples` are a part of the split (`--limit`).
        whole_split: all examples of the split then, whose document frequencies CIDEr-D takes; None if they are not
            available.
        resources: programs, classifier, lexicon.
        sides: the small model and the larger ones, for `shares` and `differences`.

    Raises:
        UserError: outcomes of unknown or repeated ids, labels outside the task's, or an unknown metric name.
    """
    surveys = survey(task, examples, rows)
    texts = None if train is None else tuple(a.explanation for e in train for a in e.annotations)
    references = ReferenceTexts(examples if whole_split is None else whole_split)
    with ExitStack() as stack:
        engine = stack.enter_context(
            CaptionEngine(
                task.protocol,
                references,
                resources.meteor,
                resources.store,
                resources.cores,
                is_whole_split=not is_part or whole_split is not None,
            )
        )
        others = (resources.reader, resources.lexicon, *resources.encoders)
        found = (engine, WordIds(), *(resource for resource in others if resource is not None))
        context = Context(task, found, texts, preprocessing)
        metrics = load_metrics(context)
        if resources.reader is not None and any(isinstance(metric, READERS) for metric in metrics):
            # in the seconds in which Java programs start and tokenise
            threading.Thread(target=_obtain, args=(resources.reader,), daemon=True).start()
        tokenise_ahead(engine, metrics, examples, rows)
        scorer = Scorer(context, metrics, surveys)
        scorer.read(examples, rows)
        cells = [
            cell for part in scorer.sets for cell in scorer.cells(part, split=split, seed=seed, replicates=replicates)
        ]
        return TaskScores(
            cells,
            [row.coverage(task, key) for key, row in surveys.items()],
            scorer.confusion(),
            compare(task, scorer.sets, scorer.tables, replicates=replicates, seed=seed),
            scorer.calibration(),
            scorer.planes.records(task) if scorer.planes is not None else [],
            shares(scorer, sides, replicates=replicates, seed=seed) if sides is not None else [],
            slice_differences(scorer, sides.names, replicates=replicates, seed=seed) if sides is not None else [],
            scorer.predictions,
        )


def _obtain(reader: EmotionReader) -> None:
    with suppress(Exception):  # the metric that asks for the classifier meets it again
        reader.missing()


# ------------------------------------------------------------------------------------------ run folders


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


def preload() -> None:
    """Load what every scoring needs: the modules of all metrics, and the lexicon for runs that name none."""
    metric_records()
    word_affect(None)


def score_run(folder: RunFolder, *, root: Path | None = None) -> dict[str, Any]:
    """Score every task of a run; the value written to results.json.

    What was read from each explanation is written to the run's `scores/`, see `harness.score.predictions`. The
    manifest's `scoring` names the lexicon and the encoders that the user chose. What the Java programs say is kept in
    the run's `cache/captions.sqlite`.

    Args:
        folder: a run with outcomes.
        root: data root for metrics that need the training split; the one recorded in the manifest when None.

    Raises:
        UserError: the lexicon cannot be read, or outcomes do not fit their task.
    """
    manifest = folder.manifest()
    _check_manifest(folder, manifest)
    root = root or data_root(manifest.get("data_root"))
    chosen = manifest.get("scoring", {})
    lexicon, encoders = word_affect(chosen.get("lexicon")), chosen_encoders(chosen)
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
        "programs": {},
    }
    # one METEOR for several tasks: starting it takes longer than most of them; for one alone it starts with less
    shared = MeteorProcess() if len(manifest["tasks"]) > 1 else nullcontext()
    with CaptionStore(folder.path / "cache" / "captions.sqlite") as store, shared as meteor:
        for record in manifest["tasks"]:
            task = task_from_json(record)
            reader = emotion_reader(task, root)
            resources = Resources(meteor, store, reader, lexicon, encoders)
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
            for row, predictions in scores.predictions.items():
                write_predictions(folder.path, task.name, row, predictions)
            if reader.record is not None:
                results["classifiers"].append({"task": task.name, **reader.record})
    if reads_tokens({cell["metric"] for cell in results["cells"]}):
        results["programs"] = programs()
    results["groups"] = group_records(manifest["models"], results["cells"])
    return results


def _check_manifest(folder: RunFolder, manifest: Mapping[str, Any]) -> None:
    """Check that a manifest says what scoring needs.

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


def reads_tokens(names: Iterable[str]) -> bool:
    """Whether a Java program may have been asked for one of these metrics."""
    registry = metric_registry()
    return any(registry.load(name).family in TEXTUAL for name in set(names) & set(registry.names()))


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
    root: Path,
    resources: Resources,
    sides: Contest | None,
) -> TaskScores:
    limited = record["examples"] < record["available"]
    whole = examples_of(task, root, record["split"]) if limited else None
    if whole is not None and len(whole) != record["available"]:
        whole = None  # the dataset has changed since
    return score_task(
        task,
        StoredExamples(folder, task.name),
        examples_of(task, root, "train"),
        {row: StoredOutcomes(folder.outcomes_path(task.name, row)) for row in folder.rows(task.name)},
        split=record["split"],
        seed=int(manifest["identity_of"]["seed"]),
        preprocessing=record["preprocessing"],
        is_part=limited,
        whole_split=whole,
        resources=resources,
        sides=sides,
    )


def examples_of(task: Task, root: Path, split: str) -> Sequence[Example] | None:
    """A split of a task, or None where the data is not available (metrics that need it say so)."""
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
        # of the sessions that ended by themselves: what a killed one took is not known
        asked, wall_s = record.get("asked", 0), record.get("wall_s", 0.0)
        values = {
            "parameters": (record.get("parameters"), examples, "this kind of model does not tell its size"),
            "peak_memory_gb": (record.get("peak_memory_gb"), asked, "measured on a GPU only"),
            "images_per_s": (asked / wall_s if wall_s else None, asked, "not measured: outcomes were given"),
        }
        for name, (value, n, reason) in values.items():
            cell = {
                "task": task.name,
                "split": split,
                "model": record["model"],
                "control": record["control"],
                "metric": name,
                "value": value,
                "low": None,
                "high": None,
                "n": n,
                "emotion": None,
                "conditioned_on": None,
                "slice": None,
                "references": "all",
                "protocol": task.protocol,
                "signature": name,
                "unavailable": reason if value is None else None,
            }
            cells.append(cell)
    return cells


_PLACE = ("task", "split", "metric", "emotion", "conditioned_on", "references")


def group_records(models: Sequence[Mapping[str, Any]], cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Records of every group of two or more models, overall and per emotion, controls and slices apart.

    Each is `{"group", "models", "task", "split", "metric", "emotion", "conditioned_on", "references", "mean", "sd",
    "values"}`: the standard deviation (n - 1) is over trainings, so it says what another seed would change and nothing
    of the choice of examples, which the members' intervals are about. If a member has no value there is no record.

    Args:
        models: the manifest's models, with `model` and, where given, `group`.
        cells: cells of results.json.
    """
    members: dict[str, list[str]] = {}
    for model in models:
        if model.get("group"):
            members.setdefault(model["group"], []).append(model["model"])
    values: dict[tuple[Any, ...], dict[str, float]] = {}
    for cell in cells:
        if cell["control"] is None and cell["slice"] is None and cell["value"] is not None:
            values.setdefault(tuple(cell[key] for key in _PLACE), {})[cell["model"]] = cell["value"]
    found = []
    for group, names in members.items():
        for place, by_model in values.items():
            if len(names) > 1 and by_model.keys() >= set(names):
                own = [by_model[name] for name in names]
                where = dict(zip(_PLACE, place, strict=True))
                spread = {"mean": fmean(own), "sd": stdev(own), "values": own}
                found.append({"group": group, "models": list(names), **where, **spread})
    return found

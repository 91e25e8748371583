"""Writes run folders for the report's tests: tiny pictures, every kind of outcome, hostile texts, results.json.

The scores are plausible inventions except those that the tests recount (coverage, confusion, accuracy).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from harness.score.predictions import EmotionPrediction, write_predictions
from harness.score.results import metric_records
from harness.store.run_folder import RowKey, RunFolder
from harness.tasks.metrics import HEADLINES
from harness.types import Annotation, Answer, Example, Failed, Outcome, Refusal, Unparsed, Usage, histogram

EMOTIONS = ("amusement", "awe", "contentment", "excitement", "anger", "disgust", "fear", "sadness", "something else")
HOSTILE = {
    "script": "<script>window.pwned = 1</script>",
    "closing": "</script><img src=x onerror='window.pwned = 2'>",
    "handler": '" onmouseover="window.pwned = 3" autofocus onfocus="window.pwned = 4',
    "url": "javascript:window.pwned=5",
    "rtl": "\u202egnorw si sihT\u202c \u05e9\u05dc\u05d5\u05dd",
    "long": "verylongword" * 1700,
    "surrogate": "broken \ud83d text \u2028 and \u2029 lines",
    "template": "{{ 7 * 7 }} {% raw %} ${7*7}",
    "comment": "<!-- <script> -->]]>",
    "null": "nul \x00 byte & &lt;b&gt;",
}
FRACTIONS = (
    "annotator_mass",
    "macro_f1",
    "bleu_4",
    "meteor",
    "rouge_l",
    "emotional_alignment",
    "consistency",
    "unique",
)


def picture(path: Path, number: int) -> Path:
    """A small JPEG whose content depends on `number`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40 + number, 30), (20 * number % 256, 90, 160)).save(path, "JPEG")
    return path


def examples(folder: Path, count: int = 12) -> list[Example]:
    """`count` paintings; hostile texts in ids, titles, styles and explanations; one missing, one corrupt picture."""
    texts = list(HOSTILE.values())
    found = []
    for number in range(count):
        label = EMOTIONS[number % 3]
        other = EMOTIONS[3 + number % 6]
        annotations = [Annotation(label, f"because of light {number}") for _ in range(2)] + [
            Annotation(other, texts[number % len(texts)])
        ]
        if number % 4 == 3:
            annotations.append(Annotation(EMOTIONS[8], "a tie of feelings"))
        identity = f"painting {number}" if number % 3 else f"{number}/{texts[number % len(texts)][:60]}"
        found.append(
            Example(
                identity,
                picture(folder / f"{number}.jpg", number),
                tuple(annotations),
                histogram(annotations),
                meta={
                    "title": texts[(number + 1) % len(texts)][:300],
                    "style": ("Baroque", HOSTILE["script"])[number % 2],
                },
                ratings={"valence": 1.25} if number == 0 else {},
                context=HOSTILE["closing"] if number == 0 else "",
            )
        )
    found[4].image.unlink()
    found[5].image.write_bytes(b"this is no picture")
    return found


def outcomes(chosen: Sequence[Example], seed: int, *, failing: bool = False) -> dict[str, Outcome]:
    """Answers with hostile explanations; with `failing` also a refusal, an unparsed text and failures."""
    draw = random.Random(seed)
    texts = list(HOSTILE.values())
    found: dict[str, Outcome] = {}
    for number, example in enumerate(chosen):
        usage = Usage(latency_s=0.1 + seed)
        emotion = draw.choice(EMOTIONS[:5])
        probabilities = {label: 0.6 if label == emotion else 0.05 for label in EMOTIONS}
        text = texts[(number + seed) % len(texts)]
        ratings = {"valence": -0.5} if number == 0 else None
        known = probabilities if seed % 2 else None
        raw = f"{emotion} because {text}"
        found[example.id] = Answer(emotion, text, known, raw, usage, ratings=ratings)
        if failing and number == 1:
            found[example.id] = Refusal(HOSTILE["closing"], usage)
        if failing and number == 2:
            found[example.id] = Unparsed(HOSTILE["handler"], usage)
        if failing and number in (3, 6):
            found[example.id] = Failed("ImageError", HOSTILE["script"], "", usage)
    return found


def overall_cells(
    task: str, row: RowKey, asked: Sequence[Example], said: Mapping[str, Outcome], seed: int
) -> list[dict[str, Any]]:
    """Cells of one row: true accuracy, invented others; one unavailable metric; slices and per-emotion cells."""
    draw = random.Random(seed)
    judged = [e for e in asked if e.dominant_emotion is not None]
    right = sum(getattr(said[e.id], "emotion", None) == e.dominant_emotion for e in judged)
    answered = sum(isinstance(outcome, Answer) for outcome in said.values())

    def cell(metric: str, value: float | None, n: int, **more: Any) -> dict[str, Any]:
        plain: dict[str, Any] = {
            "task": task, "split": "test", "model": row.model, "control": row.control, "metric": metric, "value": value,
            "low": None if value is None else round(value * 0.8, 4), "high": None if value is None else round(value * 1.15, 4),
            "n": n, "emotion": None, "conditioned_on": None, "slice": None, "references": "all", "protocol": "coco-ptb",
            "signature": f"{metric}|refs:all|version:1", "unavailable": None,
        }  # fmt: skip
        return plain | more

    cells = [cell("accuracy", right / len(judged), len(judged))]
    cells += [cell(name, round(draw.uniform(0.05, 0.7), 4), answered) for name in FRACTIONS]
    cells += [
        cell("cider_d", round(draw.uniform(0.1, 1.2), 4), answered),
        cell("spice", None, 0, unavailable="SPICE is not installed <b>here</b>"),
        cell("latency_p50_s", round(0.05 * 4**seed, 3), len(asked), low=None, high=None),
        cell("cost_usd", None, 0, unavailable="a local model costs nothing that is known"),
        cell("plugin_metric", 3.14159, answered, low=None, high=None),
        cell("bleu_4", round(draw.uniform(0.05, 0.2), 4), answered, references="leave_one_out"),
    ]
    for emotion in EMOTIONS:
        for view in ("annotated", "reference", "predicted"):
            for metric in ("accuracy", "bleu_4"):
                n = draw.randrange(0, 40)
                absent = {"value": None, "low": None, "high": None, "unavailable": "no such painting"} if n == 0 else {}
                more = {"emotion": emotion, "conditioned_on": view, **absent}
                cells.append(cell(metric, round(draw.random(), 4), n) | more)
    for style in sorted({e.meta["style"] for e in asked if "style" in e.meta}):
        cells.append(cell("accuracy", round(draw.random(), 4), 6, slice={"key": "style", "value": style}))
    return cells


def coverage(task: str, row: RowKey, said: Mapping[str, Outcome]) -> dict[str, Any]:
    """The coverage entry of one row, counted."""
    kinds = {"answered": Answer, "refused": Refusal, "unparsed": Unparsed, "failed": Failed}
    counts = {name: sum(isinstance(o, kind) for o in said.values()) for name, kind in kinds.items()}
    return {"task": task, "model": row.model, "control": row.control, "examples": len(said), **counts}


def confusion(task: str, row: RowKey, asked: Sequence[Example], said: Mapping[str, Outcome]) -> dict[str, Any]:
    """The confusion entry of one row, counted; the last column is `no answer`."""
    counts = [[0] * (len(EMOTIONS) + 1) for _ in EMOTIONS]
    for example in asked:
        if example.dominant_emotion is not None:
            answer = said[example.id]
            column = EMOTIONS.index(answer.emotion) if isinstance(answer, Answer) else len(EMOTIONS)
            counts[EMOTIONS.index(example.dominant_emotion)][column] += 1
    return {"task": task, "model": row.model, "control": row.control, "labels": list(EMOTIONS), "counts": counts}


def readings(said: Mapping[str, Outcome], seed: int) -> dict[str, EmotionPrediction]:
    """A reading of every explanation, drawn: the own label, another, or none."""
    draw = random.Random(seed)
    answers = {id_: outcome.emotion for id_, outcome in said.items() if isinstance(outcome, Answer)}
    read = {id_: draw.choice((emotion, EMOTIONS[8], None)) for id_, emotion in answers.items()}
    return {id_: EmotionPrediction(label, label == answers[id_]) for id_, label in read.items()}


def comparison(
    task: str, metric: str, a: str, b: str, difference: float, p_holm: float, emotion: str | None = None
) -> dict[str, Any]:
    """One comparisons entry."""
    return {
        "task": task, "metric": metric, "emotion": emotion, "a": a, "b": b, "difference": difference,
        "low": difference - 0.05, "high": difference + 0.05, "p": p_holm / 3, "p_holm": p_holm, "n": 11,
    }  # fmt: skip


def headlines(task: str, names: Sequence[str]) -> list[dict[str, Any]]:
    """One headline entry, of `small` against the other models that are there; empty without it."""
    if "small" not in names:
        return []

    def model(name: str, size: int | None, **more: Any) -> dict[str, Any]:
        return {"model": name, "parameters": size, "latency_p50_s": 0.5, "cost_usd": None, **more}

    tested = {"difference": -0.2, "difference_low": -0.3, "difference_high": -0.1, "p_holm": 0.012}
    share = {"values": [0.4, 0.6, 0.3], "share": 1 / 3, "low": 0.1, "high": 0.6, "n": 11, "reason": None}
    beaten = share | {"values": [0.4, 0.2, 0.3], "share": None, "low": None, "high": None, "reason": "no lead"}
    larger = {
        "ratios": {"parameters": 38.0, "latency_p50_s": 4.2, "cost_usd": None},
        "shares": [{"metric": "accuracy", **share, **tested}, {"metric": "cider_d", **beaten, **tested}],
        "emotions": {"metric": "accuracy", "better": ["awe"], "worse": ["fear", "anger"], "undecided": ["sadness"]},
    }
    sides = [model(name, size, **larger) for name, size in (("large", 7_000_000), ("endpoint", None)) if name in names]
    majority = "majority" if "majority" in names else None
    over = [{"metric": "accuracy", **tested}] if majority else []
    return [
        {"task": task, "small": model("small", 184_000), "majority": majority, "people": [], "larger": sides,
         "over_majority": over}
    ]  # fmt: skip


def write_run(
    path: Path,
    rows: Mapping[RowKey, Mapping[str, Outcome]],
    asked: Sequence[Example],
    *,
    task: str = "tiny",
    **entry: Any,
) -> RunFolder:
    """A scored run folder; `entry` adds to or overrides keys of the manifest's task."""
    run = RunFolder(path)
    names = list(dict.fromkeys(row.model for row in rows))
    kinds = {"majority": "baseline", "human": "person", "crowd": "person"}
    adapters = {"majority": ["train"], "human": ["references"], "small": ["train"]}
    run.save_manifest(
        {
            "schema": 1, "identity": "0123abcd", "version": "0.1.0", "created": "2026-01-02T03:04:05Z",
            "command": ["harness", "run", "--tasks", task],
            "tasks": [{
                "name": task, "title": f"Paintings {HOSTILE['script']}", "version": "1", "emotions": list(EMOTIONS),
                "protocol": "coco-ptb", "slices": ["style"], "split": "test", "examples": len(asked),
                "available": len(asked), "prompts": {"default": "Name {{ labels }}"},
                "facts": [["examples in test", 12, ""], ["words of an explanation", 7, "median <b>words</b>"]], **entry,
            }],
            "models": [
                {"model": m, "adapter": m, "kind": kinds.get(m, "model"), "settings": {}, "needs": adapters.get(m, [])}
                for m in names
            ],
            "runs": [{"task": task, "model": m, "control": None, "prompt": f"Say & name {HOSTILE['closing']}"} for m in names],
            "environment": {"python": "3.11", "packages": {"torch": "2"}, "git": {"commit": "abc", "dirty": True}},
        }
    )  # fmt: skip
    run.save_examples(task, asked)
    results: dict[str, Any] = {
        "schema": 1,
        "manifest": {},
        "metrics": metric_records(),
        "headlines": list(HEADLINES),
        "cells": [],
        "coverage": [],
        "confusion": [],
        "comparisons": [],
    }
    results["models"] = [
        {
            "model": m,
            "fingerprint": {},
            "parameters": 0 if m in kinds else 10 ** (5 + i),
            "peak_memory_gb": None,
            "wall_s": 1.0,
        }
        for i, m in enumerate(names)
    ]
    for seed, (row, said) in enumerate(rows.items()):
        with run.open_log(task, row) as log:
            for example_id, outcome in said.items():
                log.append(example_id, outcome)
        if row.model not in ("majority", "human"):
            write_predictions(run.path, task, row, readings(said, seed))
        results["cells"] += overall_cells(task, row, asked, said, seed)
        results["coverage"].append(coverage(task, row, said))
        results["confusion"].append(confusion(task, row, asked, said))
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            results["comparisons"] += [comparison(task, name, a, b, 0.1, 0.012) for name in ("accuracy", "cider_d")]
            results["comparisons"].append(comparison(task, "accuracy", a, b, -0.2, 0.4, "awe"))
    if "large" in names:
        slots = [
            {"slot": i, "n": 4 + i, "confidence": i / 15, "accuracy": 0.5, "low": 0.3, "high": 0.7} for i in (0, 1)
        ]
        results["calibration"] = [
            {"task": task, "model": "large", "control": None, "bins": 15, "n": 9, "error": 0.1, "confidence": 0.6,
             "accuracy": 0.5, "contradicted": 0.25, "slots": slots}
        ]  # fmt: skip
    results["headline"] = headlines(task, names)
    results["differences"] = [
        {"task": task, "metric": "annotator_mass", "key": "style", "value": value, "a": a, "b": b,
         "difference": 0.1 * (i - 0.5), "low": 0.1 * i - 0.12, "high": 0.1 * i + 0.02, "n": 6}
        for i, value in enumerate(("Baroque", HOSTILE["script"])) for a, b in (("large", "small"), ("majority", "large"))
        if {a, b} <= set(names)
    ]  # fmt: skip
    results["planes"] = [
        {"task": task, "model": model, "control": None, "lexicon": "vader", "emotion": emotion,
         "valence": 0.1 * i - 0.3, "arousal": None, "n": 5 * i}
        for model in (None, *names[:2]) for i, emotion in enumerate(EMOTIONS)
    ]  # fmt: skip
    run.save_results(results)
    return run


def standard_run(path: Path, pictures: Path) -> RunFolder:
    """Three models (one of which fails often), the majority baseline, a human row and a control, on 12 paintings."""
    asked = examples(pictures)
    rows = {
        RowKey("small"): outcomes(asked, 0),
        RowKey("large"): outcomes(asked, 1),
        RowKey("endpoint"): outcomes(asked, 2, failing=True),
        RowKey("majority"): {e.id: Answer("contentment", "") for e in asked},
        RowKey("human"): {
            e.id: Answer(e.annotations[0].emotion, e.annotations[0].explanation, held_out=0) for e in asked
        },
        RowKey("small", "blank"): outcomes(asked, 3),
    }
    published = [{"model": "Older", "metrics": {"accuracy": 0.656, "bleu_1": 0.542}, "source": HOSTILE["handler"],
                  "reliability": "R", "note": "copied or run again?"}]  # fmt: skip
    return write_run(path, rows, asked, published=published, illustrative=True, available=40)

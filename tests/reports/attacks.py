"""A run in which every text that comes from outside attacks the page: labels, file names, keys, prompts, manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from run_builder import HOSTILE, comparison, coverage, picture

from harness.score.predictions import EmotionPrediction, write_predictions
from harness.store.run_folder import RowKey, RunFolder
from harness.types import Annotation, Answer, Example, Failed, Outcome, Refusal, Unparsed, histogram

ATTACKS = HOSTILE | {
    "svg": "<svg onload='window.pwned = 6'><a xlink:href='javascript:window.pwned = 7'>x</a></svg>",
    "style": "</style><style>body { display: none !important }</style>",
    "css": "red; background: url(http://attacker.invalid/x); } * { display: none",
    "meta": "<meta http-equiv='refresh' content='0;url=http://attacker.invalid/'>",
    "iframe": "<iframe src='http://attacker.invalid/'></iframe>",
    "form": "'><form action='http://attacker.invalid/'><input autofocus onfocus='window.pwned = 8'>",
    "break": '");window.pwned = 9;//',
    "entity": "&lt;script&gt;window.pwned = 10&lt;/script&gt;",
    "huge": "wide " * 25_000,
}
NAMES = (
    "<img src=x onerror=window.pwned=11>.jpg",
    "\"'><script>window.pwned=12<\\script>.jpg",
    "javascript:window.pwned=13.jpg",
    "data:text%2Fhtml,<script>window.pwned=14<%2Fscript>.jpg",
    "..%2F..%2Fetc%2Fpasswd#?.jpg",
    "\u202egpj.jpg",
    "line\nbreak\ttab.jpg",
    "not utf-8 \udcff.jpg",
    "missing <script>window.pwned=15<\\script>.jpg",
)
SHORT = {name: text[:80] for name, text in ATTACKS.items()}


def attacked_examples(folder: Path) -> list[Example]:
    """A painting for each attack; labels, file names, ids and meta values attack as well."""
    labels = list(SHORT.values())
    found = []
    for number, text in enumerate(ATTACKS.values()):
        name = NAMES[number % len(NAMES)]
        path = folder / str(number) / name
        if not name.startswith("missing"):
            picture(path, number)
        if number == 2:
            path.write_bytes(b"no picture")
        annotations = (Annotation(labels[number], text), Annotation(labels[number], text), Annotation(labels[0], text))
        meta = {"title": text, "style": text[:200], "artist": text, SHORT["handler"]: text}
        ratings = {"valence": 0.5, "arousal": -0.5}
        found.append(
            Example(f"{number} {text[:300]}", path, annotations, histogram(annotations), "test", meta, ratings, text)
        )
    return found


def attacked_outcomes(asked: list[Example]) -> dict[str, Outcome]:
    """Every kind of outcome in turn, with an attack in every text."""
    labels, texts = list(SHORT.values()), list(ATTACKS.values())
    found: dict[str, Outcome] = {}
    for number, example in enumerate(asked):
        text = texts[-number]
        label = labels[number]
        probabilities = {one: 0.5 if one == label else 0.5 / (len(labels) - 1) for one in labels}
        kinds: tuple[Outcome, ...] = (
            Answer(label, text, probabilities, text, ratings={"valence": 0.1, "arousal": 0.2}),
            Refusal(text),
            Unparsed(text),
            Failed(text, text, text),
        )
        found[example.id] = kinds[number % 4 if number > 3 else 0]
    return found


def _cells(model: str, control: str | None) -> list[dict[str, Any]]:
    texts = list(SHORT.values())
    place = {"task": "attacked", "split": SHORT["closing"], "model": model, "control": control, "references": "all"}
    cells: list[dict[str, Any]] = [
        place | {"metric": "accuracy", "value": 0.5, "low": 0.2, "high": 0.8, "n": 20, "signature": ATTACKS["script"]},
        place | {"metric": "cider_d", "unavailable": ATTACKS["huge"], "n": 0},
    ]
    cells += [place | {"metric": text, "value": 1.0, "n": 20, "signature": text} for text in texts]
    for text in texts:
        for view in ("annotated", "reference", "predicted"):
            cell = {"metric": "accuracy", "value": 0.5, "n": 20, "emotion": text, "conditioned_on": view}
            cells.append(place | cell)
        cells.append(place | {"metric": "accuracy", "value": 0.5, "n": 9, "slice": {"key": "style", "value": text}})
    return cells


def attacked_run(path: Path, pictures: Path) -> RunFolder:
    """The run folder: two models and a control under names that are allowed, all else hostile."""
    run, asked = RunFolder(path), attacked_examples(pictures)
    texts, every = list(SHORT.values()), list(ATTACKS.values())
    rows = [RowKey("one"), RowKey("two"), RowKey("one", "blank")]
    entry: dict[str, Any] = dict.fromkeys(("title", "paper", "description", "licence", "protocol"), ATTACKS["closing"])
    entry |= {"name": "attacked", "version": SHORT["url"], "emotions": texts, "split": SHORT["closing"]}
    entry |= {"slices": ["style", SHORT["handler"]], "traps": every, "notes": every, "examples": 1, "available": 9}
    entry["facts"] = [[text, number, text] for number, text in enumerate(every)]
    entry["published"] = [
        {"model": t, "source": t, "note": t, "test_set": t, "reliability": t, "metrics": {"accuracy": 0.5, t: 0.5}}
        for t in every
    ]
    run.save_manifest(
        {
            "schema": 1, "created": ATTACKS["meta"], "command": every, "version": ATTACKS["form"], "tasks": [entry],
            "models": [{"model": name, "adapter": ATTACKS["svg"], "settings": {t: t for t in every}} for name in ("one", "two")],
            "runs": [{"task": "attacked", "model": n, "control": None, "prompt": "\n".join(every)} for n in ("one", "two")],
            "environment": {"platform": ATTACKS["iframe"], "packages": {t: t for t in texts}, "git": {"commit": ATTACKS["style"]}},
        }
    )  # fmt: skip
    run.save_examples("attacked", asked)
    said = attacked_outcomes(asked)
    for row in rows:
        with run.open_log("attacked", row) as log:
            for example_id, outcome in said.items():
                log.append(example_id, outcome)
        labels = [EmotionPrediction(text, number % 2 == 0) for number, text in enumerate(texts)]
        write_predictions(run.path, "attacked", row, dict(zip(said, labels * len(said), strict=False)))
    counts = [[1] * (len(texts) + 1) for _ in texts]
    run.save_results(
        {
            "schema": 1,
            "cells": [cell for row in rows for cell in _cells(*row)],
            "coverage": [coverage("attacked", row, said) for row in rows],
            "confusion": [{"task": "attacked", **row._asdict(), "labels": texts, "counts": counts} for row in rows],
            "planes": [
                {
                    "task": "attacked",
                    "model": model,
                    "lexicon": text,
                    "emotion": text,
                    "valence": 0.1,
                    "arousal": 0.2,
                    "n": 9,
                }
                for model in (None, "one")
                for text in texts
            ],
            "models": [{"model": row.model, "parameters": 10**6} for row in rows[:2]],
            "classifiers": [
                {
                    "task": text,
                    "kind": text,
                    "settings": {text: text},
                    "sha256": text,
                    "test_accuracy": 0.5,
                    "test_utterances": 9,
                }
                for text in texts
            ],
            "programs": {text: text for text in texts},
            "comparisons": [
                comparison("attacked", metric, "one", "two", 0.1, 0.01, emotion)
                for metric in ("accuracy", *texts)
                for emotion in (None, texts[0])
            ],
        }
    )
    return run

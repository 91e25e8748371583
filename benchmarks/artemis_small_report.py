"""Pools the folds of artemis_small: values with intervals, and paired differences between systems."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from machine import write_result

from harness.metrics import ece
from harness.score.statistics import (
    FloatArray,
    Interval,
    bootstrap_interval,
    bootstrap_sums,
    holm,
    permutation_p,
    permuted_sums,
)
from sevlm.data import TrainingExample
from sevlm.train import corpus_bleu

REPLICATES, SEED = 10_000, 2021
METRICS = ("accuracy", "annotator_mass", "cross_entropy")
RULE = (
    "In each fold the improved mode is trained on the training part. How much its label head counts beside the "
    "decoder, and the temperature of both, are the pair of the lowest cross-entropy with the annotators' shares on the "
    "validation part. It is trained again on both parts with that pair and answers the test part. All else was fixed "
    "before any training of the final set; rate and decay of the label head were found by cross-validation inside the "
    "training and validation parts of fold 0."
)
PAIRS = (
    *(("improved", other) for other in ("majority", "nearest", "linear", "linear_style", "nlx_gpt", "official")),
    *(("improved", f"improved_without_{part}") for part in ("meta", "head")),
    ("official", "majority"),
    *((part, "nlx_gpt") for part in ("vad_features", "vad_head", "contrastive_head", "official")),
)


def report(lines: Sequence[dict[str, Any]], examples: Sequence[TrainingExample]) -> None:
    """Write results/artemis_small.json: aggregates only, no text and no painting."""
    tested = [line for line in lines if line["part"] == "test"]
    by_system: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for line in tested:
        by_system[line["system"]][line["fold"]] = line
    known = {example.id: example for example in examples}
    rows = {name: pooled(list(folds.values())) for name, folds in by_system.items()}
    statistics_of = {
        metric: {name: sums(metric, answers, known) for name, answers in rows.items()} for metric in METRICS
    }
    write_result(
        "artemis_small",
        {
            "data": f"{len(known)} pictured paintings, five folds by painting; folds pooled",
            "systems": {
                name: describe(name, folds, rows[name], statistics_of, known) for name, folds in by_system.items()
            },
            "differences": differences(by_system, statistics_of),
            "selection": {
                "rule": RULE,
                "chosen": {fold: line["settings"] for fold, line in sorted(by_system["improved"].items())},
            },
        },
    )


def pooled(folds: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for line in folds for row in line["rows"]}


def sums(
    metric: str, rows: dict[str, dict[str, Any]], known: dict[str, TrainingExample]
) -> dict[str, tuple[float, float]]:
    """Painting -> (numerator, denominator) of the metric, for paintings that count."""
    found = {}
    for key, row in rows.items():
        example = known[key]
        if metric == "cross_entropy" and "probs" in row:
            total = sum(example.counts.values())
            loss = -sum(count * math.log(row["probs"][label]) for label, count in example.counts.items() if count)
            found[key] = (loss / total, 1.0)
        elif metric == "annotator_mass":
            found[key] = (example.counts.get(row["emotion"], 0) / sum(example.counts.values()), 1.0)
        elif metric == "accuracy" and example.dominant_emotion is not None:
            found[key] = (float(row["emotion"] == example.dominant_emotion), 1.0)
    return found


def describe(
    name: str,
    folds: dict[int, dict[str, Any]],
    rows: dict[str, dict[str, Any]],
    statistics_of: dict[str, dict[str, dict[str, tuple[float, float]]]],
    known: dict[str, TrainingExample],
) -> dict[str, Any]:
    values: dict[str, Any] = {"folds": sorted(folds), "paintings": len(rows)}
    for metric in METRICS:
        if not statistics_of[metric][name]:
            continue
        table = np.array(list(statistics_of[metric][name].values()))
        interval = interval_of(mean, table)
        values[metric] = {
            "value": round(table[:, 0].mean(), 4),
            "low": round(interval.low, 4),
            "high": round(interval.high, 4),
            "n": len(table),
        }
    if all("probs" in row for row in rows.values()):
        said = [row["probs"] for row in rows.values()]
        people = [[emotion for emotion, _ in known[key].captions] for key in rows]
        values["ece_shares"] = round(ece(said, people), 4)
    references = [[text for _, text in known[key].captions] for key in rows]
    values["bleu_4"] = round(corpus_bleu([row["text"] for row in rows.values()], references), 4)
    values["distinct_explanations"] = round(len({row["text"] for row in rows.values()}) / len(rows), 4)
    first = next(iter(folds.values()))
    if "train_s" in first:
        values |= trained(folds, rows)
    return values


def trained(folds: dict[int, dict[str, Any]], rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    first = next(iter(folds.values()))
    best = {key: max(row["probs"], key=row["probs"].get) for key, row in rows.items()}
    return {
        "parameters": first["summary"]["parameters"]["total"],
        "updates": first["summary"]["updates"],
        "median_train_s": round(statistics.median(line["train_s"] for line in folds.values()), 1),
        "machine": first["machine"],
        "captions_cut": round(first["summary"]["truncated"], 4),
        "lexicon_coverage": round(first["summary"]["lexicon"]["coverage"], 4),
        "ended": round(sum(row["ended"] for row in rows.values()) / len(rows), 4),
        "generated_emotion_is_no_label": round(
            sum(row["emotion"] not in row["probs"] for row in rows.values()) / len(rows), 4
        ),
        "most_probable_label_disagrees": round(
            sum(row["emotion"] != best[key] for key, row in rows.items()) / len(rows), 4
        ),
    }


def differences(
    by_system: dict[str, Any], statistics_of: dict[str, dict[str, dict[str, tuple[float, float]]]]
) -> list[dict[str, Any]]:
    found = []
    for (a, b), metric in itertools.product(PAIRS, METRICS):
        if statistics_of[metric].get(a) and statistics_of[metric].get(b):
            found.append({"a": a, "b": b, "metric": metric} | paired(*(statistics_of[metric][name] for name in (a, b))))
    for entry, p_holm in zip(found, holm([entry["p"] for entry in found]), strict=True):
        entry["p_holm"] = round(p_holm, 4)
    return found


def paired(a: dict[str, tuple[float, float]], b: dict[str, tuple[float, float]]) -> dict[str, Any]:
    """Difference of the two means over the paintings that both answered."""
    keys = sorted(a.keys() & b.keys())
    first, second = (np.array([rows[key] for key in keys]) for rows in (a, b))
    interval = interval_of(lambda sums: mean(sums[..., :2]) - mean(sums[..., 2:]), np.hstack([first, second]))
    moved_a, moved_b = permuted_sums(first, second, REPLICATES, SEED)
    observed = float(first[:, 0].mean() - second[:, 0].mean())
    p = permutation_p(observed, mean(moved_a) - mean(moved_b))
    return {
        "difference": round(observed, 4),
        "low": round(interval.low, 4),
        "high": round(interval.high, 4),
        "p": round(p, 4),
        "n": len(keys),
    }


def mean(sums: FloatArray) -> FloatArray:
    """(..., 2) summed numerators and denominators -> (...)."""
    share: FloatArray = sums[..., 0] / sums[..., 1]
    return share


def interval_of(value: Callable[[FloatArray], FloatArray], rows: FloatArray) -> Interval:
    """Bootstrap interval of a function of sums of rows."""
    total = rows.sum(0)
    interval = bootstrap_interval(
        value(bootstrap_sums(rows, REPLICATES, SEED)), float(value(total)), value(total - rows)
    )
    assert interval is not None
    return interval

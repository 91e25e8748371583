"""Pools the folds of artemis_small: values with intervals, and paired differences between systems."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from machine import write_result

from harness.metrics import ece
from harness.plan.registry import metric_registry
from harness.score.statistics import (
    FloatArray,
    Interval,
    bootstrap_interval,
    bootstrap_sums,
    holm,
    permutation_p,
    permuted_sums,
)
from harness.tasks.metrics.base import AdditiveMetric, Context, ScoredExample
from harness.tasks.metrics.caption_engine import CaptionEngine
from harness.types import Annotation, Answer, Example, Task
from sevlm.data import TrainingExample

REPLICATES, SEED = 10_000, 2021
METRICS = ("accuracy", "annotator_mass", "cross_entropy")
TEXT_METRICS, PROTOCOL = ("bleu_4", "meteor", "rouge_l", "cider_d", "copied"), "coco-ptb"
ValueFunction: TypeAlias = Callable[[FloatArray], FloatArray]
Sums: TypeAlias = dict[str, FloatArray]
"""Painting -> statistics (k,) of a metric, whose value is a function of their sum."""
RULE = (
    "In each fold the improved mode is trained on the training part. How much its label head counts beside the "
    "decoder, and the temperature of both, are the pair of the lowest cross-entropy with the annotators' shares on the "
    "validation part. It is trained again on both parts with that pair and answers the test part. All else was fixed "
    "before any training of the final set; rate and decay of the label head were found by cross-validation inside the "
    "training and validation parts of fold 0. How explanations are sampled and ranked was chosen with models of the "
    "training parts of folds 0 and 1, on their validation parts: of the settings tried, the one of the largest mean, "
    "over BLEU-4, METEOR, ROUGE-L and CIDEr-D, of its score divided by the official mode's on fold 0, that copies "
    "no more explanations from training captions than the official mode does."
)
PAIRS = (
    *(("improved", other) for other in ("majority", "nearest", "linear", "linear_style", "nlx_gpt", "official")),
    *(("improved", f"improved_without_{part}") for part in ("meta", "head")),
    ("official", "majority"),
    *((part, "nlx_gpt") for part in ("vad_features", "vad_head", "contrastive_head", "official")),
)

TEXT_PAIRS = (
    *(("improved", other) for other in ("official", "official_without_repeats", "nlx_gpt", "improved_greedy")),
    *(("improved", f"improved_ranked_{how}") for how in ("without_affect", "with_match")),
    ("improved_greedy", "improved_greedy_with_repeats"),
    ("improved_greedy_with_repeats", "official"),
    ("official_without_repeats", "official"),
    ("official", "nlx_gpt"),
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
    } | text_sums(by_system, known)
    write_result(
        "artemis_small",
        {
            "data": f"{len(known)} pictured paintings, five folds by painting; folds pooled",
            "systems": {
                name: describe(name, folds, rows[name], statistics_of, known) for name, folds in by_system.items()
            },
            "differences": differences(PAIRS, METRICS, statistics_of),
            "differences_of_explanations": differences(TEXT_PAIRS, TEXT_METRICS, statistics_of),
            "selection": {
                "rule": RULE,
                "chosen": {fold: line["settings"] for fold, line in sorted(by_system["improved"].items())},
            },
        },
    )


def pooled(folds: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for line in folds for row in line["rows"]}


def sums(metric: str, rows: dict[str, dict[str, Any]], known: dict[str, TrainingExample]) -> Sums:
    """Numerator and denominator of the metric of each painting that counts."""
    found: Sums = {}
    for key, row in rows.items():
        example = known[key]
        if metric == "cross_entropy" and "probs" in row:
            total = sum(example.counts.values())
            loss = -sum(count * math.log(row["probs"][label]) for label, count in example.counts.items() if count)
            found[key] = np.array([loss / total, 1.0])
        elif metric == "annotator_mass":
            found[key] = np.array([example.counts.get(row["emotion"], 0) / sum(example.counts.values()), 1.0])
        elif metric == "accuracy" and example.dominant_emotion is not None:
            found[key] = np.array([float(row["emotion"] == example.dominant_emotion), 1.0])
    return found


def text_sums(
    by_system: dict[str, dict[int, dict[str, Any]]], known: dict[str, TrainingExample]
) -> dict[str, dict[str, Sums]]:
    """What the harness' metrics of explanations sum up for each painting, for systems that explain."""
    said = {key: [text for _, text in example.captions] for key, example in known.items()}
    found: dict[str, dict[str, Sums]] = {metric: defaultdict(dict) for metric in TEXT_METRICS}
    with CaptionEngine(PROTOCOL, list(said.values())) as engine:
        for name, line in ((name, line) for name, folds in by_system.items() for line in folds.values()):
            if not any(row["text"] for row in line["rows"]):
                continue
            rows = [scored(row, known[row["id"]]) for row in line["rows"]]
            asked = {row["id"] for row in line["rows"]}
            learned = tuple(text for key in known.keys() - asked for text in said[key])
            for metric in TEXT_METRICS:
                values = text_metric(metric, engine, learned=learned).statistics(rows).values
                found[metric][name] |= {row["id"]: part for row, part in zip(line["rows"], values, strict=True)}
    return found


def scored(row: dict[str, Any], example: TrainingExample) -> ScoredExample:
    """An answer beside what people said of the painting."""
    notes = tuple(Annotation(*caption) for caption in example.captions)
    counts = {label: int(count) for label, count in example.counts.items()}
    people = Example(example.id, example.image_path, notes, counts)
    return ScoredExample(people, Answer(row["emotion"], row["text"]), notes, counts)


def text_metric(name: str, *resources: object, learned: tuple[str, ...] = ()) -> AdditiveMetric:
    """A metric of the harness by its name."""
    metric = metric_registry().load(name)(Context(Task("", "", (), protocol=PROTOCOL), resources, learned))
    assert isinstance(metric, AdditiveMetric)
    return metric


def value_of(metric: str) -> ValueFunction:
    """(..., k) sums -> (...) values."""
    return text_metric(metric).value if metric in TEXT_METRICS else mean


def describe(
    name: str,
    folds: dict[int, dict[str, Any]],
    rows: dict[str, dict[str, Any]],
    statistics_of: dict[str, dict[str, Sums]],
    known: dict[str, TrainingExample],
) -> dict[str, Any]:
    values: dict[str, Any] = {"folds": sorted(folds), "paintings": len(rows)}
    for metric in (*METRICS, *TEXT_METRICS):
        if not statistics_of[metric].get(name):
            continue
        table, value = np.array(list(statistics_of[metric][name].values())), value_of(metric)
        interval = interval_of(value, table)
        values[metric] = {
            "value": round(float(value(table.sum(0))), 4),
            "low": round(interval.low, 4),
            "high": round(interval.high, 4),
            "n": len(table),
        }
    if all("probs" in row for row in rows.values()):
        said = [row["probs"] for row in rows.values()]
        people = [[emotion for emotion, _ in known[key].captions] for key in rows]
        values["ece_shares"] = round(ece(said, people), 4)
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
    pairs: Sequence[tuple[str, str]], metrics: Sequence[str], statistics_of: dict[str, dict[str, Sums]]
) -> list[dict[str, Any]]:
    """Paired differences with intervals, p and Holm's p over all of them."""
    found = []
    for (a, b), metric in itertools.product(pairs, metrics):
        first, second = (statistics_of[metric].get(name) for name in (a, b))
        if first and second:
            found.append({"a": a, "b": b, "metric": metric} | paired(first, second, value_of(metric)))
    for entry, p_holm in zip(found, holm([entry["p"] for entry in found]), strict=True):
        entry["p_holm"] = round(p_holm, 4)
    return found


def paired(a: Sums, b: Sums, value: ValueFunction) -> dict[str, Any]:
    """Difference of the two values over the paintings that both answered."""
    keys = sorted(a.keys() & b.keys())
    first, second = (np.array([rows[key] for key in keys]) for rows in (a, b))
    width = first.shape[1]
    interval = interval_of(lambda sums: value(sums[..., :width]) - value(sums[..., width:]), np.hstack([first, second]))
    moved_a, moved_b = permuted_sums(first, second, REPLICATES, SEED)
    observed = float(value(first.sum(0)) - value(second.sum(0)))
    p = permutation_p(observed, value(moved_a) - value(moved_b))
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


def interval_of(value: ValueFunction, rows: FloatArray) -> Interval:
    """Bootstrap interval of a function of sums of rows."""
    total = rows.sum(0)
    interval = bootstrap_interval(
        value(bootstrap_sums(rows, REPLICATES, SEED)), float(value(total)), value(total - rows)
    )
    assert interval is not None
    return interval

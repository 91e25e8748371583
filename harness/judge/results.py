"""What judges and people said of a run, as keys `judges` and `people` of results.json."""

from __future__ import annotations

import dataclasses
import math
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from statistics import mean
from typing import Any

import numpy as np

from harness.judge import worth
from harness.judge.agreement import direct_pairs, metrics_by_people
from harness.judge.ratings import (
    Rating,
    agreement,
    bradley_terry,
    check_raters,
    read_ratings,
    win_rates,
)
from harness.judge.study import load_studies
from harness.judge.verdicts import Judgement, JudgeOptions, judgements, read_verdicts
from harness.judge.worth import PairVerdict, Verdict
from harness.score.predictions import Opinion, write_opinions
from harness.score.resources import chosen_encoders, word_affect
from harness.score.results import References, StoredExamples, StoredOutcomes, load_metrics
from harness.score.statistics import bootstrap_interval, bootstrap_sums, holm, permutation_p, permuted_sums
from harness.score.survey import ReferenceSet, reference_sets, survey
from harness.store.run_folder import RunFolder
from harness.tasks.metrics.base import AdditiveMetric, Context, Metric, Unavailable
from harness.tasks.metrics.caption_engine import CaptionEngine
from harness.tasks.metrics.caption_store import CaptionStore
from harness.tasks.metrics.meteor import MeteorProcess
from harness.tasks.metrics.style import WordIds
from harness.types import task_from_json

Values = dict[tuple[str, str, str], float]
"""(task, example, row) -> value of one metric."""
LENGTH = "mean_length"

REPLICATES = 1000
PERMUTATIONS = 10_000
FEWEST = 10
"""No interval below so many examples."""


def add_opinions(results: dict[str, Any], run: RunFolder) -> dict[str, Any]:
    """Add `judges` and `people` to a run's results, if there are any; the results, changed in place."""
    ratings = _ratings(run)
    judged = [_judgement(*found, ratings) for found in judgements(run)]
    telling = {
        (found["judge"], found["digest"]): [
            key for key, criterion in found["criteria"].items() if criterion["discrimination"]["tells"] is not False
        ]
        for found in judged
    }
    write_opinions(run.path, [*_judges_opinions(run, telling), *_peoples_opinions(ratings)])
    for key, value in (("judges", judged), ("people", _people(run, ratings))):
        if value:
            results[key] = value
        else:
            results.pop(key, None)
    return results


# -------------------------------------------------------------------------------------------- judges


def _judgement(
    judgement: Judgement, options: JudgeOptions, record: Mapping[str, Any], ratings: Sequence[Rating]
) -> dict[str, Any]:
    verdicts, pairs = read_verdicts(judgement, options)
    rubric = judgement.rubric
    true = [v for v in verdicts if v.control is None]
    families = {row: family(row) for row in {v.row for v in verdicts}}
    criteria = {}
    for key, criterion in rubric.criteria.items():
        criteria[key] = {
            "question": criterion.question,
            "repeatability": worth.repeatability(true, key),
            "discrimination": worth.discrimination(verdicts, key),
            "length": worth.length_correlation(verdicts, key),
            "people": _with_people(true, key, ratings),
        }
    return {
        "judge": judgement.judge,
        "rubric": rubric.name,
        "version": rubric.version,
        "digest": rubric.digest,
        "image": rubric.image,
        "references": rubric.references,
        "repeats": options.repeats,
        "criteria": criteria,
        "cells": [cell for key in rubric.criteria for cell in _cells(true, key)],
        "comparisons": [c for key in rubric.criteria for c in _comparisons(true, key)],
        "order": worth.order_consistency(pairs) if pairs else None,
        "preferences": _preferences(pairs),
        "unscored": worth.unscored([*verdicts, *pairs]),
        "questions": len(verdicts) + len(pairs),
        "same_family": sorted(row for row, name in families.items() if name == family(judgement.judge)),
        "usage": dataclasses.asdict(judgement.spent()),
    }


def family(name: str) -> str:
    """The family of a model by its name: the letters it begins with.

    >>> family("gpt-5.5"), family("Qwen3-VL-8B"), family("llava-1.5-7b")
    ('gpt', 'qwen', 'llava')
    """
    found = re.match(r"[a-z]+", name.lower())
    return found.group() if found else name.lower()


def _means(verdicts: Iterable[Verdict], criterion: str) -> dict[tuple[str, str], dict[str, float]]:
    """(task, row) -> example -> mean score over repeats."""
    scores: dict[tuple[str, str], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for v in verdicts:
        if v.scores is not None:
            scores[v.task, v.row][v.example].append(v.scores[criterion])
    return {key: {example: mean(s) for example, s in by.items()} for key, by in scores.items()}


def _cells(verdicts: Sequence[Verdict], criterion: str) -> list[dict[str, Any]]:
    asked: dict[tuple[str, str], set[str]] = defaultdict(set)
    for v in verdicts:
        asked[v.task, v.row].add(v.example)
    means = _means(verdicts, criterion)
    cells = []
    for (task, row), examples in sorted(asked.items()):
        scored = means.get((task, row), {})
        value, low, high = _interval(list(scored.values()))
        cells.append(
            {
                "task": task,
                "model": row,
                "criterion": criterion,
                "value": value,
                "low": low,
                "high": high,
                "n": len(scored),
                "unscored": len(examples) - len(scored),
            }
        )
    return cells


def _interval(values: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """Mean and BCa bootstrap interval over examples; no interval below `FEWEST`."""
    if not values:
        return None, None, None
    rows = np.array([[value, 1.0] for value in values])
    observed = float(rows[:, 0].mean())
    if len(values) < FEWEST:
        return observed, None, None
    sums = bootstrap_sums(rows, REPLICATES, 0)
    left_out = (rows[:, 0].sum() - rows[:, 0]) / (len(values) - 1)
    found = bootstrap_interval(sums[:, 0] / sums[:, 1], observed, left_out)
    return observed, found and found.low, found and found.high


def _comparisons(verdicts: Sequence[Verdict], criterion: str) -> list[dict[str, Any]]:
    """Paired permutation tests between rows on the examples both have scores for, Holm over the pairs of a task."""
    means = _means(verdicts, criterion)
    found: list[dict[str, Any]] = []
    for task in sorted({task for task, _ in means}):
        rows = sorted(row for t, row in means if t == task)
        tests: list[dict[str, Any]] = []
        for a, b in combinations(rows, 2):
            shared = sorted(means[task, a].keys() & means[task, b].keys())
            if len(shared) < FEWEST:
                continue
            left = np.array([[means[task, a][i]] for i in shared])
            right = np.array([[means[task, b][i]] for i in shared])
            swapped_a, swapped_b = permuted_sums(left, right, PERMUTATIONS, 0)
            observed = float((left - right).sum())
            p = permutation_p(observed, (swapped_a - swapped_b)[:, 0])
            difference, low, high = _interval(list((left - right)[:, 0]))
            names = {"task": task, "criterion": criterion, "a": a, "b": b}
            tests.append(names | {"difference": difference, "low": low, "high": high, "p": p, "n": len(shared)})
        for test, p_holm in zip(tests, holm([t["p"] for t in tests]), strict=True):
            found.append(test | {"p_holm": p_holm})
    return found


def _preferences(pairs: Sequence[PairVerdict]) -> list[dict[str, Any]]:
    """How often each row is preferred over all settled pairs, a tie counting half."""
    wins: dict[tuple[str, str], list[float]] = defaultdict(list)
    for (task, _, a, b), winner in worth.settle(pairs).items():
        for row in (a, b):
            wins[task, row].append(1.0 if winner == row else 0.5 if winner == "tie" else 0.0)
    return [
        {"task": task, "model": row, "win_rate": mean(won), "n": len(won)} for (task, row), won in sorted(wins.items())
    ]


def _with_people(verdicts: Sequence[Verdict], criterion: str, ratings: Sequence[Rating]) -> dict[str, Any] | None:
    """How often the judge prefers what people preferred; None without ratings of pairs."""
    values = {(task, i, row): v for (task, row), by in _means(verdicts, criterion).items() for i, v in by.items()}
    lines = metrics_by_people([r for r in ratings if r.unit.right is not None], {criterion: values}, {})
    overall = [line for line in lines if line["emotion"] is None]
    return {key: overall[0][key] for key in ("agreement", "low", "high", "n")} if overall else None


def _judges_opinions(
    run: RunFolder, telling: Mapping[tuple[str, str], Sequence[str]]
) -> Iterator[tuple[str, str, str, Opinion]]:
    """Each explanation's scores (means over repeats) by the criteria on which a judge tells true from shuffled ones."""
    for judgement, options, _ in judgements(run):
        verdicts, pairs = read_verdicts(judgement, options)
        by = f"{judgement.judge}, {judgement.rubric.name}"
        scores: dict[tuple[str, str, str], list[Verdict]] = defaultdict(list)
        for v in verdicts:
            if v.control is None:
                scores[v.task, v.row, v.example].append(v)
        for (task, row, example), given in scores.items():
            scored = [v.scores for v in given if v.scores is not None]
            shown = telling[judgement.judge, judgement.rubric.digest]
            said = (
                [f"{c} {mean(s[c] for s in scored):.3g}" for c in shown]
                if scored
                else [f"unscored ({given[0].problem})"]
            )
            if said:
                yield task, row, example, Opinion(by, ", ".join(said))
        preferred: dict[tuple[str, str, str], list[float]] = defaultdict(list)
        for (task, example, a, b), winner in worth.settle(pairs).items():
            for row in (a, b):
                preferred[task, row, example].append(1.0 if winner == row else 0.5 if winner == "tie" else 0.0)
        for (task, row, example), won in preferred.items():
            yield task, row, example, Opinion(by, _preferred(won))


def _preferred(won: Sequence[float]) -> str:
    return f"preferred in {sum(won):g} of {len(won)} pairs"


# -------------------------------------------------------------------------------------------- people


def _ratings(run: RunFolder) -> list[Rating]:
    """The ratings in a run's folder whose raters pass the attention checks."""
    ratings = stored_ratings(run)
    sound = {rater.rater for rater in check_raters(ratings) if not rater.problem}
    return [rating for rating in ratings if rating.rater in sound]


def stored_ratings(run: RunFolder) -> list[Rating]:
    """Every rating that was imported into a run."""
    path = run.path / "ratings" / "ratings.jsonl"
    return read_ratings([path], load_studies(run)) if path.exists() else []


def _people(run: RunFolder, ratings: Sequence[Rating]) -> dict[str, Any] | None:
    everybody = check_raters(stored_ratings(run))
    if not everybody:
        return None
    emotion_of = {
        (t["name"], e.id): e.dominant_emotion for t in run.manifest()["tasks"] for e in run.examples(t["name"])
    }
    pairs = [r for r in ratings if r.unit.right is not None]
    scores = [r for r in ratings if r.unit.right is None]
    criteria = sorted({c for r in scores for c in r.scores})
    first = [r for r in pairs if r.unit.repeats is None]
    values = _explanation_values(run) | _judged_values(run) if first else {}
    return {
        "raters": [dataclasses.asdict(rater) for rater in everybody],
        "ratings": len(ratings),
        "strengths": [dataclasses.asdict(s) for s in bradley_terry(first)] if first else [],
        "win_rates": win_rates(first, emotion_of),
        "pairs": direct_pairs(first),
        "scores": [line for criterion in criteria for line in _rated(scores, criterion)],
        "agreement": {
            **({"preference": agreement(pairs)} if pairs else {}),
            **{criterion: agreement(scores, criterion) for criterion in criteria},
        },
        "metrics": metrics_by_people(first, values, emotion_of),
    }


def _peoples_opinions(ratings: Sequence[Rating]) -> Iterator[tuple[str, str, str, Opinion]]:
    """How often each explanation was preferred, a tie counting half, and its mean scores."""
    won: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    scores: dict[tuple[str, str, str], list[Mapping[str, int]]] = defaultdict(list)
    for rating in ratings:
        unit = rating.unit
        if unit.repeats is not None:
            continue
        if unit.right is None:
            scores[unit.task, unit.left, unit.example].append(rating.scores)
            continue
        for row in (unit.left, unit.right):
            own = 0.5 if rating.winner is None else float(rating.winner == row)
            won[unit.task, row, unit.example].append(own)
    for (task, row, example), wins in won.items():
        yield task, row, example, Opinion("people", _preferred(wins))
    for (task, row, example), given in scores.items():
        said = ", ".join(f"{c} {mean(s[c] for s in given):.3g}" for c in given[0])
        yield task, row, example, Opinion("people", f"{said} ({len(given)} raters)")


def _explanation_values(folder: RunFolder) -> dict[str, Values]:
    """Metric -> its value for each explanation; document frequencies of CIDEr-D are those of the run's images.

    Metrics that cannot be computed here are left out.
    """
    found: dict[str, Values] = defaultdict(dict)
    chosen = folder.manifest().get("scoring", {})
    others = (WordIds(), word_affect(chosen.get("lexicon")), *chosen_encoders(chosen))
    with CaptionStore(folder.path / "cache" / "captions.sqlite") as store, MeteorProcess() as meteor:
        for record in folder.manifest()["tasks"]:
            task = task_from_json(record)
            examples = StoredExamples(folder, task.name)
            keys = [row for row in folder.rows(task.name) if row.control is None]
            rows = {row: StoredOutcomes(folder.outcomes_path(task.name, row)) for row in keys}
            with CaptionEngine(task.protocol, References(examples), meteor, store) as engine:
                context = Context(task, (engine, *others))
                metrics = [m for m in load_metrics(context) if m.family == "text" or m.name == LENGTH]
                for part in reference_sets(survey(task, examples, rows)):
                    if part.is_main:
                        for name, values in _metric_values(part, metrics, examples, rows[part.key]).items():
                            found[name] |= {(task.name, i, part.key.stem): value for i, value in values.items()}
    return dict(found)


def _metric_values(
    part: ReferenceSet, metrics: Collection[Metric], examples: StoredExamples, outcomes: StoredOutcomes
) -> dict[str, dict[str, float]]:
    shown = (part.scored(e, outcomes[e.id]) for e in examples if e.id in outcomes)
    scored = [one for one in shown if one is not None and one.explanation]
    found: dict[str, dict[str, float]] = {}
    for metric in metrics:
        if not isinstance(metric, AdditiveMetric) or metric.missing() is not None or not scored:
            continue
        try:
            metric.prepare(scored)
            statistics = metric.statistics(scored)
        except Unavailable:
            continue
        values = metric.value(statistics.values)
        counted = zip(scored, values.tolist(), statistics.eligible.tolist(), strict=True)
        found[metric.name] = {s.example.id: v for s, v, eligible in counted if eligible and math.isfinite(v)}
    return found


def _judged_values(run: RunFolder) -> dict[str, Values]:
    """Judge and criterion -> mean score of each explanation."""
    found: dict[str, Values] = {}
    for judgement, options, _ in judgements(run):
        true = [v for v in read_verdicts(judgement, options)[0] if v.control is None]
        for criterion in judgement.rubric.criteria:
            means = _means(true, criterion).items()
            values = {(task, i, row): score for (task, row), by in means for i, score in by.items()}
            found[f"{judgement.judge}: {criterion}"] = values
    return found


def _rated(ratings: Sequence[Rating], criterion: str) -> list[dict[str, Any]]:
    by_row: dict[tuple[str, str], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for rating in ratings:
        if rating.unit.repeats is None:
            by_row[rating.unit.task, rating.unit.left][rating.unit.example].append(rating.scores[criterion])
    lines = []
    for (task, row), examples in sorted(by_row.items()):
        value, low, high = _interval([mean(given) for given in examples.values()])
        lines.append(
            {
                "task": task,
                "model": row,
                "criterion": criterion,
                "value": value,
                "low": low,
                "high": high,
                "n": len(examples),
            }
        )
    return lines

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

from harness.judge.ratings import (
    Rater,
    Rating,
    agreement,
    bradley_terry,
    check_raters,
    direct_pairs,
    metrics_by_people,
    read_ratings,
    win_rates,
)
from harness.judge.study import load_studies
from harness.judge.verdicts import (
    Judgement,
    JudgeOptions,
    PairVerdict,
    Verdict,
    discrimination,
    judgements,
    length_correlation,
    order_consistency,
    read_verdicts,
    repeatability,
    settle,
    unscored,
)
from harness.score.predictions import Opinion, write_opinions
from harness.score.resources import chosen_encoders, load_metrics, word_affect
from harness.score.statistics import bootstrap_interval, bootstrap_sums, holm, permutation_p, permuted_sums
from harness.score.survey import ReferenceSet, ReferenceTexts, reference_sets, survey
from harness.store.outcomes import StoredOutcomes
from harness.store.run_folder import RunFolder, StoredExamples
from harness.tasks.metrics.base import AdditiveMetric, Context, Metric, Unavailable
from harness.tasks.metrics.caption_engine import CaptionEngine
from harness.tasks.metrics.caption_store import CaptionStore
from harness.tasks.metrics.meteor import MeteorProcess
from harness.tasks.metrics.style import WordIds
from harness.types import task_from_json

Values = dict[tuple[str, str, str], float]
"""(task, example, row) -> value of one metric."""
Means = Mapping[tuple[str, str], Mapping[str, float]]
"""(task, row) -> example -> mean score."""
LENGTH = "mean_length"

REPLICATES = 1000
PERMUTATIONS = 10_000
FEWEST = 10
"""No interval below so many examples."""


def add_opinions(results: dict[str, Any], run: RunFolder) -> dict[str, Any]:
    """Add `judges` and `people` to a run's results, if there are any; the results, changed in place."""
    path = run.path / "ratings" / "ratings.jsonl"
    given = read_ratings([path], load_studies(run)) if path.exists() else []
    raters = check_raters(given)
    sound = {rater.rater for rater in raters if not rater.problem}
    ratings = [rating for rating in given if rating.rater in sound]
    judges: list[dict[str, Any]] = []
    opinions: list[tuple[str, str, str, Opinion]] = []
    for judgement, options, _ in judgements(run):
        verdicts, pairs = read_verdicts(judgement, options)
        judges.append(_judgement(judgement, options, verdicts, pairs, ratings))
        opinions += _judges_opinions(judges[-1], verdicts, pairs)
    write_opinions(run.path, [*opinions, *_peoples_opinions(ratings)])
    people = _people(run, raters, ratings) if raters else None
    for key, value in (("judges", judges), ("people", people)):
        if value:
            results[key] = value
        else:
            results.pop(key, None)
    return results


def _cells(means: Means, criterion: str) -> list[dict[str, Any]]:
    cells = []
    for (task, row), scores in sorted(means.items()):
        value, low, high = _interval(list(scores.values()))
        shown = {"value": value, "low": low, "high": high, "n": len(scores)}
        cells.append({"task": task, "model": row, "criterion": criterion} | shown)
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


# -------------------------------------------------------------------------------------------- judges


def _judgement(
    judgement: Judgement,
    options: JudgeOptions,
    verdicts: Sequence[Verdict],
    pairs: Sequence[PairVerdict],
    ratings: Sequence[Rating],
) -> dict[str, Any]:
    rubric = judgement.rubric
    true = [v for v in verdicts if v.control is None]
    asked: dict[tuple[str, str], set[str]] = defaultdict(set)
    for v in true:
        asked[v.task, v.row].add(v.example)
    criteria: dict[str, dict[str, Any]] = {}
    cells: list[dict[str, Any]] = []
    comparisons: list[dict[str, Any]] = []
    for key, criterion in rubric.criteria.items():
        means = _means(true, key)
        by_people = metrics_by_people([r for r in ratings if r.unit.right is not None], {key: _flat(means)}, {})
        overall = [line for line in by_people if line["emotion"] is None]
        criteria[key] = {
            "question": criterion.question,
            "repeatability": repeatability(true, key),
            "discrimination": discrimination(verdicts, key),
            "length": length_correlation(verdicts, key),
            # how often the judge prefers what people preferred
            "people": {name: overall[0][name] for name in ("agreement", "low", "high", "n")} if overall else None,
        }
        for cell in _cells({row: means.get(row, {}) for row in asked}, key):
            cells.append(cell | {"unscored": len(asked[cell["task"], cell["model"]]) - cell["n"]})
        comparisons += _comparisons(means, key)
    won: dict[tuple[str, str], list[float]] = defaultdict(list)
    for (task, row, _), wins in _wins(pairs).items():
        won[task, row] += wins
    return {
        "judge": judgement.judge,
        "rubric": rubric.name,
        "version": rubric.version,
        "digest": rubric.digest,
        "image": rubric.image,
        "references": rubric.references,
        "repeats": options.repeats,
        "criteria": criteria,
        "cells": cells,
        "comparisons": comparisons,
        "order": order_consistency(pairs) if pairs else None,
        "preferences": [
            {"task": task, "model": row, "win_rate": mean(wins), "n": len(wins)}
            for (task, row), wins in sorted(won.items())
        ],
        "unscored": unscored([*verdicts, *pairs]),
        "questions": len(verdicts) + len(pairs),
        "same_family": sorted(row for row in {v.row for v in verdicts} if family(row) == family(judgement.judge)),
        "usage": dataclasses.asdict(judgement.spent()),
    }


def family(name: str) -> str:
    """The family of a model by its name: the letters it begins with.

    >>> family("gpt-5.5"), family("Qwen3-VL-8B"), family("llava-1.5-7b")
    ('gpt', 'qwen', 'llava')
    """
    found = re.match(r"[a-z]+", name.lower())
    return found.group() if found else name.lower()


def _means(verdicts: Iterable[Verdict], criterion: str) -> Means:
    """Scores by a criterion, averaged over repeats."""
    scores: dict[tuple[str, str], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for v in verdicts:
        if v.scores is not None:
            scores[v.task, v.row][v.example].append(v.scores[criterion])
    return {key: {example: mean(s) for example, s in by.items()} for key, by in scores.items()}


def _flat(means: Means) -> Values:
    return {(task, i, row): score for (task, row), by in means.items() for i, score in by.items()}


def _comparisons(means: Means, criterion: str) -> list[dict[str, Any]]:
    """Paired permutation tests between rows on the examples both have scores for, Holm over the pairs of a task."""
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


def _wins(pairs: Sequence[PairVerdict]) -> dict[tuple[str, str, str], list[float]]:
    """(task, row, example) -> 1 for each settled pair that the row won, 0 for one that it lost, a tie counting half."""
    wins: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for (task, example, a, b), winner in settle(pairs).items():
        for row in (a, b):
            wins[task, row, example].append(1.0 if winner == row else 0.5 if winner == "tie" else 0.0)
    return wins


def _judges_opinions(
    record: Mapping[str, Any], verdicts: Sequence[Verdict], pairs: Sequence[PairVerdict]
) -> Iterator[tuple[str, str, str, Opinion]]:
    """Each explanation's scores (means over repeats) by the criteria on which a judge tells true from shuffled ones."""
    by = f"{record['judge']}, {record['rubric']}"
    shown = [key for key, found in record["criteria"].items() if found["discrimination"]["tells"] is not False]
    scores: dict[tuple[str, str, str], list[Verdict]] = defaultdict(list)
    for v in verdicts:
        if v.control is None:
            scores[v.task, v.row, v.example].append(v)
    for (task, row, example), given in scores.items():
        scored = [v.scores for v in given if v.scores is not None]
        said = [f"{c} {mean(s[c] for s in scored):.3g}" for c in shown if scored]
        said += [] if scored else [f"unscored ({given[0].problem})"]
        if said:
            yield task, row, example, Opinion(by, ", ".join(said))
    for (task, row, example), won in _wins(pairs).items():
        yield task, row, example, Opinion(by, _preferred(won))


def _preferred(won: Sequence[float]) -> str:
    return f"preferred in {sum(won):g} of {len(won)} pairs"


# -------------------------------------------------------------------------------------------- people


def _people(run: RunFolder, raters: Sequence[Rater], ratings: Sequence[Rating]) -> dict[str, Any]:
    emotion_of = {
        (t["name"], e.id): e.dominant_emotion for t in run.manifest()["tasks"] for e in run.examples(t["name"])
    }
    pairs = [r for r in ratings if r.unit.right is not None]
    first = [r for r in pairs if r.unit.repeats is None]
    values = _explanation_values(run) if first else {}
    agreements = {"preference": agreement(pairs)} if pairs else {}
    scores = [r for r in ratings if r.unit.right is None]
    cells: list[dict[str, Any]] = []
    for criterion in sorted({c for r in scores for c in r.scores}):
        rated = [r for r in scores if criterion in r.scores]  # studies may ask by different criteria
        given: dict[tuple[str, str], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for r in rated:
            if r.unit.repeats is None:
                given[r.unit.task, r.unit.left][r.unit.example].append(r.scores[criterion])
        cells += _cells({row: {i: mean(s) for i, s in by.items()} for row, by in given.items()}, criterion)
        agreements[criterion] = agreement(rated, criterion)
    return {
        "raters": [dataclasses.asdict(rater) for rater in raters],
        "ratings": len(ratings),
        "strengths": [dataclasses.asdict(s) for s in bradley_terry(first)] if first else [],
        "win_rates": win_rates(first, emotion_of),
        "pairs": direct_pairs(first),
        "scores": cells,
        "agreement": agreements,
        "metrics": metrics_by_people(first, values, emotion_of),
    }


def _peoples_opinions(ratings: Sequence[Rating]) -> Iterator[tuple[str, str, str, Opinion]]:
    """How often each explanation was preferred, a tie counting half, and its mean scores."""
    won: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    scored: dict[tuple[str, str, str], list[Rating]] = defaultdict(list)
    for rating in ratings:
        unit = rating.unit
        if unit.repeats is not None:
            continue
        if unit.right is None:
            scored[unit.task, unit.left, unit.example].append(rating)
            continue
        for row in (unit.left, unit.right):
            own = 0.5 if rating.winner is None else float(rating.winner == row)
            won[unit.task, row, unit.example].append(own)
    for (task, row, example), wins in won.items():
        yield task, row, example, Opinion("people", _preferred(wins))
    for (task, row, example), given in scored.items():
        criteria = dict.fromkeys(c for r in given for c in r.scores)
        said = ", ".join(f"{c} {mean(r.scores[c] for r in given if c in r.scores):.3g}" for c in criteria)
        yield task, row, example, Opinion("people", f"{said} ({len({r.rater for r in given})} raters)")


def _explanation_values(folder: RunFolder) -> dict[str, Values]:
    """Metric, or judge and criterion -> its value for each explanation.

    Document frequencies of CIDEr-D are those of the run's images; metrics that cannot be computed here are left out.
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
            with CaptionEngine(task.protocol, ReferenceTexts(examples), meteor, store) as engine:
                context = Context(task, (engine, *others))
                metrics = [m for m in load_metrics(context) if m.family == "text" or m.name == LENGTH]
                for part in reference_sets(survey(task, examples, rows)):
                    if part.is_main:
                        for name, values in _metric_values(part, metrics, examples, rows[part.key]).items():
                            found[name] |= {(task.name, i, part.key.stem): value for i, value in values.items()}
    for judgement, options, _ in judgements(folder):
        true = [v for v in read_verdicts(judgement, options)[0] if v.control is None]
        for criterion in judgement.rubric.criteria:
            found[f"{judgement.judge}: {criterion}"] = _flat(_means(true, criterion))
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

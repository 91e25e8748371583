"""Which metrics people agree with: how often a number picks the explanation that people preferred."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.judge.ratings import Rating
from harness.score.statistics import wilson


def metrics_by_people(
    ratings: Sequence[Rating],
    metrics: Mapping[str, Mapping[tuple[str, str, str], float]],
    emotion_of: Mapping[tuple[str, str], str | None],
) -> list[dict[str, Any]]:
    """For each metric, the share of people's decided pairs whose preferred explanation it scores higher.

    Raters of the same pair are one unit, whose preference is their majority; pairs that people find equal are left out.
    A metric that cannot tell the two apart counts half. Chance is 0.5. The interval is Wilson's over pairs.

    Args:
        ratings: preferences of people whose attention checks hold.
        metrics: name -> (task, example, row) -> what the metric says of that one explanation.
        emotion_of: (task, example) -> dominant emotion.

    Returns:
        `{"metric", "emotion" (None: all), "agreement", "low", "high", "n", "ties"}`, best first within all.
    """
    preferred = decided_pairs(ratings)
    table = []
    for name, values in metrics.items():
        groups: dict[str | None, list[float]] = defaultdict(list)
        for task, example, winner, loser in preferred:
            a, b = values.get((task, example, winner)), values.get((task, example, loser))
            if a is None or b is None:
                continue
            for emotion in {None, emotion_of.get((task, example))}:
                groups[emotion].append(1.0 if a > b else 0.5 if a == b else 0.0)
        table += [_line(name, emotion, picks) for emotion, picks in groups.items()]
    return sorted(table, key=lambda t: (t["emotion"] is not None, t["emotion"] or "", -t["agreement"], t["metric"]))


def _line(name: str, emotion: str | None, picks: Sequence[float]) -> dict[str, Any]:
    share = float(np.mean(picks))
    interval = wilson(sum(picks), len(picks))
    ties = sum(pick == 0.5 for pick in picks)
    values = {"agreement": share, "low": interval.low, "high": interval.high, "n": len(picks), "ties": ties}
    return {"metric": name, "emotion": emotion, **values}


def direct_pairs(ratings: Sequence[Rating]) -> list[dict[str, Any]]:
    """For each two rows of a task, the share of images on which most raters preferred `a` to `b`.

    Undecided images count half, the interval is Wilson's.
    """
    balance: dict[tuple[str, str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for rating in ratings:
        if rating.unit.right is not None and rating.unit.repeats is None:
            a, b = sorted((rating.unit.left, rating.unit.right))
            balance[rating.unit.task, a, b][rating.unit.example] += {a: 1, b: -1}.get(rating.winner or "", 0)
    table = []
    for (task, a, b), images in sorted(balance.items()):
        won = sum(1.0 if votes > 0 else 0.5 if votes == 0 else 0.0 for votes in images.values())
        interval = wilson(won, len(images))
        values = {"win_rate": won / len(images), "low": interval.low, "high": interval.high, "n": len(images)}
        table.append({"task": task, "a": a, "b": b, **values})
    return table


def decided_pairs(ratings: Sequence[Rating]) -> list[tuple[str, str, str, str]]:
    """(task, example, preferred row, other row) for each pair that most of its raters decided the same way."""
    votes: dict[tuple[str, str, str, str], int] = defaultdict(int)
    for rating in ratings:
        if rating.unit.repeats is not None or rating.unit.right is None:
            continue
        a, b = sorted((rating.unit.left, rating.unit.right))
        votes[rating.unit.task, rating.unit.example, a, b] += {a: 1, b: -1}.get(rating.winner or "", 0)
    return [
        (task, example, a, b) if balance > 0 else (task, example, b, a)
        for (task, example, a, b), balance in sorted(votes.items())
        if balance
    ]

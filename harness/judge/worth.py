"""What a judge is worth: shown beside its numbers, so that nobody has to take them on trust."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import numpy as np

from harness.judge.ratings import krippendorff_alpha
from harness.score.statistics import wilson


@dataclass(frozen=True, slots=True)
class Verdict:
    """One reply of a judge.

    Attributes:
        task, example: whose image and label it was about.
        row: whose explanation.
        control: `shuffled` if the explanation belongs to another example, else None.
        repeat: 0 for the first time, 1 for the second ...
        scores: criterion -> 1..5; None if the reply could not be read or did not come.
        words: length of the explanation.
        problem: why there are no scores; empty if there are.
    """

    task: str
    example: str
    row: str
    control: str | None
    repeat: int
    scores: Mapping[str, int] | None
    words: int
    problem: str = ""


@dataclass(frozen=True, slots=True)
class PairVerdict:
    """A judge's preference in one order: `first` stood as A."""

    task: str
    example: str
    first: str
    second: str
    better: str | None
    problem: str = ""

    @property
    def winner(self) -> str | None:
        """The preferred row, `tie`, or None without a verdict."""
        return {"A": self.first, "B": self.second, "tie": "tie"}.get(self.better or "")


def repeatability(verdicts: Iterable[Verdict], criterion: str) -> dict[str, Any]:
    """Over answers judged more than once: the share whose repeats differ, and ordinal alpha over the repeats."""
    given: dict[tuple[str, ...], dict[int, int]] = defaultdict(dict)
    for v in verdicts:
        if v.scores is not None:
            given[v.task, v.example, v.row, v.control or ""][v.repeat] = v.scores[criterion]
    return disagreement([list(scores.values()) for scores in given.values()])


def disagreement(repeats: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Of answers with several scores: how many have scores that differ, and Krippendorff's ordinal alpha.

    >>> disagreement([[1, 1], [3, 3], [5, 4], [2, 2]])["differ"]
    0.25
    """
    several = [scores for scores in repeats if len(scores) > 1]
    if not several:
        return {"differ": None, "alpha": None, "n": 0}
    width = max(map(len, several))
    table = np.array([[*scores, *[math.nan] * (width - len(scores))] for scores in several], dtype=float).T
    differ = sum(len(set(scores)) > 1 for scores in several)
    return {"differ": differ / len(several), "alpha": krippendorff_alpha(table, "ordinal"), "n": len(several)}


def order_consistency(pairs: Iterable[PairVerdict]) -> dict[str, Any]:
    """Of pairs judged in both orders: the share with the same winner, and how often A won of all decided verdicts."""
    both: dict[tuple[str, ...], list[PairVerdict]] = defaultdict(list)
    first = decided = 0
    for pair in pairs:
        if pair.winner is None:
            continue
        both[pair.task, pair.example, *sorted((pair.first, pair.second))].append(pair)
        first += pair.better == "A"
        decided += pair.better != "tie"
    complete = [two for two in both.values() if len(two) == 2]
    same = sum(two[0].winner == two[1].winner for two in complete)
    return {
        "consistent": same / len(complete) if complete else None,
        "n": len(complete),
        "first_wins": first / decided if decided else None,
    }


def settle(pairs: Iterable[PairVerdict]) -> dict[tuple[str, str, str, str], str]:
    """Winner per pair over both orders; a changed verdict is a tie, a pair without both verdicts is left out."""
    both: dict[tuple[str, str, str, str], list[str]] = defaultdict(list)
    for pair in pairs:
        if pair.winner is not None:
            a, b = sorted((pair.first, pair.second))
            both[pair.task, pair.example, a, b].append(pair.winner)
    return {key: w[0] if w[0] == w[1] else "tie" for key, w in both.items() if len(w) == 2}


def length_correlation(verdicts: Iterable[Verdict], criterion: str) -> dict[str, Any]:
    """Spearman's rank correlation of score and length in words, over true (not shuffled) explanations."""
    from scipy.stats import spearmanr

    pairs = [(v.words, v.scores[criterion]) for v in verdicts if v.scores is not None and v.control is None]
    if len(pairs) < 3 or len({w for w, _ in pairs}) < 2 or len({s for _, s in pairs}) < 2:
        return {"rho": None, "n": len(pairs)}
    words, scores = zip(*pairs, strict=True)
    return {"rho": float(spearmanr(words, scores).statistic), "n": len(pairs)}


def discrimination(verdicts: Iterable[Verdict], criterion: str) -> dict[str, Any]:
    """How often a true explanation beats the shuffled one before the same image, a tie counting half.

    0.5 is chance; the interval is Wilson's. `tells` is whether its lower end is above 0.5.
    """
    scores: dict[tuple[str, ...], dict[bool, list[int]]] = defaultdict(lambda: {True: [], False: []})
    for v in verdicts:
        if v.scores is not None:
            scores[v.task, v.example, v.row][v.control is None].append(v.scores[criterion])
    means = [(mean(s[True]), mean(s[False])) for s in scores.values() if s[True] and s[False]]
    wins = [1.0 if true > shuffled else 0.5 if true == shuffled else 0.0 for true, shuffled in means]
    if not wins:
        return {"prefers_true": None, "low": None, "high": None, "n": 0, "tells": None}
    share = float(np.mean(wins))
    interval = wilson(share * len(wins), len(wins))
    return {
        "prefers_true": share,
        "low": interval.low,
        "high": interval.high,
        "n": len(wins),
        "tells": interval.low > 0.5,
    }


def unscored(verdicts: Iterable[Verdict | PairVerdict]) -> dict[str, int]:
    """Why verdicts are missing, with how many of each; they count for nothing, never as low."""
    counts: dict[str, int] = defaultdict(int)
    for v in verdicts:
        if v.problem:
            counts[v.problem] += 1
    return dict(counts)

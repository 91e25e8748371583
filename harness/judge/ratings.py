"""Ratings by people: read, checked, and what follows from them (strengths, agreement, which metrics people agree with).

A rater is *listed* and left out of the numbers if the attention checks fail; nobody is dropped silently.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from harness.atomic import write_atomically
from harness.judge.study import Study, Unit, load_studies
from harness.score.statistics import wilson
from harness.store.outcomes import json_lines
from harness.store.run_folder import RunFolder
from harness.types import UserError

Level = Literal["nominal", "ordinal"]
FloatArray = npt.NDArray[np.float64]

MIN_CONSISTENT = 0.6
"""Share of repeated items that a rater must answer the same way (pairs), or at most one point apart (scores)."""
MIN_SECONDS = 1.0
"""Median seconds an item must take."""
CHOICES = ("left", "right", "tie")
DRAWS = 1000
PRIOR = 0.1
"""Pseudo-wins per ordered pair of rows: strengths stay finite if a row won always."""


@dataclass(frozen=True, slots=True)
class Rating:
    """One answer of one person.

    Attributes:
        rater: the file's pseudonym of the person.
        unit: what was shown.
        choice: `left`, `right` or `tie` for pairs, else None.
        scores: criterion -> 1..5 for single explanations, else empty.
        seconds: how long the item was visible.
    """

    rater: str
    unit: Unit
    choice: str | None
    scores: Mapping[str, int]
    seconds: float

    @property
    def winner(self) -> str | None:
        """The preferred row; None for a tie."""
        return {"left": self.unit.left, "right": self.unit.right}.get(self.choice or "")


def read_ratings(paths: Sequence[Path], studies: Mapping[str, Study]) -> list[Rating]:
    """Read downloaded files; an item answered twice by one rater counts once, as it was answered last.

    Raises:
        UserError: a line that no page of this run wrote, with file and line.
    """
    known = {name: study.units() for name, study in studies.items()}
    found: dict[tuple[str, str], Rating] = {}
    for path in paths:
        if not path.is_file():
            raise UserError(f"--ratings {path}: no such file")
        for number, line in json_lines(path):
            where = f"{path}:{number}"
            study = studies.get(str(line.get("study")))
            if study is None:
                ours = ", ".join(known) or "it has none"
                raise UserError(f"{where}: study {line.get('study')!r} is none of this run's ({ours})")
            rating = _rating(line, study, known[study.name], where)
            found[rating.rater, rating.unit.item] = rating
    if not found:
        raise UserError(f"{', '.join(map(str, paths))}: no rating in there")
    return list(found.values())


def store_ratings(run: RunFolder, files: Sequence[Path]) -> None:
    """Add the lines of downloaded files to `RUN/ratings/ratings.jsonl`, each once.

    Raises:
        UserError: see `read_ratings`.
    """
    read_ratings(files, load_studies(run))
    path = run.path / "ratings" / "ratings.jsonl"
    before = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    lines = [json.dumps(line, ensure_ascii=False) for file in files for _, line in json_lines(file)]
    write_atomically(path, "".join(f"{line}\n" for line in dict.fromkeys([*before, *lines])))


def _rating(line: Mapping[str, Any], study: Study, units: Mapping[str, Unit], where: str) -> Rating:
    unit = units.get(str(line.get("item")))
    if unit is None:
        raise UserError(f"{where}: item {line.get('item')!r} is not in study {study.name}")
    rater, seconds = line.get("rater"), line.get("seconds", 0.0)
    if not isinstance(rater, str) or not rater or isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise UserError(f"{where}: expected a rater's name and a number of seconds")
    if study.kind == "pairs":
        if line.get("choice") not in CHOICES:
            raise UserError(f"{where}: choice must be one of {', '.join(CHOICES)}, got {line.get('choice')!r}")
        return Rating(rater, unit, str(line["choice"]), {}, float(seconds))
    scores = line.get("scores")
    if (
        not isinstance(scores, dict)
        or scores.keys() != study.criteria.keys()
        or not all(type(score) is int and 1 <= score <= 5 for score in scores.values())
    ):
        expected = ", ".join(study.criteria)
        raise UserError(f"{where}: scores must give 1 to 5 for each of {expected}, got {json.dumps(scores)}")
    return Rating(rater, unit, None, scores, float(seconds))


# --------------------------------------------------------------------------------- attention checks


@dataclass(frozen=True, slots=True)
class Rater:
    """What the attention checks say of a person.

    Attributes:
        rater: the pseudonym.
        n: items answered, repeats not counted.
        repeated: repeated items answered; consistent: how many of them the same way as before.
        seconds: median per item.
        problem: why the ratings are left out; empty if they count.
    """

    rater: str
    n: int
    repeated: int
    consistent: int
    seconds: float
    problem: str


def check_raters(ratings: Iterable[Rating]) -> list[Rater]:
    """Judge each rater by repeated items and by time."""
    by_rater: dict[str, dict[str, Rating]] = defaultdict(dict)
    for rating in ratings:
        by_rater[rating.rater][rating.unit.item] = rating
    checked = []
    for rater, given in sorted(by_rater.items()):
        repeats = [(r, earlier) for r in given.values() if (earlier := given.get(r.unit.repeats or "")) is not None]
        consistent = sum(
            again.winner == first.winner
            if again.choice is not None
            else all(abs(again.scores[c] - first.scores[c]) <= 1 for c in again.scores)
            for again, first in repeats
        )
        seconds = median(r.seconds for r in given.values())
        problems = []
        if repeats and consistent < MIN_CONSISTENT * len(repeats):
            problems.append(f"answered {consistent} of {len(repeats)} repeated items the same way")
        if seconds < MIN_SECONDS:
            problems.append(f"took {seconds:.1f} s an item")
        n = sum(r.unit.repeats is None for r in given.values())
        checked.append(Rater(rater, n, len(repeats), consistent, seconds, "; ".join(problems)))
    return checked


# ---------------------------------------------------------------------------------------- strengths


@dataclass(frozen=True, slots=True)
class Strength:
    """A row's Bradley–Terry strength: log odds against the average row, with its simultaneous 95 % interval."""

    row: str
    strength: float
    low: float | None
    high: float | None
    wins: float
    n: int


def bradley_terry(ratings: Sequence[Rating], seed: int = 0) -> list[Strength]:
    """Strengths by maximum likelihood; a tie is half a win for each.

    P(a preferred to b) = 1 / (1 + exp(s_b - s_a)), strengths summing to 0 (Bradley and Terry 1952, fitted by `choix`).
    Intervals come from a bootstrap over examples, widened so that all of them hold together with 95 % probability
    (the 95 % quantile of the largest standardised deviation); none below 10 examples.
    """
    import choix

    rows = sorted({row for r in ratings for row in (r.unit.left, r.unit.right) if row is not None})
    index = {row: i for i, row in enumerate(rows)}
    clusters: dict[tuple[str, str], FloatArray] = defaultdict(lambda: np.zeros((len(rows), len(rows))))
    for rating in ratings:
        assert rating.unit.right is not None
        a, b = index[rating.unit.left], index[rating.unit.right]
        share = {"left": 1.0, "tie": 0.5, "right": 0.0}[rating.choice or "tie"]
        wins = clusters[rating.unit.task, rating.unit.example]
        wins[a, b] += share
        wins[b, a] += 1 - share
    counts = np.array(list(clusters.values()))
    total = counts.sum(axis=0)
    prior = PRIOR * (1 - np.eye(len(rows)))

    def fit(wins: FloatArray) -> FloatArray:
        strengths: FloatArray = choix.ilsr_pairwise_dense(wins + prior)
        strengths -= strengths.mean()
        return strengths

    best = fit(total)
    low, high = _simultaneous(best, counts, fit, np.random.default_rng(seed))
    shown = total.sum(axis=1) + total.sum(axis=0)
    strengths = [
        Strength(
            row,
            float(best[i]),
            low[i] if low else None,
            high[i] if high else None,
            float(total[i].sum()),
            int(shown[i]),
        )
        for i, row in enumerate(rows)
    ]
    return sorted(strengths, key=lambda s: -s.strength)


def _simultaneous(
    best: FloatArray, counts: FloatArray, fit: Any, draw: np.random.Generator
) -> tuple[list[float] | None, list[float] | None]:
    if len(counts) < 10:
        return None, None
    weights = draw.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=DRAWS)
    replicated = np.array([fit(np.tensordot(w, counts, axes=1)) for w in weights])
    spread = replicated.std(axis=0, ddof=1) * np.sqrt(len(counts) / (len(counts) - 1))
    deviations = np.abs(replicated - replicated.mean(axis=0)) / np.maximum(replicated.std(axis=0, ddof=1), 1e-12)
    reach = float(np.quantile(deviations.max(axis=1), 0.95))
    return list(map(float, best - reach * spread)), list(map(float, best + reach * spread))


def win_rates(ratings: Iterable[Rating], emotion_of: Mapping[tuple[str, str], str | None]) -> list[dict[str, Any]]:
    """How often each row was preferred, a tie counting half, overall (`emotion` None) and per dominant emotion."""
    wins: Counter[tuple[str, str | None]] = Counter()
    n: Counter[tuple[str, str | None]] = Counter()
    for rating in ratings:
        for row, own in ((rating.unit.left, "left"), (rating.unit.right, "right")):
            for emotion in {None, emotion_of.get((rating.unit.task, rating.unit.example))}:
                n[str(row), emotion] += 1
                wins[str(row), emotion] += 1.0 if rating.choice == own else 0.5 if rating.choice == "tie" else 0.0  # type: ignore[assignment]
    keys = sorted(n, key=lambda k: (k[0], k[1] or ""))
    return [{"model": row, "emotion": e, "win_rate": wins[row, e] / n[row, e], "n": n[row, e]} for row, e in keys]


# ---------------------------------------------------------------------------------------- agreement


def agreement(ratings: Sequence[Rating], criterion: str | None = None) -> dict[str, Any]:
    """Krippendorff's alpha over all raters (nominal for choices, ordinal for scores) and Cohen's kappa per pair.

    Alpha = 1 - observed / expected disagreement (Krippendorff 2011), None if fewer than two raters share an item or
    nobody ever disagreed about anything; kappa = (p_o - p_e) / (1 - p_e), quadratic weights for scores.
    """
    values: dict[str, dict[tuple[str, str, str, str], int]] = defaultdict(dict)
    for rating in ratings:
        unit = rating.unit
        if unit.repeats is None:
            a, b = sorted((unit.left, unit.right or ""))  # the same pair, whichever side a row stood on
            preferred = 0 if rating.winner is None else 1 if rating.winner == a else 2
            code = preferred if criterion is None else rating.scores[criterion]
            values[rating.rater][unit.task, unit.example, a, b] = code
    raters = sorted(values)
    units = sorted({shown for given in values.values() for shown in given})
    table = np.array([[values[rater].get(shown, np.nan) for shown in units] for rater in raters], dtype=float)
    level: Level = "nominal" if criterion is None else "ordinal"
    kappas = [_kappa(values[a], values[b], a, b, level) for a, b in combinations(raters, 2)]
    shared = int((np.sum(~np.isnan(table), axis=0) > 1).sum())
    return {
        "alpha": krippendorff_alpha(table, level),
        "level": level,
        "shared_items": shared,
        "kappas": [k for k in kappas if k is not None],
    }


def krippendorff_alpha(table: FloatArray, level: Level) -> float | None:
    """Krippendorff's alpha of raters x items, NaN for missing values; None if it is not defined.

    alpha = 1 - D_o / D_e over the coincidence matrix (Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability");
    the distance of two values is 0 or 1 (nominal), or the square of how many values lie between them (ordinal).

    >>> import numpy as np
    >>> krippendorff_alpha(np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]), "nominal")
    1.0
    """
    values = np.unique(table[~np.isnan(table)])
    counts = np.array([(table == value).sum(axis=0) for value in values], dtype=float).T.reshape(-1, len(values))
    counts = counts[counts.sum(axis=1) > 1]
    totals = counts.sum(axis=0)
    if (totals > 0).sum() < 2:
        return None
    pairs = counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(len(values))
    coincidences = (pairs / (counts.sum(axis=1) - 1)[:, None, None]).sum(axis=0)
    expected = (np.outer(totals, totals) - np.diag(totals)) / (totals.sum() - 1)
    if level == "nominal":
        distance = 1 - np.eye(len(values))
    else:
        middle = np.cumsum(totals) - totals / 2
        distance = (middle[:, None] - middle[None, :]) ** 2
    return float(1 - (coincidences * distance).sum() / (expected * distance).sum())


def _kappa(a: Mapping[Any, int], b: Mapping[Any, int], name_a: str, name_b: str, level: str) -> dict[str, Any] | None:
    from sklearn.metrics import cohen_kappa_score

    shared = sorted(a.keys() & b.keys())
    if len(shared) < 2:
        return None
    left, right = [a[unit] for unit in shared], [b[unit] for unit in shared]
    if len({*left, *right}) < 2:
        return {"a": name_a, "b": name_b, "kappa": None, "n": len(shared)}
    kappa = float(cohen_kappa_score(left, right, weights="quadratic" if level == "ordinal" else None))
    return {"a": name_a, "b": name_b, "kappa": kappa, "n": len(shared)}


# ----------------------------------------------------------------------------- what people agree with


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
    table: list[dict[str, Any]] = []
    for name, values in metrics.items():
        groups: dict[str | None, list[float]] = defaultdict(list)
        for task, example, winner, loser in preferred:
            a, b = values.get((task, example, winner)), values.get((task, example, loser))
            if a is None or b is None:
                continue
            for emotion in {None, emotion_of.get((task, example))}:
                groups[emotion].append(1.0 if a > b else 0.5 if a == b else 0.0)
        for emotion, picks in groups.items():
            interval = wilson(sum(picks), len(picks))
            line = {"metric": name, "emotion": emotion, "agreement": float(np.mean(picks))}
            line |= {"low": interval.low, "high": interval.high, "n": len(picks)}
            table.append(line | {"ties": sum(pick == 0.5 for pick in picks)})
    return sorted(table, key=lambda t: (t["emotion"] is not None, t["emotion"] or "", -t["agreement"], t["metric"]))


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

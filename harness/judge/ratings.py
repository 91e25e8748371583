"""Ratings by people: read, checked, and what follows from them.

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
    return [_check(rater, given) for rater, given in sorted(by_rater.items())]


def _check(rater: str, given: Mapping[str, Rating]) -> Rater:
    repeats = [(r, earlier) for r in given.values() if (earlier := given.get(r.unit.repeats or "")) is not None]
    consistent = sum(_same(again, first) for again, first in repeats)
    seconds = median(r.seconds for r in given.values())
    problems = []
    if repeats and consistent < MIN_CONSISTENT * len(repeats):
        problems.append(f"answered {consistent} of {len(repeats)} repeated items the same way")
    if seconds < MIN_SECONDS:
        problems.append(f"took {seconds:.1f} s an item")
    first = sum(r.unit.repeats is None for r in given.values())
    return Rater(rater, first, len(repeats), consistent, seconds, "; ".join(problems))


def _same(again: Rating, first: Rating) -> bool:
    if again.choice is not None:
        return again.winner == first.winner
    return all(abs(again.scores[c] - first.scores[c]) <= 1 for c in again.scores)


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


def shown_alike(rating: Rating) -> tuple[str, str, str, str]:
    """What a rating is about, whichever side it stood on."""
    a, b = sorted((rating.unit.left, rating.unit.right or ""))
    return rating.unit.task, rating.unit.example, a, b


def agreement(ratings: Sequence[Rating], criterion: str | None = None) -> dict[str, Any]:
    """Krippendorff's alpha over all raters (nominal for choices, ordinal for scores) and Cohen's kappa per pair.

    Alpha = 1 - observed / expected disagreement (Krippendorff 2011), None if fewer than two raters share an item or
    nobody ever disagreed about anything; kappa = (p_o - p_e) / (1 - p_e), quadratic weights for scores.
    """
    values: dict[str, dict[tuple[str, str, str, str], int]] = defaultdict(dict)
    for rating in ratings:
        if rating.unit.repeats is None:
            values[rating.rater][shown_alike(rating)] = _coded(rating, criterion)
    raters = sorted(values)
    units = sorted({unit for given in values.values() for unit in given})
    table = np.array([[values[rater].get(unit, np.nan) for unit in units] for rater in raters], dtype=float)
    level: Level = "nominal" if criterion is None else "ordinal"
    kappas = [_kappa(values[a], values[b], a, b, level) for a, b in combinations(raters, 2)]
    shared = int((np.sum(~np.isnan(table), axis=0) > 1).sum())
    return {
        "alpha": krippendorff_alpha(table, level),
        "level": level,
        "shared_items": shared,
        "kappas": [k for k in kappas if k is not None],
    }


def _coded(rating: Rating, criterion: str | None) -> int:
    if criterion is not None:
        return rating.scores[criterion]
    first = shown_alike(rating)[2]
    return 0 if rating.winner is None else 1 if rating.winner == first else 2


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

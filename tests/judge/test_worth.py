"""What a judge is worth, against tables worked out by hand and against EEmo-Bench's published judge scores."""

from __future__ import annotations

import json
from collections import Counter
from itertools import permutations
from pathlib import Path

import pytest

from harness.judge.verdicts import (
    PairVerdict,
    Verdict,
    disagreement,
    discrimination,
    length_correlation,
    order_consistency,
    repeatability,
    settle,
    unscored,
)


def verdict(
    example: str, score: int | None, *, control: str | None = None, repeat: int = 0, words: int = 10
) -> Verdict:
    scores = None if score is None else {"c": score}
    return Verdict("t", example, "m", control, repeat, scores, words, "" if scores else "unread")


def test_repeatability_counts_answers_whose_repeats_differ() -> None:
    given = [
        verdict(str(i), s, repeat=r)
        for i, two in enumerate([(1, 1), (5, 5), (3, 4), (2, 2)])
        for r, s in enumerate(two)
    ]
    given += [verdict("alone", 3), verdict("failed", 3), verdict("failed", None, repeat=1)]
    found = repeatability(given, "c")
    assert (found["differ"], found["n"]) == (0.25, 4)


def test_nominal_like_alpha_by_hand() -> None:
    # Two repeats, four answers: (1,1) (1,1) (2,2) (1,2). With two values ordinal distance is nominal.
    # Coincidences: 1-1: 4, 2-2: 2, 1-2 and 2-1: 1 each; n 8, n1 5, n2 3.
    # D_o = 2/8, D_e = 2*5*3/(8*7) = 30/56; alpha = 1 - (2/8)/(30/56) = .5333
    assert disagreement([[1, 1], [1, 1], [2, 2], [1, 2]])["alpha"] == pytest.approx(1 - (2 / 8) / (30 / 56))


def test_a_judge_that_always_says_three_has_no_alpha_and_tells_nothing() -> None:
    given = [verdict(str(i), 3, control=c, repeat=r) for i in range(20) for c in (None, "shuffled") for r in (0, 1)]
    assert repeatability(given, "c") == {"differ": 0.0, "alpha": None, "n": 40}
    found = discrimination(given, "c")
    assert (found["prefers_true"], found["tells"], found["n"]) == (0.5, False, 20)
    assert length_correlation(given, "c")["rho"] is None


def test_a_fair_judge_tells_true_from_shuffled() -> None:
    given = [verdict(str(i), 4) for i in range(20)] + [
        verdict(str(i), 1 if i else 5, control="shuffled") for i in range(20)
    ]
    found = discrimination(given, "c")
    assert (found["prefers_true"], found["tells"]) == (0.95, True)
    # Wilson for 19 of 20
    assert (found["low"], found["high"]) == (pytest.approx(0.764, abs=1e-3), pytest.approx(0.991, abs=1e-3))


def test_a_length_lover_is_found_by_its_correlation() -> None:
    given = [verdict(str(i), 1 + i // 4, words=5 + i) for i in range(20)]
    assert length_correlation(given, "c")["rho"] == pytest.approx(0.98, abs=0.01)


def test_a_position_lover_is_inconsistent_and_settles_on_ties() -> None:
    pairs = [PairVerdict("t", str(i), *names, "A") for i in range(10) for names in (("x", "y"), ("y", "x"))]
    assert order_consistency(pairs) == {"consistent": 0.0, "n": 10, "first_wins": 1.0}
    assert set(settle(pairs).values()) == {"tie"}


def test_a_pair_with_a_failed_order_is_left_out() -> None:
    pairs = [PairVerdict("t", "1", "x", "y", "A"), PairVerdict("t", "1", "y", "x", None, "unread")]
    assert settle(pairs) == {}
    assert order_consistency(pairs)["n"] == 0


def test_unscored_verdicts_are_counted_by_reason() -> None:
    assert unscored([verdict("1", None), verdict("2", None), verdict("3", 4)]) == {"unread": 2}


@pytest.mark.data
def test_the_published_judge_of_eemo_bench(development_data: Path) -> None:
    """Two of its seven systems, five calls an answer, recounted in another way; 7.9 % was counted over all seven."""
    repeats = []
    for system in ("gpt-4o", "llava-onevision-72b"):
        for line in json.loads((development_data / "eemo_bench" / f"EEmo-Bench({system}-pair).json").read_text()):
            value = line[f"eval_result({system})"]
            if isinstance(value, list):
                repeats.append([float(v) for v in value])
    found = disagreement(repeats)
    assert len(repeats) == found["n"] == 600
    assert sum(min(r) != max(r) for r in repeats) == 41
    assert found["differ"] == pytest.approx(41 / 600)
    assert found["alpha"] == pytest.approx(ordinal_alpha_by_pairs(repeats), abs=1e-12)
    assert found["alpha"] == pytest.approx(0.961, abs=5e-4)


def ordinal_alpha_by_pairs(repeats: list[list[float]]) -> float:
    """Krippendorff's alpha from its definition: squared rank distances within answers over those within all values."""
    counts = Counter(value for given in repeats for value in given)

    def distance(one: float, other: float) -> float:
        low, high = sorted((one, other))
        return (sum(n for v, n in counts.items() if low <= v <= high) - (counts[low] + counts[high]) / 2) ** 2

    total = counts.total()
    within = sum(distance(a, b) for given in repeats for a, b in permutations(given, 2)) / (len(repeats[0]) - 1) / total
    pairs = sum(n * m * distance(a, b) for a, n in counts.items() for b, m in counts.items())
    return 1 - within / (pairs / (total * (total - 1)))

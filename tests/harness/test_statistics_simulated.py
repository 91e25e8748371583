"""What intervals and tests promise, on simulated models: coverage, false positives, and what pairing finds."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import scipy.stats

from harness.score.statistics import bootstrap_interval, bootstrap_sums, permutation_p, permuted_sums, wilson

pytestmark = pytest.mark.slow

SHARES = (0.5, 0.65, 0.9)
TRIALS = {20: 400, 100: 400, 1000: 200}
"""Number of simulated datasets by number of paintings."""


def within_three_errors(share: float, wanted: float, trials: int) -> bool:
    """Whether a simulated share is within three Monte-Carlo errors of what it should be."""
    return abs(share - wanted) <= 3 * math.sqrt(wanted * (1 - wanted) / trials)


@pytest.mark.parametrize("n", TRIALS)
@pytest.mark.parametrize("p", SHARES)
def test_wilson_covers_the_truth_in_95_of_100(n: int, p: float) -> None:
    right = np.random.default_rng([n, int(100 * p)]).binomial(n, p, 1000)
    covered = [interval.low <= p <= interval.high for interval in (wilson(float(k), n) for k in right)]
    assert within_three_errors(float(np.mean(covered)), 0.95, 1000)


@pytest.mark.parametrize("n", TRIALS)
@pytest.mark.parametrize("p", SHARES)
def test_the_bootstrap_covers_the_truth_in_95_of_100(n: int, p: float) -> None:
    """Of a mean of shares, as `annotator_mass` is: 5 to 11 annotators, who agree the more, the clearer a painting is.

    With 4,000 datasets of 20 paintings the coverage is 96, 96 and 93 %; plain percentiles hold 94, 93 and 88 %.
    """
    generator, covered = np.random.default_rng([n, int(100 * p)]), 0
    for trial in range(TRIALS[n]):
        annotators = generator.integers(5, 12, n)
        shares = generator.binomial(annotators, generator.beta(2 * p, 2 * (1 - p), n)) / annotators
        interval = bootstrap_interval(*resampled(shares, trial))
        assert interval is not None
        covered += interval.low <= p <= interval.high
    assert within_three_errors(covered / TRIALS[n], 0.95, TRIALS[n])


def resampled(
    scores: npt.NDArray[np.float64], seed: int
) -> tuple[npt.NDArray[np.float64], float, npt.NDArray[np.float64]]:
    n = len(scores)
    replicates = bootstrap_sums(scores[:, None], 1000 if n < 1000 else 500, seed)[:, 0] / n
    return replicates, float(scores.mean()), (scores.sum() - scores) / (n - 1)


@pytest.mark.parametrize("p", SHARES)
def test_equal_models_differ_significantly_in_5_of_100(p: float) -> None:
    """Two models that are right equally often, on the same 100 paintings, some of which are easier for both."""
    generator, p_values = np.random.default_rng(int(100 * p)), []
    for trial in range(1000):
        easiness = generator.beta(4 * p, 4 * (1 - p), 100)
        a, b = (generator.random((2, 100)) < easiness).astype(np.float64)
        sums_a, sums_b = permuted_sums(a[:, None], b[:, None], 199, trial)
        p_values.append(permutation_p(float(a.sum() - b.sum()), (sums_a - sums_b)[:, 0]))
    found = float(np.mean(np.array(p_values) <= 0.05))
    # right and wrong are counts: ties make the test cautious, never bold
    assert found <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1000)
    assert found >= 0.02


def test_unequal_scores_without_ties_are_significant_in_5_of_100() -> None:
    generator, p_values = np.random.default_rng(6), []
    for trial in range(1000):
        a, b = generator.normal(size=(2, 25, 1))
        sums_a, sums_b = permuted_sums(a, b, 199, seed=trial)
        p_values.append(permutation_p(float(a.sum() - b.sum()), (sums_a - sums_b)[:, 0]))
    assert within_three_errors(float(np.mean(np.array(p_values) <= 0.05)), 0.05, 1000)
    assert scipy.stats.kstest(p_values, "uniform").pvalue > 0.01


def test_pairing_finds_a_difference_of_two_points_that_is_missed_without() -> None:
    """60 % against 62 % of 2,000 paintings; the better model mends 60 answers of the other and spoils 20."""
    n, common = 2000, 1180
    a, b = np.zeros((2, n))
    a[:common] = b[:common] = 1
    a[common : common + 20], b[common + 20 : common + 80] = 1, 1
    assert (a.mean(), b.mean()) == (0.6, 0.62)
    sums_a, sums_b = permuted_sums(a[:, None], b[:, None], 10_000, seed=0)
    paired = permutation_p(float(a.sum() - b.sum()), (sums_a - sums_b)[:, 0])
    table = [[a.sum(), n - a.sum()], [b.sum(), n - b.sum()]]
    unpaired = scipy.stats.chi2_contingency(table, correction=False).pvalue
    assert paired < 0.001
    assert unpaired > 0.15

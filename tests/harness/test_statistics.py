"""Intervals and tests against scipy, worked-out tables, exhaustive enumeration and simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from harness.score.statistics import (
    bootstrap_interval,
    bootstrap_sums,
    holm,
    permutation_p,
    permuted_sums,
    wilson,
)


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 20), (7, 10), (1821, 3023), (3023, 3023)])
def test_wilson_equals_scipy(successes: int, n: int) -> None:
    expected = scipy.stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
    assert tuple(wilson(successes, n)) == pytest.approx((expected.low, expected.high), abs=1e-12)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_and_never_collapses(case: tuple[int, int]) -> None:
    successes, n = case
    low, high = wilson(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    assert high > low


def test_bootstrap_sums_are_weighted_sums_of_rows() -> None:
    rows = np.column_stack([np.ones(30), np.arange(30.0)])
    sums = bootstrap_sums(rows, 500, seed=1)
    assert sums.shape == (500, 2)
    assert (sums[:, 0] == 30).all()
    assert sums[:, 1].mean() == pytest.approx(rows[:, 1].sum(), rel=0.02)
    assert sums[:, 1].std() == pytest.approx(np.sqrt(30) * rows[:, 1].std(), rel=0.1)


def test_bootstrap_draws_the_same_paintings_for_every_statistic() -> None:
    left, right = np.arange(12.0)[:, None], np.arange(12.0)[:, None] ** 2
    together = bootstrap_sums(np.concatenate([left, right], axis=1), 50, seed=3)
    np.testing.assert_array_equal(together[:, :1], bootstrap_sums(left, 50, seed=3))
    np.testing.assert_array_equal(together[:, 1:], bootstrap_sums(right, 50, seed=3))
    assert (bootstrap_sums(left, 50, seed=4) != together[:, :1]).any()


def test_bootstrap_interval_of_a_ratio_agrees_with_scipy() -> None:
    """SciPy's BCa interval at the level that Student's t with 79 degrees of freedom widens 95 % to."""
    generator = np.random.default_rng(0)
    up, down = generator.gamma(2, 1, 80), generator.gamma(5, 1, 80)
    rows = np.column_stack([up, down])
    sums, total = bootstrap_sums(rows, 4000, seed=0), rows.sum(0)
    left_out = (total - rows)[:, 0] / (total - rows)[:, 1]
    interval = bootstrap_interval(sums[:, 0] / sums[:, 1], total[0] / total[1], left_out)
    level = 2 * scipy.stats.norm.cdf(scipy.stats.t.ppf(0.975, 79) * np.sqrt(80 / 79)) - 1
    expected = scipy.stats.bootstrap(
        (up, down), lambda u, d: u.sum() / d.sum(), paired=True, vectorized=False, method="BCa", n_resamples=4000,
        rng=np.random.default_rng(1), confidence_level=level,
    ).confidence_interval  # fmt: skip
    assert interval == pytest.approx((expected.low, expected.high), rel=0.02)


def test_bootstrap_interval_without_replicates_or_variation() -> None:
    values = np.concatenate([np.linspace(0, 1, 101), np.full(20, np.nan)])
    symmetric = np.array([0.4, 0.6] * 500)
    assert bootstrap_interval(values, 0.5, symmetric) == pytest.approx((0.025, 0.975), abs=0.001)
    assert bootstrap_interval(np.full(3, np.nan), 0.5, symmetric) is None
    assert bootstrap_interval(np.full(30, 0.5), 0.5, np.full(9, 0.5)) == (0.5, 0.5)
    assert bootstrap_interval(values, 0.5, np.ones(1)) is None


def test_permutation_p_approaches_the_exact_test() -> None:
    generator = np.random.default_rng(2)
    a, b = generator.normal(0.6, 1, 10), generator.normal(0, 1, 10)
    signs = np.array(list(itertools.product([1, -1], repeat=10)))
    exact = (np.abs(signs @ (a - b)) >= abs((a - b).sum()) - 1e-9).mean()
    sums_a, sums_b = permuted_sums(a[:, None], b[:, None], 20_000, seed=0)
    p = permutation_p((a - b).sum(), (sums_a - sums_b)[:, 0])
    assert p == pytest.approx(exact, abs=0.01)


def test_permutations_keep_what_the_two_have_together() -> None:
    generator = np.random.default_rng(4)
    a, b = generator.random((15, 3)), generator.random((15, 3))
    sums_a, sums_b = permuted_sums(a, b, 100, seed=0)
    np.testing.assert_allclose(sums_a + sums_b, np.tile((a + b).sum(0), (100, 1)))


def test_permutation_p_counts_ties_and_is_never_zero() -> None:
    assert permutation_p(1.0, np.array([0.5, -1.0, 0.2, 1.0 - 1e-15])) == 3 / 5
    assert permutation_p(9.0, np.zeros(99)) == 1 / 100
    assert permutation_p(0.0, np.zeros(99)) == 1.0


def test_holm_of_a_worked_example() -> None:
    """0.01 x 4, 0.02 x 3, then 0.03 x 2 = 0.06 and 0.04 x 1, raised to 0.06."""
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([]) == []
    assert holm([0.6, 0.7]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_keeps_order_and_only_raises(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()

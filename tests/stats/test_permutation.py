"""Permutation p-values: equal to scipy's, exact for small groups, uniform under the null."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import kstest, permutation_test

from mechprobe.errors import InputError
from mechprobe.stats import empirical_p, permutation_p


def mean_difference(a, b, axis=0):
    return np.mean(a, axis=axis) - np.mean(b, axis=axis)


@pytest.mark.parametrize("tail", ["greater", "less", "two-sided"])
def test_small_groups_are_exact_like_scipy(tail):
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.8, 1, 5), rng.normal(0, 1, 6)
    expected = permutation_test((a, b), mean_difference, alternative=tail, n_resamples=np.inf)
    assert permutation_p(a, b, tail=tail) == pytest.approx(expected.pvalue)


def test_exact_p_counts_every_relabelling():
    values = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    chosen = [values[list(c)].sum() for c in combinations(range(5), 2)]
    p = permutation_p(values[[3, 4]], values[:3], tail="greater")
    assert p == pytest.approx(np.mean(np.array(chosen) >= 24)) == pytest.approx(0.1)


def test_random_relabelling_agrees_with_the_exact_value():
    rng = np.random.default_rng(1)
    a, b = rng.normal(0.5, 1, 8), rng.normal(0, 1, 9)
    exact = permutation_p(a, b, n=100_000)
    assert permutation_p(a, b, n=9_999, seed=2) == pytest.approx(exact, abs=0.015)


@pytest.mark.parametrize("tail", ["greater", "two-sided"])
def test_p_is_uniform_when_groups_do_not_differ(tail):
    rng = np.random.default_rng(2)
    values = [
        permutation_p(rng.exponential(size=6), rng.exponential(size=30), n=400, seed=i, tail=tail)
        for i in range(300)
    ]
    assert kstest(values, "uniform").pvalue > 0.01


def test_a_p_by_counting_is_never_zero_and_uniform_under_its_null():
    assert empirical_p(9.0, np.zeros(99)) == pytest.approx(0.01)
    assert empirical_p(9.0, np.zeros(99), "less") == 1.0
    assert empirical_p(0.1 + 0.2, np.full(9, 0.3)) == 1.0
    rng = np.random.default_rng(3)
    values = [empirical_p(rng.normal(), rng.normal(size=99), "two-sided") for _ in range(400)]
    assert kstest(values, "uniform").pvalue > 0.01


def test_wrong_input_is_named():
    with pytest.raises(InputError, match="at least one draw"):
        empirical_p(1.0, np.array([], float))
    with pytest.raises(InputError, match="unknown tail 'up'"):
        empirical_p(1.0, np.zeros(3), "up")
    with pytest.raises(InputError, match="two groups"):
        permutation_p(np.array([], float), np.zeros(3))

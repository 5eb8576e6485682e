"""Spread between members: scipy's test, uniform under the null, and powerful beside it."""

import numpy as np
import pytest
from scipy.stats import chi2, chi2_contingency, kstest

from mechprobe.errors import InputError
from mechprobe.stats import excess_spread, excess_spread_separate


def test_separate_examples_are_scipys_contingency_test():
    right = np.array([61, 70, 55, 66])
    expected = chi2_contingency(np.stack([right, 100 - right]), correction=False)
    ours = excess_spread_separate(right / 100, 100)
    assert (ours.statistic, ours.p) == pytest.approx((expected.statistic, expected.pvalue))
    n = np.array([100, 120, 80, 400])
    expected = chi2_contingency(np.stack([right, n - right]), correction=False)
    assert excess_spread_separate(right / n, n).p == pytest.approx(expected.pvalue)


def test_p_is_uniform_on_separate_examples():
    rng = np.random.default_rng(0)
    draws = rng.binomial(1_000, 0.6, (300, 12)) / 1_000
    found = [excess_spread_separate(accuracy, 1_000) for accuracy in draws]
    assert kstest([s.p for s in found], "uniform").pvalue > 0.01
    assert kstest([s.range_p for s in found], "uniform").pvalue > 0.01
    assert np.mean([s.observed_sd for s in found]) == pytest.approx(
        np.mean([s.sampling_sd for s in found]), rel=0.05
    )
    outside = np.mean([s.high - s.low > s.sampling_range for s in found])
    assert 0.02 < outside < 0.09


def members_on_shared_examples(rng, k=8, n=400, shift=0.0):
    """Equally good members whose errors agree, some pairs more than others, in two sub-cases."""
    difficulty = rng.normal(size=n)
    twins = rng.normal(size=(2, n))
    own = rng.normal(size=(k, n))
    own[: k // 2] = 0.3 * own[: k // 2] + 0.954 * twins[0]
    ease = np.where(np.arange(n) < n // 4, 0.8, -0.2)
    return (difficulty + own + ease + shift * np.arange(k)[:, None] > 0).astype(float)


def test_p_is_uniform_on_shared_examples():
    rng = np.random.default_rng(1)
    strata = np.repeat([0, 1], [100, 300])
    found = [
        excess_spread(members_on_shared_examples(rng), strata, n=500, seed=i)
        for i in range(300)
    ]
    assert kstest([s.p for s in found], "uniform").pvalue > 0.01
    assert kstest([s.range_p for s in found], "uniform").pvalue > 0.01


def test_the_test_for_separate_examples_is_cautious_on_shared_ones():
    rng = np.random.default_rng(2)
    outcomes = [members_on_shared_examples(rng) for _ in range(100)]
    assert np.mean([excess_spread_separate(o.mean(1), 400).p < 0.05 for o in outcomes]) <= 0.05
    shifted = members_on_shared_examples(rng, shift=0.05)
    assert excess_spread(shifted).p < excess_spread_separate(shifted.mean(1), 400).p


def test_two_members_are_a_paired_test():
    rng = np.random.default_rng(3)
    correct = (rng.random((2, 500)) < [[0.7], [0.6]]).astype(float)
    gap = correct[0] - correct[1]
    z = gap.mean() ** 2 / (gap.var(ddof=1) / 500)
    ours = excess_spread(correct)
    assert ours.degrees == pytest.approx(1)
    assert (ours.statistic, ours.p) == pytest.approx((z, chi2.sf(z, 1)))


def test_strata_weigh_the_same_whatever_their_size():
    correct = np.array([[1, 1, 0, 0, 0, 0], [1, 0, 1, 1, 1, 0]], float)
    ours = excess_spread(correct, np.array(list("aabbbb")))
    assert (ours.low, ours.high) == (0.5, 0.625)


def test_what_sampling_cannot_explain_is_left_over():
    rng = np.random.default_rng(4)
    true = np.linspace(0.3, 0.6, 12)
    found = excess_spread_separate(rng.binomial(1_000, true) / 1_000, 1_000)
    assert found.p < 1e-6
    assert found.range_p < 1e-6
    assert found.excess_sd == pytest.approx(np.std(true, ddof=1), rel=0.2)
    assert found.high - found.low > found.sampling_range


def test_equal_and_opposite_members():
    same = excess_spread(np.ones((4, 50)))
    assert (same.p, same.sampling_sd, same.excess_sd) == (1.0, 0.0, 0.0)
    assert excess_spread_separate(np.ones(4), 50).p == 1.0
    opposite = excess_spread(np.array([[1.0] * 50, [0.0] * 50]))
    assert opposite.p == 0.0
    assert excess_spread_separate(np.array([0.0, 1.0]), 50).p < 1e-10


def test_wrong_input_is_named():
    with pytest.raises(InputError, match=r"\[0\.5\]"):
        excess_spread_separate(np.array([0.5]), 10)
    with pytest.raises(InputError, match=r"80\.0"):
        excess_spread_separate(np.array([80.0, 70.0]), 10)
    with pytest.raises(InputError, match=r"strata of \[3, 1\]"):
        excess_spread(np.ones((2, 4)), np.array([0, 0, 0, 1]))

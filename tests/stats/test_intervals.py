"""Intervals: scipy's where it has the same, and coverage where only that can tell."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from mechprobe.errors import InputError
from mechprobe.stats import (
    Interval,
    bootstrap_mean,
    bootstrap_statistic,
    t_interval,
    wilson,
)


@pytest.mark.parametrize(("successes", "n"), [(0, 7), (7, 7), (3, 9), (812, 1000)])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_wilson_is_scipys(successes, n, level):
    expected = scipy_stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    ours = wilson(successes, n, level)
    assert (ours.low, ours.high) == pytest.approx((expected.low, expected.high))
    assert ours.low <= ours.estimate == successes / n <= ours.high


def test_student_interval_is_scipys():
    values = np.random.default_rng(0).normal(size=5)
    expected = scipy_stats.ttest_1samp(values, 0).confidence_interval(0.9)
    ours = t_interval(values, 0.9)
    assert (ours.low, ours.high) == pytest.approx((expected.low, expected.high))
    alone = t_interval(np.array([0.4]))
    assert alone.estimate == 0.4
    assert np.isnan(alone.low)
    assert np.isnan(alone.high)


@pytest.mark.parametrize("binary", [True, False])
def test_bootstrap_agrees_with_scipys_percentiles(binary):
    rng = np.random.default_rng(1)
    values = (rng.random(400) < 0.8).astype(float) if binary else rng.exponential(size=400)
    expected = scipy_stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, rng=2
    ).confidence_interval
    ours = bootstrap_mean(values, seed=3, n=20_000)
    width = expected.high - expected.low
    assert ours.low == pytest.approx(expected.low, abs=0.06 * width)
    assert ours.high == pytest.approx(expected.high, abs=0.06 * width)
    generic = bootstrap_statistic(values, lambda v: float(v.mean()), seed=4, n=4_000)
    assert generic.low == pytest.approx(expected.low, abs=0.1 * width)
    assert generic.high == pytest.approx(expected.high, abs=0.1 * width)


@pytest.mark.parametrize("binary", [True, False])
def test_bootstrap_intervals_cover_the_truth_as_often_as_they_say(binary):
    rng = np.random.default_rng(4)
    inside = 0
    for trial in range(300):
        values = (rng.random(150) < 0.7) if binary else rng.normal(0.7, 1, 150)
        found = bootstrap_mean(values, seed=trial, n=400)
        inside += found.low <= 0.7 <= found.high
    assert scipy_stats.binomtest(inside, 300, 0.945).pvalue > 0.01


def test_strata_keep_their_sizes_in_every_resample():
    values = np.array([0.0, 0, 0, 10, 10])
    strata = np.array(["a", "a", "a", "b", "b"])
    seen = []

    def note(rows):
        seen.append(rows)
        return float(rows.mean())

    fixed = bootstrap_statistic(values, note, n=50, strata=strata)
    assert all((rows == values).all() for rows in seen)
    assert fixed.low == fixed.high == 4.0
    assert bootstrap_statistic(values, lambda v: float(v.mean()), n=200).low < 4.0


def test_a_seed_gives_the_same_interval_and_a_format_reads_well():
    values = np.random.default_rng(5).random(50)
    assert bootstrap_mean(values, seed=1) == bootstrap_mean(values, seed=1)
    assert bootstrap_mean(values, seed=1) != bootstrap_mean(values, seed=2)
    assert f"{Interval(0.5, 0.25, 0.75, 8):.0%}" == "50% [25%, 75%]"
    assert f"{t_interval(np.array([0.5])):.0%}" == "50%"


def test_wrong_input_is_named():
    with pytest.raises(InputError, match="0 values"):
        bootstrap_mean(np.array([]))
    with pytest.raises(InputError, match="1 of them NaN"):
        t_interval(np.array([0.1, np.nan]))
    with pytest.raises(InputError, match="9 successes of 8"):
        wilson(9, 8)
    with pytest.raises(InputError, match="got 95"):
        wilson(3, 8, 95.0)
    with pytest.raises(InputError, match="at least one example"):
        bootstrap_statistic(np.zeros(0), lambda v: 0.0)

"""Corrected p-values: scipy's, the closed test by brute force, and error rates under the null."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from mechprobe.errors import InputError
from mechprobe.stats import benjamini_hochberg, holm


def test_benjamini_hochberg_is_scipys():
    p = np.random.default_rng(0).random(20) ** 3
    np.testing.assert_allclose(benjamini_hochberg(p), false_discovery_control(p))


def test_holm_is_the_closed_bonferroni_test():
    """Corrected p of a test: the largest Bonferroni p over all sets of tests it belongs to."""
    p = np.random.default_rng(1).random(6) ** 2
    closed = [
        max(
            min(1.0, len(chosen) * p[list(chosen)].min())
            for size in range(1, 7)
            for chosen in combinations(range(6), size)
            if i in chosen
        )
        for i in range(6)
    ]
    np.testing.assert_allclose(holm(p), closed)


def test_error_rates_under_the_null():
    p = np.random.default_rng(2).random((2_000, 8))
    any_false = np.mean([(holm(row) < 0.1).any() for row in p])
    assert any_false == pytest.approx(1 - (1 - 0.1 / 8) ** 8, abs=0.02)
    assert np.mean([(benjamini_hochberg(row) < 0.1).any() for row in p]) == pytest.approx(
        0.1, abs=0.02
    )


@pytest.mark.parametrize("correct", [holm, benjamini_hochberg])
def test_missing_tests_are_not_counted(correct):
    p = np.array([0.01, np.nan, 0.2, 0.04])
    corrected = correct(p)
    assert np.isnan(corrected[1])
    np.testing.assert_allclose(corrected[[0, 2, 3]], correct(p[[0, 2, 3]]))
    assert len(correct(np.array([], float))) == 0
    with pytest.raises(InputError, match=r"got 0.2 to 1.5"):
        correct(np.array([0.2, 1.5]))

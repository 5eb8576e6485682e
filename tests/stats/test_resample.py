"""Shared resamples: against a loop, a known standard error, and strata that keep their sizes."""

from __future__ import annotations

import numpy as np
import pytest

from mechprobe.errors import InputError
from mechprobe.stats import central, resample_counts, resampled_scores

STRATA = np.array(["a"] * 30 + ["b"] * 10)


def test_every_stratum_keeps_its_size():
    counts = resample_counts(STRATA, 50, seed=3)
    assert (counts[:, :30].sum(1) == 30).all()
    assert (counts[:, 30:].sum(1) == 10).all()
    assert len(np.unique(counts, axis=0)) > 40


def test_scores_are_means_of_stratum_means():
    values = np.random.default_rng(0).random((3, 40))
    counts = resample_counts(STRATA, 20, seed=5)
    found = resampled_scores(values, STRATA, seed=5, n=20)
    for draw, row in np.ndindex(20, 3):
        again = np.repeat(values[row], counts[draw])
        a, b = again[: 30], again[30:]
        assert found[draw, row] == pytest.approx((a.mean() + b.mean()) / 2)


def test_the_interval_has_the_width_of_the_standard_error():
    values = np.random.default_rng(1).normal(size=(1, 400))
    low, high = central(resampled_scores(values, n=4_000))
    expected = 2 * 1.96 * values.std() / 20
    assert high[0] - low[0] == pytest.approx(expected, rel=0.08)
    assert low[0] < values.mean() < high[0]


def test_rows_share_their_resamples():
    values = np.random.default_rng(2).random((1, 50))
    both = resampled_scores(np.concatenate([values, values + 1]), n=30)
    np.testing.assert_allclose(both[:, 1] - both[:, 0], 1)


def test_no_examples_are_refused():
    with pytest.raises(InputError, match="at least one example"):
        resampled_scores(np.zeros((2, 0)))

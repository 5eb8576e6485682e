"""Concentration: Gini by its definition, half of the mass by trying, a null that is uniform."""

from itertools import combinations

import numpy as np
import pytest

from mechprobe.errors import InputError
from mechprobe.stats.concentration import gini, gini_null, sites_with_share


def test_gini_is_half_the_relative_mean_difference():
    values = np.random.default_rng(0).gamma(1.0, 2.0, 17)
    pairs = np.abs(values[:, None] - values[None]).mean()
    assert gini(values) == pytest.approx(pairs / (2 * values.mean()))
    assert gini(np.ones(5)) == pytest.approx(0)
    assert gini(np.array([0.0, -3.0, 0.0, 7.0])) == pytest.approx(3 / 4)
    assert np.isnan(gini(np.array([-1.0, 0.0])))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 1.0])
def test_the_fewest_sites_with_a_share(share):
    values = np.array([3.0, -1.0, 0.5, 2.0, 0.0, 1.5])
    positive = np.clip(values, 0, None)
    fewest = min(
        size for size in range(7) for chosen in combinations(range(6), size)
        if positive[list(chosen)].sum() >= share * positive.sum() - 1e-12
    )
    assert sites_with_share(values, share) == fewest
    assert sites_with_share(-np.ones(3), share) == 0
    with pytest.raises(InputError, match="share 0"):
        sites_with_share(values, 0.0)


def test_without_special_sites_the_null_is_right_and_with_them_it_is_beaten():
    rng = np.random.default_rng(0)
    p = []
    for seed in range(60):
        first, second = rng.normal(size=(6, 30)), rng.normal(size=(6, 20))
        found = gini(first.mean(1) - second.mean(1))
        p.append(float((gini_null(first, second, 60, seed) >= found).mean()))
    assert 0.35 < np.mean(p) < 0.65
    assert min(p) < 0.2
    first = rng.normal(size=(6, 200))
    first[2] += 3
    assert gini(first.mean(1)) > gini_null(first, np.zeros((6, 5)), 100).max()

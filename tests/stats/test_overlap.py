"""Overlap of random sets: against every possible set for few sites, and uniform under the null."""

from itertools import combinations, product

import numpy as np
import pytest
from scipy.stats import hypergeom, kstest

from mechprobe.errors import InputError
from mechprobe.stats import (
    core_distribution,
    core_size,
    expected_core,
    jaccard_matrix,
    mean_jaccard,
    overlap_null,
    overlap_test,
)


def every_choice(sizes, n_sites):
    """All ways to choose sets of the given sizes per stratum, as [choice, k, site]."""
    starts = np.concatenate([[0], np.cumsum(n_sites)])
    per_member = []
    for row in sizes:
        parts = [
            [tuple(starts[s] + i for i in chosen) for chosen in combinations(range(n_sites[s]), m)]
            for s, m in enumerate(row)
        ]
        rows = []
        for choice in product(*parts):
            member = np.zeros(starts[-1], bool)
            member[[i for part in choice for i in part]] = True
            rows.append(member)
        per_member.append(rows)
    return np.array(list(product(*per_member)))


CASES = [
    ([[2], [3], [4]], [5]),
    ([[1, 2], [2, 1], [2, 3]], [3, 3]),
    ([[0, 2], [2, 2]], [4, 3]),
]


@pytest.mark.parametrize(("sizes", "n_sites"), CASES)
def test_the_core_distribution_is_the_count_over_every_choice(sizes, n_sites):
    sets = every_choice(sizes, n_sites)
    sizes, n_sites = np.array(sizes), np.array(n_sites)
    counted = np.bincount(sets.all(1).sum(1), minlength=n_sites.sum() + 1) / len(sets)
    np.testing.assert_allclose(core_distribution(sizes, n_sites), counted, atol=1e-12)
    for share in (1.0, 0.6, 0.3):
        assert expected_core(sizes, n_sites, share) == pytest.approx(
            np.mean([core_size(one, share) for one in sets])
        )


def test_two_sets_meet_hypergeometrically():
    expected = hypergeom.pmf(np.arange(21), 20, 8, 11)
    np.testing.assert_allclose(core_distribution(np.array([8, 11]), 20), expected, atol=1e-12)
    assert expected_core(np.array([8, 11, 5]), 20) == pytest.approx(20 * 8 * 11 * 5 / 20**3)


@pytest.mark.parametrize(("sizes", "n_sites"), CASES)
def test_a_test_matches_the_count_over_every_choice(sizes, n_sites):
    sets = every_choice(sizes, n_sites)
    strata = np.repeat(np.arange(len(n_sites)), n_sites)
    members = sets[len(sets) // 3]
    core = overlap_test(members, "core", strata=strata, n=50)
    everywhere = [core_size(one) for one in sets]
    assert core.p == pytest.approx(np.mean(np.array(everywhere) >= core.observed))
    assert core.expected == pytest.approx(np.mean(everywhere))
    alike = overlap_test(members, "jaccard", strata=strata, n=4_000, seed=1)
    similarities = np.array([mean_jaccard(one) for one in sets])
    assert alike.expected == pytest.approx(similarities.mean())
    assert alike.p == pytest.approx((similarities >= alike.observed - 1e-9).mean(), abs=0.03)
    assert alike.null.mean() == pytest.approx(similarities.mean(), abs=0.02)


def test_draws_keep_the_sizes_and_follow_the_exact_distribution():
    sizes, n_sites = np.array([[3, 1], [4, 2], [3, 2]]), np.array([6, 4])
    null = overlap_null(sizes, n_sites, "core", n=20_000, seed=3)
    counted = np.bincount(null.astype(int), minlength=11) / len(null)
    np.testing.assert_allclose(counted, core_distribution(sizes, n_sites), atol=0.012)
    again = overlap_null(sizes, n_sites, "core", n=20_000, seed=3)
    np.testing.assert_array_equal(null, again)


@pytest.mark.parametrize("stratified", [False, True])
def test_p_of_random_sets_is_uniform(stratified):
    rng = np.random.default_rng(5)
    strata = np.repeat(np.arange(3), 10)
    values = []
    for trial in range(300):
        members = np.zeros((5, 30), bool)
        for row in members:
            if stratified:
                for layer, size in enumerate((3, 6, 8)):
                    row[layer * 10 + rng.choice(10, size, replace=False)] = True
            else:
                row[rng.choice(30, 17, replace=False)] = True
        test = overlap_test(
            members, "jaccard", strata=strata if stratified else None, n=200, seed=trial
        )
        ties = (np.abs(test.null - test.observed) < 1e-9).sum() / len(test.null)
        values.append(test.p - rng.random() * ties)
    assert kstest(values, "uniform").pvalue > 0.01


def test_exact_p_of_random_cores_is_uniform_once_ties_are_split():
    rng = np.random.default_rng(6)
    sizes = np.array([9, 8, 10])
    chances = core_distribution(sizes, 12)
    values = []
    for _ in range(400):
        members = np.stack([rng.permutation(12) < size for size in sizes])
        test = overlap_test(members, "core", n=10)
        values.append(test.p - rng.random() * chances[int(test.observed)])
    assert kstest(values, "uniform").pvalue > 0.01


def test_layer_preference_alone_is_no_core_within_layers():
    """Sets that all keep most of layer 0 share much by chance, but not more than that explains."""
    rng = np.random.default_rng(7)
    members = np.zeros((8, 24), bool)
    for row in members:
        row[rng.choice(12, 11, replace=False)] = True
        row[12 + rng.choice(12, 1)] = True
    anywhere = overlap_test(members, "core")
    in_layers = overlap_test(members, "core", strata=np.repeat([0, 1], 12))
    assert anywhere.p < 0.01 < in_layers.p
    assert in_layers.expected == pytest.approx(12 * (11 / 12) ** 8, rel=0.01)


def test_jaccard_by_hand():
    sets = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]], bool)
    expected = [[1, 1 / 3, 0, 0], [1 / 3, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    np.testing.assert_allclose(jaccard_matrix(sets), expected)
    assert mean_jaccard(sets) == pytest.approx((1 / 3 + 1) / 6)


def test_wrong_input_is_named():
    members = np.ones((1, 4), bool)
    with pytest.raises(InputError, match="at least two sets"):
        overlap_test(members)
    with pytest.raises(InputError, match="'core' or 'jaccard'"):
        overlap_test(np.ones((2, 4), bool), "dice")
    with pytest.raises(InputError, match="do not fit"):
        overlap_null(np.array([5, 2]), 4)
    with pytest.raises(InputError, match=r"\(0, 1\]"):
        core_size(members, 0.0)

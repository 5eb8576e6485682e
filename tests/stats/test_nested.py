"""Nested bootstrap: the plain one with one replicate, wider between replicates, and its cover."""

import numpy as np
import pytest

from mechprobe.errors import InputError
from mechprobe.stats import bootstrap_mean
from mechprobe.stats.nested import nested_bootstrap, nested_ratio


def test_one_replicate_is_the_plain_bootstrap():
    values = np.random.default_rng(0).normal(1.0, 2.0, 200)
    ours, plain = nested_bootstrap([values], n=8_000), bootstrap_mean(values, n=8_000)
    assert ours.estimate == plain.estimate
    assert (ours.low, ours.high) == pytest.approx((plain.low, plain.high), abs=0.03)


def test_replicates_weigh_the_same_whatever_their_size():
    found = nested_bootstrap([np.ones(1_000), np.zeros(10)])
    assert found.estimate == 0.5
    assert (found.low, found.high) == (0.0, 1.0)  # both drawn twice happens often


def test_against_a_naive_loop():
    rng = np.random.default_rng(1)
    rows = [rng.integers(0, 2, 50).astype(float), rng.normal(size=30), rng.normal(2, 1, 40)]
    means = []
    for _ in range(4_000):
        picked = [rows[i] for i in rng.integers(3, size=3)]
        means.append(np.mean([rng.choice(part, len(part)).mean() for part in picked]))
    found = nested_bootstrap(rows, n=4_000)
    assert (found.low, found.high) == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.12)


def test_differences_between_replicates_widen_it():
    rng = np.random.default_rng(2)
    same = [rng.normal(0, 1, 300) for _ in range(5)]
    apart = [part + shift for part, shift in zip(same, (-2, -1, 0, 1, 2), strict=True)]
    narrow, wide = nested_bootstrap(same), nested_bootstrap(apart)
    assert wide.high - wide.low > 4 * (narrow.high - narrow.low)


def test_nothing_is_refused():
    with pytest.raises(InputError, match="needs one or more replicates"):
        nested_bootstrap([])
    with pytest.raises(InputError, match="needs one or more replicates"):
        nested_bootstrap([np.ones(3), np.ones(0)])


def test_a_ratio_against_a_naive_loop():
    rng = np.random.default_rng(3)
    below = [rng.integers(0, 2, 60).astype(float), rng.integers(0, 2, 40).astype(float)]
    above = [part * rng.integers(0, 2, len(part)) for part in below]
    ratios = []
    for _ in range(4_000):
        sets = rng.integers(2, size=2)
        picked = [(i, rng.integers(len(below[i]), size=len(below[i]))) for i in sets]
        ratios.append(np.mean([above[i][rows].mean() for i, rows in picked])
                      / np.mean([below[i][rows].mean() for i, rows in picked]))
    found = nested_ratio(above, below, n=4_000)
    parts = [[part.mean() for part in rows] for rows in (above, below)]
    assert found.estimate == pytest.approx(np.mean(parts[0]) / np.mean(parts[1]))
    assert (found.low, found.high) == pytest.approx(np.percentile(ratios, [2.5, 97.5]), abs=0.02)
    assert found.n == 100


def test_a_share_of_itself_is_one_and_of_nothing_unknown():
    values = [np.array([0.0, 1, 1, 1] * 10)]
    same = nested_ratio(values, values)
    assert (same.estimate, same.low, same.high) == (1, 1, 1)
    maybe = nested_ratio(values, [np.array([1.0, -1, 0.1, 0] * 10)], n=200)
    assert maybe.estimate > 0
    assert np.isnan([maybe.low, maybe.high]).all()
    assert np.isnan(nested_ratio(values, [np.zeros(40)]).estimate)
    with pytest.raises(InputError, match=r"the same examples above and below.*\[40\] and \[3\]"):
        nested_ratio(values, [np.ones(3)])

from itertools import permutations

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from mechprobe.errors import InputError
from mechprobe.stats.mantel import mantel, off_diagonal_correlation, within_across


def matrix(seed: int, n: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, n))


def cells(m: np.ndarray) -> np.ndarray:
    return m[~np.eye(len(m), dtype=bool)]


@pytest.mark.parametrize(("method", "other"), [("spearman", spearmanr), ("pearson", pearsonr)])
def test_r_is_scipys_over_the_off_diagonal_cells(method, other):
    a, b = matrix(0), matrix(1)
    found = mantel(a, b, method=method, n=10)
    assert found.r == pytest.approx(other(cells(a), cells(b)).statistic)
    assert off_diagonal_correlation(a, b, method) == pytest.approx(found.r)


def test_p_is_the_share_of_all_permutations():
    a = matrix(2, 5)
    b = a + 0.8 * matrix(3, 5)
    exact = [pearsonr(cells(a[np.ix_(o, o)]), cells(b)).statistic for o in permutations(range(5))]
    share = np.mean(np.array(exact) >= pearsonr(cells(a), cells(b)).statistic - 1e-9)
    found = mantel(a, b, method="pearson", n=4_000)
    assert found.p == pytest.approx(share, abs=0.012)


def test_p_is_uniform_when_nothing_is_there():
    p = [mantel(matrix(s, 7), matrix(1000 + s, 7), n=60, seed=s).p for s in range(120)]
    assert 0.4 < np.mean(p) < 0.6
    assert 0.02 <= np.mean(np.array(p) <= 0.1) <= 0.2


def test_the_partial_correlation_takes_out_what_is_given():
    c = matrix(5, 30)
    a, b = c + 0.3 * matrix(6, 30), c + 0.3 * matrix(7, 30)
    assert mantel(a, b, method="pearson", n=200).r > 0.8
    partial = mantel(a, b, method="pearson", given=c, n=500)
    x, y, z = cells(a), cells(b), cells(c)
    rx = x - np.polyval(np.polyfit(z, x, 1), z)
    ry = y - np.polyval(np.polyfit(z, y, 1), z)
    assert partial.r == pytest.approx(pearsonr(rx, ry).statistic)
    assert partial.p > 0.05


def test_within_minus_across_and_its_permutations():
    groups = ["a", "a", "b", "b", "c"]
    values = np.full((5, 5), 1.0)
    values[0, 1] = values[1, 0] = 3.0
    values[2, 3] = 5.0
    found = within_across(values, groups, n=500)
    assert found.within == pytest.approx((3 + 3 + 5 + 1) / 4)
    assert found.across == 1.0
    assert found.difference == pytest.approx(2.0)
    p = [within_across(matrix(s, 9), list("aaabbbccc"), n=60).p for s in range(80)]
    assert 0.38 < np.mean(p) < 0.62


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mantel(matrix(0, 2), matrix(1, 2)), "a matrix of shape"),
        (lambda: mantel(matrix(0), matrix(1), method="kendall"), "unknown method"),
        (lambda: mantel(matrix(0), np.ones((8, 8))), "is constant off its diagonal"),
        (lambda: mantel(matrix(0), matrix(1), given=matrix(0)), "is a function of the one given"),
        (lambda: mantel(matrix(0), np.full((8, 8), np.nan)), "is not finite"),
        (lambda: within_across(matrix(0, 3), ["a", "b", "c"]), "two groups or more"),
        (lambda: within_across(matrix(0, 3), ["a", "b"]), "3 items and 2 groups"),
    ],
)
def test_what_cannot_be_tested_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()

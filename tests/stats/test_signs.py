"""Sign flips against enumeration, and their p under the null."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from mechprobe.errors import InputError
from mechprobe.stats import sign_flip_p


def enumerated(values):
    """Share of all sign patterns whose sum is at least as far from zero as the observed one."""
    sums = [abs(np.dot(signs, values)) for signs in product((-1, 1), repeat=len(values))]
    return np.mean([s >= abs(sum(values)) - 1e-9 for s in sums])


@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_few_examples_are_exact(n):
    rows = np.random.default_rng(n).normal(0.4, 1, size=(4, n))
    np.testing.assert_allclose(sign_flip_p(rows), [enumerated(row) for row in rows], atol=1e-12)


def test_a_drawn_p_is_near_the_exact_one():
    values = np.random.default_rng(0).normal(0.5, 1, size=12)
    drawn = sign_flip_p(values[None], n=4000)[0]
    assert abs(drawn - enumerated(values)) < 0.02
    assert sign_flip_p(values[None], n=4000, seed=1)[0] != drawn
    assert sign_flip_p(values[None], n=4000)[0] == drawn


def test_p_is_uniform_under_the_null():
    rows = np.random.default_rng(3).standard_t(3, size=(2000, 20))
    p = sign_flip_p(rows, n=999)
    for level in (0.01, 0.05, 0.2, 0.5, 0.8):
        assert abs((p <= level).mean() - level) < 3.5 * np.sqrt(level * (1 - level) / 2000)


@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e9])
def test_the_unit_does_not_matter(unit):
    rows = np.random.default_rng(5).normal(0.3, 1, size=(3, 8))
    np.testing.assert_array_equal(sign_flip_p(unit * rows), sign_flip_p(rows))


def test_a_row_of_zeros_is_no_evidence_and_shapes_are_kept():
    rows = np.zeros((2, 3, 30))
    rows[1, 2] = 1
    p = sign_flip_p(rows, n=500)
    assert p.shape == (2, 3)
    assert p[1, 2] == 1 / 501
    assert (np.delete(p.ravel(), 5) == 1).all()
    assert sign_flip_p(np.ones(40)).shape == ()


def test_what_is_no_number_is_refused():
    with pytest.raises(InputError, match="got 0 examples, 0 NaN"):
        sign_flip_p(np.zeros((2, 0)))
    with pytest.raises(InputError, match="got 3 examples, 1 NaN"):
        sign_flip_p(np.array([1, np.nan, 2]))

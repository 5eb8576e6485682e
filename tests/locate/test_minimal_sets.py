"""Minimal sets and transversals against brute force over every subset."""

from itertools import product

import numpy as np
import pytest

from mechprobe.locate.minimal_sets import (
    Family,
    dualise,
    exhaustive,
    largest_size,
    probe,
    shrink,
)
from mechprobe.locate.transversals import (
    TooManySets,
    contains_any,
    minimal_only,
    minimal_transversals,
)


def asker(truth):
    """``holds`` of a table of truth values, with a count of the different questions."""
    asked = set()

    def holds(sets):
        asked.update(sets)
        return [bool(truth[mask]) for mask in sets]

    return holds, asked


def monotone(rng, n, members):
    drawn = rng.random((members, n)) < 0.35
    drawn[:, 0] |= ~drawn.any(1)
    family = (drawn @ (1 << np.arange(n))).tolist()
    return np.array([contains_any(mask, family) for mask in range(1 << n)])


def minimal_by_brute_force(truth):
    found = []
    for mask in np.flatnonzero(truth).tolist():
        subset, proper = mask, False
        while subset and not proper:
            subset = (subset - 1) & mask
            proper = bool(truth[subset])
        if not proper:
            found.append(mask)
    return set(found)


@pytest.mark.parametrize("seed", range(12))
def test_transversals_are_those_of_brute_force(seed):
    rng = np.random.default_rng(seed)
    n = 7
    family = [int(rng.integers(1, 1 << n)) for _ in range(rng.integers(0, 7))]
    meets = np.array([all(mask & m for m in family) for mask in range(1 << n)])
    assert set(minimal_transversals(family)) == minimal_by_brute_force(meets)
    back = minimal_transversals(minimal_transversals(family))
    assert set(back) == set(minimal_only(family))  # the dual of the dual


def test_transversals_of_an_empty_member_and_past_a_limit():
    assert minimal_transversals([0b101, 0]) == []
    pairs = [0b11 << 2 * i for i in range(8)]  # 2^8 transversals
    assert len(minimal_transversals(pairs)) == 256
    with pytest.raises(TooManySets):
        minimal_transversals(pairs, 100)


@pytest.mark.parametrize("seed", range(10))
def test_exhaustive_needs_no_monotonicity(seed):
    rng = np.random.default_rng(seed)
    n = 7
    truth = rng.random(1 << n) < rng.choice([0.02, 0.1, 0.4])
    holds, asked = asker(truth)
    family = Family()
    assert exhaustive(holds, n, family)
    expected = minimal_by_brute_force(truth)
    assert set(family.minimal) == expected
    assert all(mask in expected or not contains_any(mask, family.minimal) for mask in asked)


def test_exhaustive_up_to_a_size_and_a_number():
    rng = np.random.default_rng(5)
    truth = monotone(rng, 8, 6)
    expected = minimal_by_brute_force(truth)
    holds, _ = asker(truth)
    for size in range(9):
        family = Family()
        exhaustive(holds, 8, family, size=size)
        assert set(family.minimal) == {m for m in expected if m.bit_count() <= size}
        assert family.decided_size == size or not (expected - set(family.minimal))
    assert not exhaustive(holds, 8, Family(), max_sets=1)
    assert [largest_size(32, 600), largest_size(32, 528), largest_size(5, 99)] == [2, 1, 5]


@pytest.mark.parametrize("seed", range(20))
def test_dualising_finds_all_minimal_sets_of_a_monotone_property(seed):
    rng = np.random.default_rng([seed, 1])
    n = 9
    truth = monotone(rng, n, int(rng.integers(1, 9)))
    truth[-1] = True
    holds, asked = asker(truth)
    family, order = Family(), rng.permutation(n).tolist()
    dualise(holds, n, family, order=order)
    expected = minimal_by_brute_force(truth)
    assert family.complete
    assert set(family.minimal) == expected
    breaks = np.array([not truth[(1 << n) - 1 ^ mask] for mask in range(1 << n)])
    assert set(family.breaking) == minimal_by_brute_force(breaks)
    assert len(asked) < 1 << n
    assert probe(holds, n, family, count=50, seed=seed) == []
    assert (family.lost, family.probes) == ([], 50)


def test_dualising_asks_few_questions_of_many_elements():
    n = 60
    family_true = [0b11, 0b1100000, 1 << 50]
    count = 0

    def holds(sets):
        nonlocal count
        count += len(sets)
        return [contains_any(mask, family_true) for mask in sets]

    family = Family()
    dualise(holds, n, family, order=range(n))
    assert set(family.minimal) == set(family_true)
    assert len(family.breaking) == 4
    assert count < 120


def test_a_limit_on_sets_is_met_and_said():
    truth = np.array([mask.bit_count() >= 3 for mask in range(1 << 8)])  # 56 minimal sets
    family = Family()
    dualise(asker(truth)[0], 8, family, order=range(8), max_sets=10)
    assert not family.complete
    assert len(family.minimal) > 10
    assert set(family.minimal) <= minimal_by_brute_force(truth)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_shrunk_is_minimal_also_without_monotonicity(seed):
    rng = np.random.default_rng([seed, 2])
    n = 8
    truth = rng.random(1 << n) < 0.1
    truth[-1] = True
    found = shrink(asker(truth)[0], (1 << n) - 1, rng.permutation(n).tolist())
    assert found in minimal_by_brute_force(truth)


def test_probes_meet_what_dualising_missed():
    """a XOR b: opening b after a loses the property, so the full set has it only by c."""
    truth = np.array([
        (a != b) or (a and b and c)
        for *_, c, b, a in product((False, True), repeat=6)
    ])  # fmt: skip
    holds, _ = asker(truth)
    family = Family()
    dualise(holds, 6, family, order=range(6))
    probe(holds, 6, family, count=200, seed=0)
    assert family.lost
    assert all(not truth[mask] and contains_any(mask, family.minimal) for mask in family.lost)
    exact = Family()
    exhaustive(holds, 6, exact)
    assert set(exact.minimal) == {0b1, 0b10}


def test_a_set_found_by_chance_after_dualising_speaks_against_monotonicity():
    n, hidden = 10, 0b11
    truth = np.zeros(1 << n, bool)  # the two last elements together, or exactly the two first
    truth[[mask for mask in range(1 << n) if mask >> 8 == 0b11]] = True
    truth[[mask for mask in range(1 << n) if mask & hidden == hidden and mask >> 8 == 0
           and mask.bit_count() == 3]] = True  # fmt: skip
    holds, _ = asker(truth)
    family = Family()
    dualise(holds, n, family, order=range(n))
    assert family.complete
    assert family.minimal == [0b11 << 8]
    missed = probe(holds, n, family, count=3_000, seed=0)
    assert missed
    assert family.missed == missed
    assert not family.lost
    assert not family.monotone

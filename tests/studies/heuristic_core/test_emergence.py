"""Effective sizes and early cores, against counting every possibility."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest

from mechprobe.locate.subnetworks import SubnetworkSet
from mechprobe.sites import Site, SiteGrid
from mechprobe.stats import resample_counts
from mechprobe.studies.heuristic_core.emergence import (
    Outcomes,
    Point,
    core_overlap,
    effective_size,
    emergence_table,
    first_kept,
    size_difference,
    size_draws,
)

GRID = SiteGrid(2, 3)
HEADS = [s for s in GRID if s.kind == "head"]


@pytest.mark.parametrize(
    ("accuracy", "size"),
    [
        ([0.90, 0.89, 0.88, 0.5], 0.5),  # the largest that keeps it is 50 %
        ([0.90, 0.5, 0.88, 0.5], 0.5),  # not only the first stretch counts
        ([0.86, 0.86, 0.86, 0.86], 1.0),  # none is within 3 points
        ([0.87, 0.2, 0.2, 0.2], 0.9),  # exactly 3 points below still counts
        ([0.9, 0.9, 0.9, 0.95], 0.3),  # better than the full model counts
    ],
)
def test_the_effective_size(accuracy, size):
    sparsity = np.array([0.1, 0.3, 0.5, 0.7])
    assert effective_size(sparsity, np.array(accuracy), 0.9) == pytest.approx(size)


@pytest.mark.parametrize("full", [0.83, 0.57, 0.97, 0.33, 0.9])
def test_three_points_below_counts_whatever_the_rounding(full):
    assert effective_size(np.array([0.5]), np.array([round(full - 0.03, 2)]), full) == 0.5
    assert effective_size(np.array([0.5]), np.array([full - 0.031]), full) == 1.0


def test_members_of_one_sparsity_are_averaged():
    sparsity = np.array([0.5, 0.5, 0.3, 0.3])
    assert effective_size(sparsity, np.array([0.9, 0.7, 0.9, 0.9]), 0.9) == pytest.approx(0.7)
    assert effective_size(sparsity, np.array([0.9, 0.85, 0.9, 0.9]), 0.9) == pytest.approx(0.5)


N = 200


def right(share, n=N):
    """Outcomes of n examples of which a share is right, spread evenly."""
    return (np.arange(n) < round(share * n)).astype(float)


def point(step, sparsity, inside, full=0.9):
    """A step whose subnetworks have these accuracies in domain and half of them out of domain."""
    made = [
        Outcomes(np.stack([right(scale * a) for a in inside]), right(scale * full))
        for scale in (1, 0.5)
    ]  # fmt: skip
    return Point(step, np.array(sparsity), *made)


def test_steps_compare_over_the_sparsities_all_of_them_have():
    table = emergence_table([
        point(1, [0.3, 0.5, 0.5], [0.9, 0.6, 0.8]), point(2, [0.5, 0.7], [0.8, 0.1])
    ], n=20)  # fmt: skip
    np.testing.assert_allclose(table.in_domain, [0.7, 0.8])
    np.testing.assert_allclose(table.out_of_domain, [0.35, 0.4])
    assert table.size_in_domain.tolist() == [1.0, 1.0]  # at 30 % it would do, but step 2 lacks it
    apart = emergence_table([
        point(1, [0.3, 0.3, 0.3, 0.5], [0.9, 0.9, 0.9, 0.5]), point(2, [0.7], [0.1])
    ], n=20)  # fmt: skip
    np.testing.assert_allclose(apart.in_domain, [0.7, 0.1])
    np.testing.assert_allclose(apart.size_in_domain, [0.7, 1.0])


def test_each_sparsity_counts_once():
    table = emergence_table([
        point(1, [0.3, 0.5], [0.8, 0.6]),
        point(2, [0.3, 0.5, 0.5, 0.5, 0.7], [0.8, 0.6, 0.6, 0.6, 0.1]),
    ], n=20)  # fmt: skip
    assert table.in_domain.tolist() == pytest.approx([0.7, 0.7])


def test_the_table_over_training():
    made = point(100, [0.3, 0.5], [0.9, 0.88])
    outside = Outcomes(np.stack([right(0.4), right(0.1)]), right(0.42))
    (row,) = emergence_table([replace(made, out_of_domain=outside)], n=300).itertuples()
    assert (row.step, row.full_in_domain, row.full_out_of_domain) == (100, 0.9, 0.42)
    assert (row.in_domain, row.out_of_domain) == (pytest.approx(0.89), pytest.approx(0.25))
    assert (row.size_in_domain, row.size_out_of_domain) == (pytest.approx(0.5), pytest.approx(0.7))
    assert row.size_in_domain_low <= row.size_in_domain <= row.size_in_domain_high


def test_sizes_are_drawn_by_resampling_the_examples_of_every_row_together():
    sparsity = np.array([0.5, 0.5, 0.3])
    rng = np.random.default_rng(0)
    strata = np.array(["a", "b"] * (N // 2))
    outcomes = Outcomes((rng.random((3, N)) < 0.85).astype(float), right(0.87), strata)
    size, drawn = size_draws(sparsity, outcomes, seed=4, n=50)
    counts = resample_counts(strata, 50, seed=4)

    def by_hand(weights):
        score = lambda row: np.mean([  # noqa: E731
            np.average(row[strata == s], weights=weights[strata == s]) for s in "ab"
        ])
        rows = outcomes.subnetworks
        accuracy = np.array([score(rows[2]), score(rows[:2].mean(0))])
        return effective_size(np.array([0.3, 0.5]), accuracy, score(outcomes.full))

    assert size == by_hand(np.ones(N))
    assert drawn.tolist() == [by_hand(row) for row in counts]
    assert len(set(drawn)) > 1


def test_the_difference_of_sizes():
    made = point(1, [0.3, 0.5], [0.95, 0.95])
    outside = Outcomes(np.stack([right(0.2), right(0.1)]), right(0.8))
    found = size_difference(replace(made, out_of_domain=outside), n=200)
    assert (found["in_domain"], found["out_of_domain"]) == (0.5, 1.0)
    assert (found["difference"], found["low"], found["high"]) == (0.5, 0.5, 0.5)


@pytest.fixture
def sets(make_net):
    early = SubnetworkSet((
        make_net("0.0 1.2 mlp.0", GRID, 0), make_net("0.0 0.1 mlp.1", GRID, 1, 0.6),
    ))  # fmt: skip
    late = SubnetworkSet((make_net("0.0 0.1 1.0", GRID, 0), make_net("0.0 1.0", GRID, 1)))
    return [(50, early), (100, late)]


def test_the_first_step_at_which_half_keep_a_head(sets):
    core = [Site("head", 0, 0), Site("head", 1, 0)]
    table = first_kept(sets, HEADS, core).set_index("head")
    assert table.first_step.dropna().to_dict() == {"0.0": 50, "0.1": 50, "1.0": 100, "1.2": 50}
    assert table.index[table.first_step.isna()].tolist() == ["0.2", "1.1"]
    assert table.index[table.in_core].tolist() == ["0.0", "1.0"]


def test_the_overlap_with_the_core_of_other_seeds_against_every_set_of_that_size(sets):
    final = sets[-1][1]
    table = core_overlap(sets, HEADS, final)
    assert list(zip(table.step, table.seed, table.sparsity, strict=True)) == [
        (50, 0, 0.5), (50, 1, 0.6), (100, 0, 0.5), (100, 1, 0.5)
    ]  # fmt: skip
    cores = {0: set(final[1].heads), 1: set(final[0].heads)}  # of the other seed
    assert table.core_kept.tolist() == [1, 2, 2, 2]
    assert table.heads_kept.tolist() == [2, 2, 3, 2]
    members = [member for _, found in sets for member in found]
    for row, member in zip(table.to_dict("records"), members, strict=True):
        core, kept = cores[member.seed], member.heads
        layers = [
            [set(chosen) for chosen in combinations(
                [h for h in HEADS if h.layer == layer], sum(h.layer == layer for h in kept))]
            for layer in (0, 1)
        ]  # fmt: skip
        hits = [len((one | other) & core) for one, other in product(*layers)]
        assert row["core_size"] == len(core)
        assert row["expected"] == pytest.approx(np.mean(hits))
        assert row["p"] == pytest.approx(np.mean([h >= row["core_kept"] for h in hits]))
        assert row["p_smallest"] == pytest.approx(np.mean([h == max(hits) for h in hits]))


def test_without_other_seeds_there_is_no_core_to_keep(sets):
    final = sets[-1][1]
    assert core_overlap([(50, SubnetworkSet((final[0],)))], HEADS, SubnetworkSet((final[0],))).empty

"""Effective sizes and early cores, against counting every possibility."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from mechprobe.locate.subnetworks import SubnetworkSet
from mechprobe.sites import Site, SiteGrid
from mechprobe.studies.heuristic_core.emergence import (
    PointScores,
    core_overlap,
    effective_size,
    emergence_table,
    first_kept,
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


def test_steps_compare_over_the_sparsities_all_of_them_have():
    def point(step, sparsity, inside):
        values = np.array(inside)
        return PointScores(step, np.array(sparsity), values, values / 2, 0.9, 0.5)

    table = emergence_table([
        point(1, [0.3, 0.5, 0.5], [0.9, 0.6, 0.8]), point(2, [0.5, 0.7], [0.8, 0.1])
    ])  # fmt: skip
    np.testing.assert_allclose(table.in_domain, [0.7, 0.8])
    np.testing.assert_allclose(table.out_of_domain, [0.35, 0.4])
    apart = emergence_table([
        point(1, [0.3, 0.3, 0.3, 0.5], [0.9, 0.9, 0.9, 0.5]), point(2, [0.7], [0.1])
    ])  # fmt: skip
    np.testing.assert_allclose(apart.in_domain, [0.7, 0.1])


def test_the_table_over_training():
    point = PointScores(
        step=100, sparsity=np.array([0.3, 0.5]), in_domain=np.array([0.9, 0.88]),
        out_of_domain=np.array([0.4, 0.1]), full_in_domain=0.9, full_out_of_domain=0.42,
    )  # fmt: skip
    (row,) = emergence_table([point]).itertuples()
    assert (row.step, row.full_in_domain, row.full_out_of_domain) == (100, 0.9, 0.42)
    assert (row.in_domain, row.out_of_domain) == (pytest.approx(0.89), pytest.approx(0.25))
    assert (row.size_in_domain, row.size_out_of_domain) == (pytest.approx(0.5), pytest.approx(0.7))


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


def test_the_overlap_with_the_core_against_every_set_of_that_size(sets):
    core = [Site("head", 0, 0), Site("head", 1, 0), Site("head", 1, 2)]
    table = core_overlap(sets, HEADS, core)
    assert list(zip(table.step, table.seed, table.sparsity, strict=True)) == [
        (50, 0, 0.5), (50, 1, 0.6), (100, 0, 0.5), (100, 1, 0.5)
    ]  # fmt: skip
    assert table.core_kept.tolist() == [2, 1, 2, 2]
    assert table.heads_kept.tolist() == [2, 2, 3, 2]
    assert (table.core_size == 3).all()
    for row in table.itertuples():
        hits = [
            len(set(chosen) & set(core)) for chosen in combinations(HEADS, int(row.heads_kept))
        ]
        assert row.expected == pytest.approx(np.mean(hits))
        assert row.p == pytest.approx(np.mean([h >= row.core_kept for h in hits]))
        assert row.p_smallest == pytest.approx(np.mean([h == max(hits) for h in hits]))

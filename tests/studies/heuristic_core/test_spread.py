"""How much members differ: small tables worked out by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mechprobe.locate.subnetworks import SubnetworkSet
from mechprobe.sites import SiteGrid
from mechprobe.studies.heuristic_core.data import group_means, halves, ood_score
from mechprobe.studies.heuristic_core.spread import group_table, member_rows, spread


@pytest.fixture
def ood(make_split):
    return make_split("a b a b a b a b c c")


OUTSIDE = np.array([
    [1, 1, 1, 1, 1, 1, 1, 1, 0, 0],
    [1, 0, 1, 0, 0, 1, 0, 1, 1, 1],
    [0, 0, 0, 0, 1, 0, 1, 0, 1, 0],
], dtype=float)  # fmt: skip


def test_scores_are_means_of_sub_cases(ood, make_split):
    means = group_means(OUTSIDE, ood)
    assert means["a"].tolist() == [1, 0.5, 0.5]
    assert means["b"].tolist() == [1, 0.5, 0]
    assert means["c"].tolist() == [0, 1, 0.5]
    assert ood_score(OUTSIDE, ood, ("a", "b")).tolist() == [1, 0.5, 0.25]
    uneven = make_split("a a a b")
    outcomes = np.array([[1.0, 1, 1, 0]])
    assert ood_score(outcomes, uneven, ("a", "b")).tolist() == [0.5]


def test_halves_are_disjoint_and_even_in_every_sub_case(ood):
    pick, report = halves(ood)
    assert sorted([*pick, *report]) == list(range(10))
    groups = np.array(ood.examples.group)
    for half in (pick, report):
        names, counts = np.unique(groups[half], return_counts=True)
        assert dict(zip(names, counts, strict=True)) == {"a": 2, "b": 2, "c": 1}


def test_the_spread_of_three_members(ood):
    dev = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]], dtype=float)
    found = spread(
        dev, OUTSIDE, np.ones((1, 4)), np.ones((1, 10)), ood, ("a", "b"), seed=0, n_boot=200
    )
    assert found["subnetworks"] == 3
    assert (found["full_in_domain"], found["full_out_of_domain"]) == (1, 1)
    assert found["in_domain"] == pytest.approx(0.75)
    assert (found["in_domain_low"], found["in_domain_high"]) == (0.5, 1)
    assert found["in_domain_sd"] == pytest.approx(np.std([0.75, 0.5, 1], ddof=1))
    assert found["out_of_domain"] == pytest.approx(1.75 / 3)
    assert (found["out_of_domain_low"], found["out_of_domain_high"]) == (0.25, 1)
    assert found["range"] == 0.75
    # picked on rows 0 1 4 5 (first and third of a and of b): 4, 2, 1 right
    # reported on rows 2 3 6 7: the best has 4 right, the worst 1
    assert found["gap"] == pytest.approx((4 - 1) / 4)
    assert found["gap_low"] <= found["gap"] <= found["gap_high"]
    assert 0 < found["p_excess"] <= 1


def test_best_and_worst_are_picked_on_other_examples_than_the_gap_is_told_of(make_split):
    """Member 0 is best on the picking half only: its gap on the other half is negative."""
    split = make_split("a a a a")
    outside = np.array([[1, 0, 1, 0], [0, 1, 0, 1]], dtype=float)
    found = spread(outside, outside, outside[:1], outside[:1], split, ("a",), seed=0, n_boot=50)
    assert found["range"] == 0
    assert found["gap"] == -1


def test_equal_members_do_not_spread_and_different_ones_do(make_split):
    split = make_split(" ".join(["a", "b"] * 200))
    rng = np.random.default_rng(0)
    same = (rng.random((8, 400)) < 0.6).astype(float)
    dev, full = np.ones((8, 3)), np.ones((1, 400))
    alike = spread(dev, same, dev[:1], full, split, ("a", "b"), seed=1, n_boot=50)
    assert alike["p_excess"] > 0.01
    unlike = (rng.random((8, 400)) < np.linspace(0.3, 0.9, 8)[:, None]).astype(float)
    differ = spread(dev, unlike, dev[:1], full, split, ("a", "b"), seed=1, n_boot=50)
    assert differ["p_excess"] < 0.01
    assert differ["out_of_domain_sd"] > 3 * differ["sampling_sd"]
    assert differ["gap_low"] > 0


def test_rows_and_the_table_of_sub_cases(ood, make_net):
    grid = SiteGrid(2, 2)
    found = SubnetworkSet((
        make_net("0.0 0.1 mlp.0", grid, 5), make_net("1.1 mlp.0 mlp.1", grid, 6),
        make_net("0.0", grid, 5, 0.7),
    ))  # fmt: skip
    dev = np.array([[1, 0], [1, 1], [0, 0]], dtype=float)
    rows = pd.DataFrame(member_rows({"model": 0}, found, dev, OUTSIDE, ood, ("a", "b")))
    assert rows.model.tolist() == [0, 0, 0]
    assert rows.seed.tolist() == [5, 6, 5]
    assert rows.sparsity.tolist() == [0.5, 0.5, 0.7]
    np.testing.assert_allclose(rows.reached, [0.5, 0.5, 5 / 6])
    assert rows.heads_kept.tolist() == [2, 1, 1]
    assert rows.mlps_kept.tolist() == [1, 2, 0]
    assert rows.in_domain.tolist() == [0.5, 1, 0]
    assert rows.out_of_domain.tolist() == [1, 0.5, 0.25]
    assert rows.c.tolist() == [0, 1, 0.5]
    table = group_table(rows, {"a": 0.9, "b": 0.8, "c": 0.7}, ["a", "b", "c"])
    assert len(table) == 6
    first = table[(table.sparsity == 0.5) & (table["sub-case"] == "a")].iloc[0]
    assert (first["mean"], first.low, first.high, first.full) == (0.75, 0.5, 1, 0.9)
    assert first.sd == pytest.approx(np.std([1, 0.5], ddof=1))
    assert np.isnan(table[table.sparsity == 0.7].sd).all()  # one member has no sd

"""Flipping single heads, and McNemar's test against a sum of binomials."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest

from mechprobe.sites import Site
from mechprobe.studies.heuristic_core.edits import head_edits, mcnemar_p


def exact_mcnemar(gained, lost):
    """Twice the probability that as many fair coins split at least as unevenly."""
    n = gained + lost
    tail = sum(comb(n, i) for i in range(min(gained, lost) + 1)) / 2**n
    return min(1.0, 2 * tail)


@pytest.mark.parametrize("gained", range(0, 13, 2))
@pytest.mark.parametrize("lost", range(0, 12, 3))
def test_mcnemar_is_the_binomial_test_on_what_changed(gained, lost):
    before = np.array([0] * gained + [1] * lost + [0] * 7 + [1] * 9, dtype=float)
    after = np.array([1] * gained + [0] * lost + [0] * 7 + [1] * 9, dtype=float)
    order = np.random.default_rng(0).permutation(len(before))
    p = mcnemar_p(before[order], after[order])
    assert p == pytest.approx(exact_mcnemar(gained, lost))
    assert p == pytest.approx(mcnemar_p(after, before))


def test_nothing_changed_is_no_evidence():
    assert mcnemar_p(np.ones(5), np.ones(5)) == 1.0


def test_every_flip_is_what_its_gates_give(opened, accuracies, make_net):
    data, grid = opened.data, opened.grid
    member = make_net("0.0 1.0 1.1 mlp.0", grid)
    core = [Site("head", 1, 1)]
    table = head_edits(opened, member, core, data.dev, data.ood, data.score_groups, "best")
    assert table["head"].tolist() == ["0.0", "0.1", "1.0", "1.1"]
    assert table.edit.tolist() == ["remove", "add", "remove", "remove"]
    assert table.in_core.tolist() == [False, False, False, True]
    assert set(table.subnetwork) == {"best"}

    def by_hand(gates):
        inside = accuracies(opened, gates, data.dev)
        sizes = {g: len(rows) for g, rows in data.dev.rows.items()}
        outside = accuracies(opened, gates, data.ood)
        return (
            sum(inside[g] * n for g, n in sizes.items()) / sum(sizes.values()),
            np.mean([outside[g] for g in data.score_groups]),
        )

    before = by_hand(member.binary)
    for i, (_, row) in enumerate(table.iterrows()):
        gates = member.binary.copy()
        gates[i] = ~gates[i]
        after = by_hand(gates)
        assert row.in_domain_change == pytest.approx(after[0] - before[0])
        assert row.out_of_domain_change == pytest.approx(after[1] - before[1])
    assert (table.out_of_domain_change != 0).any()
    ranked = table.sort_values("p")
    holm = np.maximum.accumulate(ranked.p.to_numpy() * np.arange(4, 0, -1)).clip(max=1)
    np.testing.assert_allclose(ranked.p_corrected, holm)
    # with equal sub-cases the change in score is (gained - lost) / n: p must fit one such pair
    n = sum(len(data.ood.rows[g]) for g in data.score_groups)
    for row in table.itertuples():
        change = round(row.out_of_domain_change * n)
        fits = [exact_mcnemar(a, a - change) for a in range(max(0, change), n + 1)]
        assert any(row.p == pytest.approx(p) for p in fits)

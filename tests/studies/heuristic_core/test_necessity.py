"""Keeping and closing sets of heads, counted by hand."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from mechprobe.sites import Site, SiteGrid
from mechprobe.studies.heuristic_core.necessity import core_summary, core_tests, random_head_sets

CORE = [Site("head", 0, 1), Site("head", 1, 0)]


@pytest.mark.parametrize("same_layers", [True, False])
def test_random_sets_are_as_large_as_the_core(same_layers):
    grid = SiteGrid(3, 4)
    core = [Site.parse(s) for s in ("0.1", "0.3", "2.0")]
    sets = random_head_sets(grid, core, 200, 7, same_layers=same_layers)
    assert len(sets) == 200
    for heads in sets:
        assert len(set(heads)) == 3
        assert all(site in grid.sites and site.kind == "head" for site in heads)
        layers = Counter(site.layer for site in heads)
        assert not same_layers or layers == {0: 2, 2: 1}
    chosen = Counter(site for heads in sets for site in heads)
    possible = 8 if same_layers else 12
    assert len(chosen) == possible
    assert sets == random_head_sets(grid, core, 200, 7, same_layers=same_layers)
    assert sets != random_head_sets(grid, core, 200, 8, same_layers=same_layers)
    assert any(a != b for a, b in pairwise(sets))


def test_every_row_is_what_its_gates_give(opened, accuracies):
    data, groups = opened.data, opened.data.score_groups
    table, contrasts = core_tests(opened, CORE, data.dev, data.ood, groups, 2, 3)
    heads = [site for site in opened.grid if site.kind == "head"]
    sets = [("core", CORE)]
    for name, same in (("random", False), ("random, same layers", True)):
        made = random_head_sets(opened.grid, CORE, 2, 3, same_layers=same)
        sets += [(name, heads) for heads in made]
    expected = [("full", "all", [])]
    for name, chosen in sets:
        expected += [("keep", name, [s for s in heads if s not in chosen]), ("close", name, chosen)]
    assert list(zip(table.test, table.heads, strict=True)) == [row[:2] for row in expected]
    for (_, row), (_, _, closed) in zip(table.iterrows(), expected, strict=True):
        gates = opened.grid.mask(closed=closed)
        assert gates[opened.grid.n_head_sites :].all()
        inside = opened.data.dev.examples
        share = accuracies(opened, gates, data.dev)
        weight = Counter(inside.group)
        by_hand = sum(share[g] * n for g, n in weight.items()) / len(inside)
        assert row.in_domain == pytest.approx(by_hand)
        outside = accuracies(opened, gates, data.ood)
        assert row.out_of_domain == pytest.approx(np.mean([outside[g] for g in groups]))
    assert table.in_domain.nunique() > 1
    for name in ("in_domain", "out_of_domain"):
        assert (table[f"{name}_ci_low"] <= table[name]).all()
        assert (table[name] <= table[f"{name}_ci_high"]).all()
    close = table[table.test == "close"].groupby("heads").in_domain.mean()
    row = contrasts.set_index(["test", "against"]).loc[("close", "random")]
    assert row.in_domain_difference == pytest.approx(close["core"] - close["random"])
    assert row.in_domain_ci_low <= row.in_domain_difference <= row.in_domain_ci_high


def test_the_summary_counts_sets_at_least_as_extreme():
    rows = [("full", "all", 0.9, 0.5), ("keep", "core", 0.8, 0.1), ("close", "core", 0.5, 0.2)]
    rows += [("close", "random", x, 0.3) for x in (0.4, 0.5, 0.6, 0.7)]
    rows += [("keep", "random", x, 0.4) for x in (0.8, 0.7, 0.6, 0.5)]
    rows += [("close", "random, same layers", x, 0.3) for x in (0.6, 0.7)]
    table = pd.DataFrame(rows, columns=["test", "heads", "in_domain", "out_of_domain"])
    for name in ("in_domain", "out_of_domain"):
        table[f"{name}_ci_low"], table[f"{name}_ci_high"] = table[name] - 0.05, table[name] + 0.05
    found = core_summary(table).set_index(["test", "heads"])
    assert found.loc[("close", "random"), "p"] == pytest.approx(3 / 5)  # .4 and .5, and the core
    assert found.loc[("keep", "random"), "p"] == pytest.approx(2 / 5)
    assert found.loc[("close", "random, same layers"), "p"] == pytest.approx(1 / 3)
    for alone in (("full", "all"), ("keep", "core"), ("close", "core")):
        assert np.isnan(found.loc[alone, "p"])
        assert found.loc[alone, "sets"] == 1
    assert found.loc[("close", "core"), "in_domain_ci_low"] == pytest.approx(0.45)
    assert np.isnan(found.loc[("close", "random"), "in_domain_ci_low"])
    close = found.loc[("close", "random")]
    assert (close.sets, close.in_domain_low, close.in_domain_high) == (4, 0.4, 0.7)
    assert close.in_domain == pytest.approx(0.55)
    assert close.out_of_domain == pytest.approx(0.3)

"""Tables of attention and of probes on the network whose attention and vectors are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from mechprobe.models.tree_construction import HookedTreeConstruction
from mechprobe.probes.ancestors import leaf_vectors
from mechprobe.studies.hierarchy.ancestors import probe_height
from mechprobe.studies.hierarchy.attention import (
    layer_table,
    read_attention,
    strongest,
)
from mechprobe.studies.hierarchy.causal import _random
from mechprobe.studies.hierarchy.sequences import score
from mechprobe.studies.hierarchy.settings import PRESETS
from mechprobe.training.tree_tasks import seeded
from mechprobe.trees import Grammar, common_heights, sample, sibling_attention

GRAMMAR = Grammar.random(3, 3, seed=1)


@pytest.fixture(scope="module")
def planted():
    drawn = sample(GRAMMAR, 60, 0, 2)
    scored = score(GRAMMAR, "masked", "", drawn.leaves, drawn.root, seeded("cpu", 0))
    return read_attention(
        HookedTreeConstruction(GRAMMAR), GRAMMAR, scored, n_null=200, seed=0, device="cpu"
    )


def table_of(found, queries: str) -> pd.DataFrame:
    return found.table().assign(model="planted", queries=queries, weights="trained")


def test_mean_maps_of_the_constructed_network_are_the_ideal_ones(planted):
    maps = planted[2]
    np.testing.assert_allclose(maps[:, 0], sibling_attention(3).numpy(), atol=1e-12)


def test_every_height_has_the_layer_that_was_built_for_it(planted):
    for found, queries in zip(planted[:2], ("all", "masked"), strict=True):
        table = table_of(found, queries)
        layers = layer_table(table)
        np.testing.assert_allclose(layers["mean_height"], [1, 2, 3], atol=1e-9)
        np.testing.assert_allclose(layers[[f"height_{h}" for h in range(1, 4)]], np.eye(3),
                                   atol=1e-9)
        best = strongest(table, queries)
        assert best["head"].tolist() == ["0.0", "1.0", "2.0"]
        np.testing.assert_allclose(best["enrichment"], [8 / 1, 8 / 2, 8 / 4], atol=1e-9)
        for end in ("low", "high"):
            np.testing.assert_allclose(best[end], best["enrichment"])
        assert best["p"].iloc[0] < 0.05
        np.testing.assert_allclose(best["null"], 8 / 7, rtol=0.2)  # no key is the query itself


def test_a_layer_is_the_mean_of_its_heads_and_e_the_largest():
    rows = [
        {"model": "m", "queries": "all", "weights": "trained", "head": head, "height": height,
         "mass": mass, "low": mass - 0.1, "high": mass + 0.1, "uniform": (0.5, 0.5)[height],
         "enrichment": mass / 0.5, "null": 0.5, "p": 0.5, "p_strongest": 0.25}
        for head, masses in (("0.0", (0.8, 0.2)), ("0.1", (0.4, 0.6)), ("1.0", (0.9, 0.1)))
        for height, mass in enumerate(masses)
    ]
    layers = layer_table(pd.DataFrame(rows))
    np.testing.assert_allclose(layers["height_1"], [0.4, 0.1])
    np.testing.assert_allclose(layers["mean_height"], [0.4, 0.1])
    (best,) = strongest(pd.DataFrame(rows)).to_dict("records")
    assert (best["head"], best["p"]) == ("0.1", 0.25)
    assert (best["enrichment"], best["low"], best["high"]) == pytest.approx((1.2, 1.0, 1.4))


def test_the_random_control_allows_as_many_leaves_and_the_own_one():
    heights = common_heights(3)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    for s in range(4):
        allowed = _random(heights <= s, order)
        assert (allowed.sum(1) == 2**s).all()
        assert allowed.diagonal().all()
    assert not torch.equal(_random(heights <= 1, order), heights <= 1)


def test_probes_of_the_constructed_network_reach_the_ceiling_at_their_height(one_thread):
    """Unmasked and unambiguous: the message of layer h is the ancestor, one-hot."""
    grammar = Grammar.random(3, 2, seed=1)
    samples = sample(grammar, 600, 0, 4, ancestors=True)
    data = leaf_vectors(HookedTreeConstruction(grammar), samples)
    settings = replace(PRESETS["tiny"], probe_epochs=12)
    for height in (1, 2):
        rows, reach = probe_height(settings, grammar, data, height, 400, controls=True)
        row = rows[height]
        assert (row["layer"], row["height"]) == (height, height)
        assert row["ceiling"] == 1
        assert row["mlp"] > 0.97
        assert row["linear"] > 0.97
        assert row["mlp_low"] <= row["mlp"] <= row["mlp_high"]
        assert row["selectivity"] == pytest.approx(row["mlp"] - row["control"])
        for row in rows:
            assert row["mlp"] <= row["ceiling"] + 0.05
        assert set(reach["reach"]) == {0, 1, 2}
    assert rows[2]["selectivity"] > 0.1
    untrained, _ = probe_height(settings, grammar, data, 1, 400, controls=False)
    assert all(np.isnan([row["control"], row["linear_low"], row["selectivity"]]).all()
               for row in untrained)

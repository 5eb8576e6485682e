"""Attention by height against loops over ancestors, known maps, and the null's own level."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.trees import (
    attention_by_height,
    common_heights,
    mass_by_height,
    sibling_attention,
    uniform_mass,
)


def meet(i: int, j: int, arity: int) -> int:
    """Height of the lowest common ancestor, one step up at a time."""
    height = 0
    while i != j:
        i, j, height = i // arity, j // arity, height + 1
    return height


@pytest.mark.parametrize(("depth", "arity"), [(1, 2), (3, 2), (2, 3)])
def test_heights_and_uniform_mass_are_those_of_a_loop(depth, arity):
    heights, n = common_heights(depth, arity), arity**depth
    assert heights.tolist() == [[meet(i, j, arity) for j in range(n)] for i in range(n)]
    counts = [float((heights[0] == h).double().mean()) for h in range(depth + 1)]
    assert uniform_mass(depth, arity).tolist() == pytest.approx(counts)


def random_maps(n: int, heads: int, pos: int, seed: int = 0) -> torch.Tensor:
    draw = torch.randn(n, heads, pos, pos, generator=torch.Generator().manual_seed(seed))
    return (2 * draw).softmax(-1)


def test_mass_is_the_sum_over_keys():
    maps = random_maps(2, 1, 8)
    mass = mass_by_height(maps, 3)
    for query in range(8):
        for h in range(4):
            keys = [k for k in range(8) if meet(query, k, 2) == h]
            assert mass[1, 0, query, h].item() == pytest.approx(maps[1, 0, query, keys].sum())


def test_only_marked_queries_count_and_sequences_count_alike():
    maps = random_maps(3, 2, 4, seed=1)
    queries = torch.tensor([[1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 1, 1]], dtype=torch.bool)
    found = attention_by_height({0: maps}, 2, queries=queries, n_null=20)
    by_hand = np.mean([
        mass_by_height(maps[i].double(), 2)[:, queries[i]].mean(1).numpy() for i in range(3)
    ], axis=0)
    np.testing.assert_allclose(found.mass, by_hand, atol=1e-12)
    assert found.heads == ("0.0", "0.1")
    np.testing.assert_allclose(found.mass.sum(1), 1)
    assert (found.low <= found.mass + 1e-12).all()
    assert (found.mass <= found.high + 1e-12).all()


def test_ideal_maps_are_found_and_nothing_else_is():
    maps = {layer: m.expand(5, 1, 8, 8) for layer, m in enumerate(sibling_attention(3))}
    found = attention_by_height(maps, 3, n_null=400)
    for layer in range(3):
        expected = np.zeros(4)
        expected[layer + 1] = 1
        np.testing.assert_allclose(found.mass[layer], expected, atol=1e-12)
        assert found.p[layer, layer + 1] < 0.02
    np.testing.assert_allclose(found.mean_height, [1, 2, 3])
    np.testing.assert_allclose(found.enrichment[0], [0, 8, 0, 0], atol=1e-9)
    assert found.table().query("height == 1")["enrichment"].tolist() == pytest.approx([8, 0, 0])


def test_under_the_null_small_p_are_as_rare_as_they_say():
    """Maps whose positions are already shuffled: p is uniform, so about one in ten is below .1."""
    below = []
    for seed in range(60):
        order = np.random.default_rng(seed).permutation(8)
        ideal = sibling_attention(3)[1][order][:, order].expand(1, 1, 8, 8)
        below.append(attention_by_height({0: ideal}, 3, n_null=199, seed=seed).p[0, 2] <= 0.1)
    assert np.mean(below) < 0.25


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="8 leaves"):
        attention_by_height({0: random_maps(1, 1, 4)}, 3)
    with pytest.raises(InputError, match="no query"):
        attention_by_height(
            {0: random_maps(1, 1, 4)}, 2, queries=torch.zeros(1, 4, dtype=torch.bool)
        )
    with pytest.raises(InputError, match="depth 0"):
        common_heights(0)
    with pytest.raises(InputError, match="no attention"):
        attention_by_height({}, 2)

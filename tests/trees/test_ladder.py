"""Both ladders against enumeration of what their observer sees, and the closest rung."""

import math

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.trees import (
    Grammar,
    belief_propagation,
    block_beliefs,
    block_ladder,
    bp_ladder,
    closest_rung,
    enumerate_trees,
    sample,
)

GRAMMAR = Grammar.random(3, 3, seed=2)
TERNARY = Grammar.random(2, 2, seed=4, arity=3)


def some(grammar: Grammar, n: int = 5, masked: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    leaves = sample(grammar, n, seed=3).leaves
    order = torch.rand(leaves.shape, generator=torch.Generator().manual_seed(0)).argsort(1)
    return leaves, order < masked


def test_the_filter_ladder_is_belief_propagation_at_each_k():
    leaves, mask = some(GRAMMAR)
    ladder = bp_ladder(GRAMMAR, leaves, mask)
    assert ladder.ks == (0, 1, 2, 3)
    for k, root, masked in zip(ladder.ks, ladder.root, ladder.masked):
        one = belief_propagation(GRAMMAR, leaves, k, mask=mask)
        assert torch.equal(root, one.root)
        assert torch.equal(masked, one.nodes[3][mask])
    few = bp_ladder(GRAMMAR, leaves, ks=[3, 1])
    assert few.ks == (3, 1)
    assert few.masked is None


@pytest.mark.parametrize("grammar", [GRAMMAR, TERNARY], ids=["binary", "ternary"])
def test_a_block_observer_is_inference_with_all_other_leaves_masked(grammar):
    leaves, mask = some(grammar)
    places = torch.arange(grammar.n_leaves)
    rows = mask.nonzero().tolist()
    ladder = block_ladder(grammar, leaves, mask)
    assert ladder.shape == (grammar.depth + 1, len(rows), grammar.q)
    for height in range(grammar.depth + 1):
        blocks = block_beliefs(grammar, leaves, height, mask=mask)
        for entry, (i, leaf) in enumerate(rows):
            block = leaf // grammar.arity**height
            hidden = mask[i] | (places // grammar.arity**height != block)
            seen = belief_propagation(grammar, leaves[i : i + 1], mask=hidden)
            torch.testing.assert_close(ladder[height, entry], seen.nodes[grammar.depth][0, leaf])
            torch.testing.assert_close(blocks.leaf_marginals[i, leaf], ladder[height, entry])
            above = seen.nodes[grammar.depth - height][0, block]
            torch.testing.assert_close(blocks.top[i, block], above)


def test_a_block_observer_equals_enumeration():
    leaves, mask = some(GRAMMAR, n=2, masked=1)
    for i, leaf in mask.nonzero().tolist():
        seen = np.ones((8, 3))
        block = leaf // 4 * 4
        seen[block : block + 4] = np.eye(3)[leaves[i, block : block + 4]]
        seen[leaf] = 1
        rung = block_ladder(GRAMMAR, leaves[i : i + 1], mask[i : i + 1], [2])[0, 0]
        # Beyond the block nothing is seen: a tree of the grammar's left or right half is enough.
        half = Grammar.from_tensor(GRAMMAR.transition, 2)
        trees = enumerate_trees(half, 0, seen[block : block + 4])
        side = (GRAMMAR.left if block == 0 else GRAMMAR.right).numpy().mean(0)
        weight = trees.weight * side[trees.levels[0][:, 0]]
        exact = np.bincount(trees.levels[2][:, leaf - block], weights=weight, minlength=3)
        np.testing.assert_allclose(rung, exact / exact.sum(), atol=1e-10)


def test_the_ends_of_the_block_ladder():
    leaves, mask = some(GRAMMAR)
    ladder = block_ladder(GRAMMAR, leaves, mask, [0, 3])
    prior = GRAMMAR.node_marginals(3).mean(1)[mask.nonzero()[:, 1]]
    torch.testing.assert_close(ladder[0], prior)
    torch.testing.assert_close(ladder[1], bp_ladder(GRAMMAR, leaves, mask, [0]).masked[0])
    single = block_beliefs(GRAMMAR, leaves, 0, mask=mask)
    assert torch.equal(single.top[~mask].argmax(-1), leaves[~mask])
    torch.testing.assert_close(single.top[mask], prior)


def test_the_closest_rung_and_how_clear_it_is():
    found = closest_rung([0.5, 0.02, 0.06], rungs=[4, 3, 2])
    assert (found.rung, found.divergence, found.runner_up) == (3, 0.02, 0.06)
    assert found.ratio == pytest.approx(3)
    assert closest_rung([0.0, 1.0]).ratio == math.inf
    assert closest_rung([1.0, 1.0]).rung == 0
    assert closest_rung(torch.tensor([2.0, 1.0]).tolist()).rung == 1
    for values, rungs in (([1.0], None), ([1.0, math.nan], None), ([1.0, 2.0], [0])):
        with pytest.raises(InputError, match="expected two or more numbers"):
            closest_rung(values, rungs)


def test_bad_input_is_refused():
    leaves, mask = some(GRAMMAR)
    with pytest.raises(InputError, match="filter level k=4"):
        bp_ladder(GRAMMAR, leaves, ks=[0, 4])
    with pytest.raises(InputError, match="block height 4 is not possible"):
        block_beliefs(GRAMMAR, leaves, 4)
    with pytest.raises(InputError, match="block height -1"):
        block_ladder(GRAMMAR, leaves, mask, [-1])
    with pytest.raises(InputError, match="symbols from"):
        block_beliefs(GRAMMAR, leaves + 1, 1)
    for empty in (lambda: bp_ladder(GRAMMAR, leaves, ks=[]),
                  lambda: block_ladder(GRAMMAR, leaves, mask, [])):
        with pytest.raises(InputError, match="an empty ladder"):
            empty()


def test_rules_that_are_rounded_give_block_observers_all_the_same():
    """Sums that are off by as much as rules may be are off by more further down."""
    rules = GRAMMAR.transition * (1 - 9e-6)
    rounded = Grammar.from_tensor(rules, depth=3)
    leaves, mask = some(GRAMMAR)
    for height in range(4):
        torch.testing.assert_close(
            block_beliefs(rounded, leaves, height).top, block_beliefs(GRAMMAR, leaves, height).top,
            atol=1e-4, rtol=0,
        )
    exact = block_ladder(GRAMMAR, leaves, mask)
    torch.testing.assert_close(block_ladder(rounded, leaves, mask), exact, atol=1e-4, rtol=0)

"""The sampler against the exact distribution, tree by tree."""

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.trees import Grammar, enumerate_trees, make_sampler, sample
from mechprobe.trees.sampling import alias_table

DENSE = torch.rand(2, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
GRAMMARS = {
    "q3 depth 2": Grammar.random(3, 2, seed=1),
    "q2 depth 3": Grammar.random(2, 3, seed=0),
    "ambiguous": Grammar.from_tensor((DENSE / DENSE.sum(1, keepdim=True)).view(2, 2, 2), 2),
    "ternary": Grammar.random(2, 2, seed=4, arity=3),
}
N = 600_000


def codes(symbols: np.ndarray, q: int) -> np.ndarray:
    return symbols @ q ** np.arange(symbols.shape[1])


CASES = [(name, k) for name, grammar in GRAMMARS.items() for k in range(grammar.depth + 1)]


@pytest.mark.parametrize(("name", "k"), CASES)
def test_whole_trees_are_drawn_from_the_exact_distribution(name, k):
    grammar = GRAMMARS[name]
    trees = enumerate_trees(grammar, k)
    drawn = sample(grammar, N, k, seed=7, ancestors=True)
    assert sorted(drawn.levels) == [0, *range(max(k, 1), grammar.depth + 1)]
    for level, symbols in trees.levels.items():
        size = grammar.q ** symbols.shape[1]
        pair = size * trees.levels[0][:, 0] + codes(symbols, grammar.q)
        exact = np.bincount(pair, weights=trees.weight, minlength=size * grammar.q)
        got = drawn.root.numpy() * size + codes(drawn.levels[level].numpy(), grammar.q)
        counts = np.bincount(got, minlength=size * grammar.q)
        assert np.abs(exact - counts / N).sum() / 2 < 0.02
        assert counts[exact == 0].sum() == 0
    assert torch.equal(drawn.leaves, drawn.levels[grammar.depth])
    assert torch.equal(drawn.root, drawn.levels[0][:, 0])


@pytest.mark.parametrize("k", range(5))
def test_a_nodes_marginal_given_the_root_does_not_depend_on_k(k):
    grammar = Grammar.random(4, 4, seed=0)
    drawn = sample(grammar, 100_000, k, seed=1)
    exact = grammar.node_marginals(4)
    for root in range(4):
        leaves = drawn.leaves[drawn.root == root]
        share = torch.nn.functional.one_hot(leaves, 4).double().mean(0)
        assert (share - exact[:, root]).abs().max() < 0.02


def test_filtering_cuts_the_correlation_between_subtrees_and_no_other():
    grammar = Grammar.random(4, 2, seed=0)
    pairs = grammar.transition[1].numpy()
    independent = np.outer(grammar.left[1], grammar.right[1])
    assert np.abs(pairs - independent).sum() > 0.1
    for k, exact in ((0, pairs), (1, independent)):
        drawn = sample(grammar, N, k, seed=2, ancestors=True)
        two = drawn.levels[1][drawn.root == 1].numpy()
        joint = np.bincount(two @ [4, 1], minlength=16).reshape(4, 4) / len(two)
        assert np.abs(joint - exact).sum() < 0.02


def test_the_seed_decides_and_a_generator_goes_on():
    grammar = GRAMMARS["q3 depth 2"]
    first, again, other = (sample(grammar, 50, 1, seed=s).leaves for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    generator = torch.Generator().manual_seed(0)
    sampler = make_sampler(grammar, 1)
    assert torch.equal(sampler.draw(50, generator).leaves, first)
    assert not torch.equal(sampler.draw(50, generator).leaves, first)
    assert sample(grammar, 0).leaves.shape == (0, 4)


def test_an_alias_table_gives_back_its_probabilities():
    generator = torch.Generator().manual_seed(0)
    rows = torch.rand(50, 9, generator=generator, dtype=torch.float64) ** 4
    rows[:, 2] = 0
    rows[7] = torch.eye(9, dtype=torch.float64)[4]
    rows /= rows.sum(1, keepdim=True)
    table = alias_table(rows, torch.arange(9)[:, None])
    keep = table.keep.view(50, 9)
    alias = table.symbols[450:, 0].view(50, 9)
    again = keep.clone().scatter_add_(1, alias, 1 - keep) / 9
    torch.testing.assert_close(again, rows, rtol=0, atol=1e-14)


def test_what_cannot_be_drawn_is_refused():
    grammar = GRAMMARS["q3 depth 2"]
    for k in (-1, 3):
        with pytest.raises(InputError, match=f"filter level k={k} is not possible for depth 2"):
            sample(grammar, 5, k)
    with pytest.raises(InputError, match="n=-1"):
        sample(grammar, -1)

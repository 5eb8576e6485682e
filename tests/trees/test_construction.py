"""The constructed network is belief propagation, and its parts are what it says they are."""

import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.trees import (
    Grammar,
    belief_propagation,
    block_beliefs,
    construct,
    sample,
    sibling_attention,
    split_state,
)
from mechprobe.trees.construction import attention_scores, position_bits, state_width


def ambiguous() -> Grammar:
    logits = torch.randn(3, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return Grammar.from_tensor(logits.softmax(-1).view(3, 3, 3), depth=3)


GRAMMARS = {
    "q4 depth 4": Grammar.random(4, 4, seed=0),
    "q2 depth 1": Grammar.random(2, 1, seed=0),
    "q8 depth 6": Grammar.random(8, 6, seed=1),
    "ambiguous": ambiguous(),
}
CASES = [(name, k) for name, grammar in GRAMMARS.items() for k in range(grammar.depth + 1)]


@pytest.mark.parametrize(("name", "k"), CASES)
def test_root_and_leaves_equal_belief_propagation(name, k):
    grammar = GRAMMARS[name]
    leaves = torch.cat([sample(grammar, 4, data, seed=k).leaves for data in {0, grammar.depth}])
    mask = torch.rand(leaves.shape, generator=torch.Generator().manual_seed(k)) < 0.2
    for masked in (None, mask):
        got = construct(grammar, leaves, k, mask=masked)
        exact = belief_propagation(grammar, leaves, k, mask=masked)
        torch.testing.assert_close(got.root, exact.root, rtol=0, atol=1e-12)
        torch.testing.assert_close(got.leaf_marginals, exact.leaf_marginals, rtol=0, atol=1e-12)


def test_attention_is_uniform_over_the_sibling_block():
    depth = 4
    grammar = GRAMMARS["q4 depth 4"]
    maps = construct(grammar, sample(grammar, 2, seed=0).leaves).attention
    expected = torch.zeros(depth, 16, 16, dtype=torch.float64)
    for query in range(16):
        for key in range(16):
            height = (query ^ key).bit_length()  # of the lowest common ancestor
            if height:
                expected[height - 1, query, key] = 1 / 2 ** (height - 1)
    torch.testing.assert_close(maps, expected, rtol=0, atol=1e-15)
    torch.testing.assert_close(sibling_attention(depth), expected, rtol=0, atol=0)
    ternary = sibling_attention(2, arity=3)
    assert ternary[0, 0].tolist() == [0, 0.5, 0.5, 0, 0, 0, 0, 0, 0]
    assert ternary[1, 4].tolist() == pytest.approx([1 / 6] * 3 + [0] * 3 + [1 / 6] * 3)
    one = attention_scores(position_bits(depth), 2)
    torch.testing.assert_close(one.softmax(-1), expected[1], rtol=0, atol=1e-15)


def test_the_upward_message_is_what_a_block_observer_knows():
    """After layer h, prior times u is the posterior of the ancestor at height h given its block."""
    grammar = GRAMMARS["q4 depth 4"]
    leaves = sample(grammar, 6, 2, seed=4).leaves
    mask = torch.rand(6, 16, generator=torch.Generator().manual_seed(1)) < 0.3
    states = construct(grammar, leaves, mask=mask).states
    assert states.shape == (5, 6, 16, state_width(4, 4))
    for height, state in enumerate(states):
        parts = split_state(state, 4)
        prior = grammar.node_marginals(4 - height).mean(1)
        weight = prior.repeat_interleave(2**height, 0) * parts.u
        top = block_beliefs(grammar, leaves, height, mask=mask).top
        posterior = weight / weight.sum(-1, keepdim=True)
        torch.testing.assert_close(posterior, top.repeat_interleave(2**height, 1))
        assert torch.equal(parts.bits[0], position_bits(4))
        if height:
            sibling = torch.arange(16) ^ (1 << (height - 1))
            before = split_state(states[height - 1], 4).u
            torch.testing.assert_close(parts.s, before[:, sibling])


def test_the_path_matrix_is_the_block_likelihood_of_the_leaf():
    """After layer h, R[a, b] is P(other leaves of the block, leaf = b | ancestor = a), scaled."""
    grammar = GRAMMARS["ambiguous"]
    leaves = sample(grammar, 3, seed=4).leaves
    states = construct(grammar, leaves).states
    for height in (1, 2, 3):
        below = Grammar(grammar.transition, height)
        width = 2**height
        path = split_state(states[height], 3).r
        for leaf in range(8):
            block = leaves[:, leaf // width * width :][:, :width]
            weights = torch.empty(3, 3, 3, dtype=torch.float64)
            for symbol in range(3):
                one = block.clone()
                one[:, leaf % width] = symbol
                for above in range(3):
                    seen = belief_propagation(below, one, prior=torch.eye(3).double()[above])
                    weights[:, above, symbol] = seen.log_evidence.exp()
            weights /= weights.sum((1, 2), keepdim=True)
            torch.testing.assert_close(path[:, leaf], weights, rtol=0, atol=1e-12)


def test_what_it_cannot_build_is_refused():
    grammar = GRAMMARS["ambiguous"]
    with pytest.raises(InputError, match="for binary trees; these have arity 3"):
        construct(Grammar.random(2, 2, arity=3), torch.zeros(1, 9, dtype=torch.int64))
    with pytest.raises(InputError, match="filter level k=4"):
        construct(grammar, torch.zeros(1, 8, dtype=torch.int64), 4)
    with pytest.raises(InputError, match=r"expected \[n, 8\]"):
        construct(grammar, torch.zeros(1, 9, dtype=torch.int64))

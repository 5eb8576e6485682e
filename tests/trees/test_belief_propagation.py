"""Belief propagation against a list of every tree, in log space at depth 10, and its gradients."""

import itertools

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from mechprobe.errors import InputError
from mechprobe.trees import Grammar, belief_propagation, enumerate_trees, sample
from mechprobe.trees.belief_propagation import check_leaves


def dense(q: int, depth: int, arity: int = 2, seed: int = 0) -> Grammar:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(q, q**arity, generator=generator, dtype=torch.float64)
    return Grammar.from_tensor(logits.softmax(-1).view([q] * (arity + 1)), depth)


GRAMMARS = {
    "q2 depth 2": Grammar.random(2, 2, seed=0),
    "q3 depth 2": Grammar.random(3, 2, seed=1),
    "q2 depth 3": Grammar.random(2, 3, seed=2),
    "q3 depth 3": Grammar.random(3, 3, seed=3),
    "ambiguous q3 depth 2": dense(3, 2),
    "ambiguous q2 depth 3": dense(2, 3),
    "ternary": Grammar.random(2, 2, seed=4, arity=3),
    "ambiguous ternary": dense(2, 2, arity=3),
}
CASES = [(name, k) for name, grammar in GRAMMARS.items() for k in range(grammar.depth + 1)]


def evidence(leaves: torch.Tensor, mask: torch.Tensor, q: int) -> np.ndarray:
    return np.where(mask.numpy()[:, None], 1.0, np.eye(q)[leaves.numpy()])


@pytest.mark.parametrize(("name", "k"), CASES)
def test_every_posterior_and_the_evidence_equal_enumeration(name, k):
    grammar, generator = GRAMMARS[name], torch.Generator().manual_seed(k)
    n, length = 6, grammar.n_leaves
    leaves = torch.randint(grammar.q, (n, length), generator=generator)
    mask = torch.rand(n, length, generator=generator) < torch.linspace(0, 0.6, n)[:, None]
    got = belief_propagation(grammar, leaves, k, mask=mask, chunk=4)
    assert sorted(got.nodes) == sorted({0, *range(k, grammar.depth + 1)})
    for i in range(n):
        trees = enumerate_trees(grammar, k, evidence(leaves[i], mask[i], grammar.q))
        assert got.log_evidence[i].item() == pytest.approx(np.log(trees.evidence), abs=1e-10)
        np.testing.assert_allclose(got.root[i], trees.marginals(0)[0], atol=1e-10)
        for level, nodes in got.nodes.items():
            np.testing.assert_allclose(nodes[i], trees.marginals(level), atol=1e-10)
    assert (got.masked - got.nodes[grammar.depth][mask]).abs().max() < 1e-12


@pytest.mark.parametrize("name", ["q3 depth 2", "ambiguous q2 depth 3", "ternary"])
def test_a_leafs_marginal_given_the_others_is_its_posterior_when_masked(name):
    grammar = GRAMMARS[name]
    leaves = sample(grammar, 3, seed=5).leaves
    for k in range(grammar.depth + 1):
        got = belief_propagation(grammar, leaves, k).leaf_marginals
        for i, leaf in itertools.product(range(3), range(grammar.n_leaves)):
            mask = torch.arange(grammar.n_leaves) == leaf
            trees = enumerate_trees(grammar, k, evidence(leaves[i], mask, grammar.q))
            exact = trees.marginals(grammar.depth)[leaf]
            np.testing.assert_allclose(got[i, leaf], exact, atol=1e-10)


def test_soft_evidence_and_the_roots_prior_weigh_the_trees():
    grammar, generator = dense(3, 2, seed=8), torch.Generator().manual_seed(0)
    soft = 3 * torch.rand(4, 4, 3, generator=generator, dtype=torch.float64)
    prior = torch.rand(4, 3, generator=generator, dtype=torch.float64)
    prior /= prior.sum(1, keepdim=True)
    for k in range(3):
        got = belief_propagation(grammar, soft, k, prior=prior)
        for i in range(4):
            trees = enumerate_trees(grammar, k, soft[i].numpy())
            weight = trees.weight * 3 * prior[i].numpy()[trees.levels[0][:, 0]]
            root = np.bincount(trees.levels[0][:, 0], weights=weight)
            assert got.log_evidence[i].item() == pytest.approx(np.log(root.sum()), abs=1e-10)
            np.testing.assert_allclose(got.root[i], root / root.sum(), atol=1e-10)


def gapped() -> Grammar:
    """Rules under which the pair (1, 0) never occurs."""
    table = torch.tensor([[[0.5, 0.5], [0.0, 0.0]], [[0.2, 0.0], [0.0, 0.8]]], dtype=torch.float64)
    return Grammar.from_tensor(table, depth=2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_impossible_sequence_has_zeros_and_no_nan(dtype):
    grammar = gapped()
    leaves = torch.tensor([[0, 0, 1, 0], [1, 1, 1, 1]])
    got = belief_propagation(grammar, leaves, dtype=dtype)
    assert got.log_evidence[0] == -torch.inf
    assert got.log_evidence[1].isfinite()
    assert got.root[0].tolist() == [0, 0]
    assert all((nodes[0] == 0).all() for nodes in got.nodes.values())
    torch.testing.assert_close(got.root[1].sum(), torch.tensor(1, dtype=dtype))
    # Leaf 0 sees the impossible pair; leaves 2 and 3 are each possible without themselves.
    assert got.leaf_marginals[0].sum(-1).tolist() == pytest.approx([0, 0, 1, 1])
    mask = torch.tensor([False, False, False, True])
    trees = enumerate_trees(grammar, 0, evidence(leaves[0], mask, 2))
    np.testing.assert_allclose(got.leaf_marginals[0, 3], trees.marginals(2)[3], atol=1e-6)


@pytest.mark.parametrize("k", range(3))
def test_gradients_equal_finite_differences(k):
    generator = torch.Generator().manual_seed(k)
    logits = torch.randn(2, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    soft = torch.rand(3, 4, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([False, True, False, False])

    def outputs(logits: torch.Tensor, soft: torch.Tensor):
        grammar = Grammar.from_tensor(logits.softmax(-1).view(2, 2, 2), depth=2)
        got = belief_propagation(grammar, soft, k, mask=mask, chunk=2)
        return got.root, got.log_evidence, got.leaf_marginals, *got.nodes.values()

    assert torch.autograd.gradcheck(outputs, (logits, soft))


@pytest.mark.parametrize("k", range(3))
def test_gradients_at_zeros_are_those_of_the_sum_over_trees(k):
    """d evidence / d soft leaf, also where the leaf's symbol has weight zero (one-hot leaves)."""
    grammar = Grammar.random(3, 2, seed=1)
    hard = torch.nn.functional.one_hot(sample(grammar, 4, k, seed=k).leaves, 3).double()
    soft = hard.clone().requires_grad_()
    got = belief_propagation(grammar, soft, k)
    got.log_evidence.exp().sum().backward()
    for i, leaf, symbol in itertools.product(range(4), range(4), range(3)):
        one = hard[i].numpy().copy()
        one[leaf] = np.eye(3)[symbol]  # the evidence is linear in each leaf
        exact = enumerate_trees(grammar, k, one).evidence
        assert soft.grad[i, leaf, symbol].item() == pytest.approx(exact, abs=1e-12)


def in_log_space(grammar: Grammar, leaves: np.ndarray, masked: np.ndarray, k: int):
    """Evidence, root and leaf posteriors of one sequence, node by node, with log-sum-exp."""
    with np.errstate(divide="ignore"):
        rules = np.log(grammar.transition.numpy())
        top = np.log(grammar.node_marginals(k).numpy())
        symbols = np.log(np.eye(grammar.q)[leaves])
    q, depth = grammar.q, grammar.depth
    up = {depth: np.where(masked[:, None], 0.0, symbols)}
    for level in range(depth - 1, k - 1, -1):
        pairs = up[level + 1].reshape(-1, 2, q)
        up[level] = np.stack([
            logsumexp(rules + left[None, :, None] + right[None, None], axis=(1, 2))
            for left, right in pairs
        ])
    to_root = np.stack([logsumexp(top[j] + up[k][j], axis=1) for j in range(2**k)])
    total = to_root.sum(0) - np.log(q)
    down = np.empty_like(to_root)
    for j in range(2**k):
        others = np.delete(to_root, j, axis=0).sum(0) - np.log(q)
        down[j] = logsumexp(top[j] + others[:, None], axis=0)
    for level in range(k, depth):
        pairs = up[level + 1].reshape(-1, 2, q)
        down = np.stack([
            message
            for d, (left, right) in zip(down, pairs)
            for message in (
                logsumexp(rules + d[:, None, None] + right[None, None], axis=(0, 2)),
                logsumexp(rules + d[:, None, None] + left[None, :, None], axis=(0, 1)),
            )
        ])
    evidence = logsumexp(total)
    leaf = np.exp(down - logsumexp(down, axis=1, keepdims=True))
    return evidence, np.exp(total - evidence), leaf


@pytest.mark.parametrize("k", [0, 5, 10])
def test_depth_ten_with_32_symbols_does_not_underflow(k):
    grammar = Grammar.random(32, 10, seed=0)
    leaves = sample(grammar, 1, max(k - 1, 0), seed=k).leaves
    mask = torch.rand(1, 1024, generator=torch.Generator().manual_seed(k)) < 0.05
    evidence, root, leaf = in_log_space(grammar, leaves[0].numpy(), mask[0].numpy(), k)
    assert evidence < -2000
    for dtype, near in ((torch.float64, 1e-9), (torch.float32, 2e-4)):
        got = belief_propagation(grammar, leaves, k, mask=mask, levels=(), dtype=dtype)
        assert got.root.dtype == dtype
        assert got.log_evidence.item() == pytest.approx(evidence, rel=near)
        np.testing.assert_allclose(got.root[0], root, atol=near)
        np.testing.assert_allclose(got.leaf_marginals[0], leaf, atol=near)


def test_halves_that_contradict_each_other_do_not_underflow_in_float32():
    """512 leaves for one root and 512 for the other: each half alone is beyond float32."""
    even = torch.tensor([[0.99, 0.01], [0.01, 0.99]], dtype=torch.float64)
    table = torch.einsum("ab,ac->abc", even, even)
    grammar = Grammar.from_tensor(table, depth=10)
    leaves = torch.cat([torch.zeros(1, 512), torch.ones(1, 512)], dim=1).long()
    got = belief_propagation(grammar, leaves, k=10, levels=(), dtype=torch.float32)
    assert got.log_evidence.isfinite()
    torch.testing.assert_close(got.root, torch.full((1, 2), 0.5))


def test_chunks_and_what_is_asked_for_change_no_number():
    grammar = Grammar.random(4, 3, seed=0)
    leaves = sample(grammar, 37, seed=0).leaves
    whole = belief_propagation(grammar, leaves, 1)
    for chunk in (1, 10):
        part = belief_propagation(grammar, leaves, 1, levels={2}, chunk=chunk)
        assert list(part.nodes) == [2]
        torch.testing.assert_close(part.nodes[2], whole.nodes[2], rtol=0, atol=1e-14)
        torch.testing.assert_close(part.leaf_marginals, whole.leaf_marginals, rtol=0, atol=1e-14)
    upward = belief_propagation(grammar, leaves.to(torch.uint8), 1, levels=(), leaf_marginals=False)
    assert upward.leaf_marginals is None
    torch.testing.assert_close(upward.root, whole.root, rtol=0, atol=1e-14)
    torch.testing.assert_close(upward.log_evidence, whole.log_evidence, rtol=0, atol=1e-12)
    assert belief_propagation(grammar, leaves[:0]).root.shape == (0, 4)


def test_the_model_of_filter_k_is_best_on_data_of_filter_k():
    """The root's accuracy: BP_k wins on data k, and BP_0 is certain on data 0."""
    for seed in range(2):
        grammar = Grammar.random(4, 4, seed=seed)
        accuracy = np.zeros((5, 5))
        for data in range(5):
            drawn = sample(grammar, 20_000, data, seed=9)
            for k in range(5):
                got = belief_propagation(grammar, drawn.leaves, k, levels=(), leaf_marginals=False)
                accuracy[data, k] = (got.root.argmax(1) == drawn.root).double().mean()
        assert accuracy[0, 0] == 1
        assert (accuracy.argmax(1) == np.arange(5)).all()
        for data in range(5):  # monotone away from the diagonal
            assert (np.diff(accuracy[data, data:]) < 0.01).all()
            assert (np.diff(accuracy[data, : data + 1]) > -0.01).all()
        assert (np.diff(np.diag(accuracy)) < 0).all()


def test_evidence_is_largest_on_average_under_the_true_filter():
    grammar = Grammar.random(4, 3, seed=0)
    for data in range(4):
        leaves = sample(grammar, 5_000, data, seed=1).leaves
        means = [
            belief_propagation(grammar, leaves, k, levels=(), leaf_marginals=False)
            .log_evidence.mean()
            .item()
            for k in range(4)
        ]
        assert int(np.argmax(means)) == data


GRAMMAR = Grammar.random(3, 2)
GOOD = torch.zeros(2, 4, dtype=torch.int64)


@pytest.mark.parametrize(
    ("leaves", "settings", "message"),
    [
        (GOOD, {"k": 3}, "filter level k=3 is not possible for depth 2; give k in 0..2"),
        (GOOD, {"k": -1}, "filter level k=-1"),
        (torch.zeros(2, 5, dtype=torch.int64), {}, r"leaves of shape \(2, 5\); expected \[n, 4\]"),
        (GOOD + 3, {}, "symbols from 3 to 3; this grammar has 0 to 2"),
        (GOOD - 1, {}, "symbols from -1 to -1"),
        (torch.ones(2, 4, 2), {}, "expected 3 finite likelihoods"),
        (-torch.ones(2, 4, 3), {}, "finite likelihoods of 0 or more"),
        (GOOD, {"levels": [5]}, r"levels \[5\] are no nodes"),
        (GOOD, {"k": 2, "levels": [1]}, r"filtered at k=2; choose from \[0, 2\]"),
        (GOOD, {"prior": torch.tensor([0.5, 0.4, 0.2])}, "expected 3 probabilities"),
        (GOOD, {"dtype": torch.bfloat16}, "give float32 or float64"),
        (GOOD, {"chunk": 0}, "chunk=0 is not possible"),
    ],
)
def test_bad_input_is_refused(leaves, settings, message):
    with pytest.raises(InputError, match=message):
        belief_propagation(GRAMMAR, leaves, **settings)


def test_a_mask_of_another_shape_or_type_is_refused():
    for mask in (torch.zeros(2, 3, dtype=torch.bool), torch.zeros(2, 4)):
        with pytest.raises(InputError, match=rf"mask of shape \(2, {mask.shape[1]}\) and torch"):
            check_leaves(GRAMMAR, GOOD, mask)


def test_masked_posteriors_need_a_mask():
    with pytest.raises(InputError, match="no masked leaves here"):
        _ = belief_propagation(GRAMMAR, GOOD).masked


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_gives_the_same_numbers():
    grammar = Grammar.random(4, 4, seed=0)
    leaves = sample(grammar, 1000, 1, seed=0).leaves
    for k in range(5):
        here = belief_propagation(grammar, leaves, k)
        there = belief_propagation(grammar, leaves.cuda(), k)
        assert there.root.device.type == "cuda"
        torch.testing.assert_close(there.leaf_marginals.cpu(), here.leaf_marginals)
        torch.testing.assert_close(there.log_evidence.cpu(), here.log_evidence)
    assert sample(grammar, 10, 1, device="cuda").leaves.device.type == "cuda"

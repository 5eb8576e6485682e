"""The rules: their shape, their sums, and what is refused."""

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.trees import Grammar


@pytest.mark.parametrize(("q", "arity"), [(2, 2), (4, 2), (7, 2), (3, 3)])
def test_a_random_grammar_gives_every_child_tuple_one_parent(q, arity):
    grammar = Grammar.random(q, depth=3, seed=5, arity=arity)
    table = grammar.transition
    assert table.dtype == torch.float64
    assert table.shape == (q,) * (arity + 1)
    assert ((table > 0).sum(0) == 1).all()
    assert ((table > 0).flatten(1).sum(1) == q ** (arity - 1)).all()
    torch.testing.assert_close(table.flatten(1).sum(1), torch.ones(q, dtype=torch.float64))
    assert grammar.unambiguous
    assert (grammar.q, grammar.arity, grammar.n_leaves) == (q, arity, arity**3)


def test_the_seed_decides_the_rules_and_sigma_their_spread():
    first, again, other = (Grammar.random(4, 4, seed=s).transition for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    even = Grammar.random(4, 4, sigma=0.0).transition
    torch.testing.assert_close(even[even > 0], torch.full((16,), 0.25, dtype=torch.float64))
    logs = [
        Grammar.random(4, 1, sigma=2.0, seed=s).transition.flatten(1) for s in range(300)
    ]
    centred = torch.cat([
        (row[row > 0].log() - row[row > 0].log().mean()) for table in logs for row in table
    ])
    # log softmax minus its mean over four: variance sigma^2 * (1 - 1/4)
    assert centred.var(correction=0).item() == pytest.approx(3.0, rel=0.08)


def test_marginals_are_sums_and_products_along_the_path():
    grammar = Grammar.random(3, 3, seed=2)
    rules = grammar.transition.numpy()
    left, right = np.zeros((3, 3)), np.zeros((3, 3))
    for a, b, c in np.ndindex(3, 3, 3):
        left[a, b] += rules[a, b, c]
        right[a, c] += rules[a, b, c]
    np.testing.assert_allclose(grammar.left.numpy(), left, atol=1e-15)
    np.testing.assert_allclose(grammar.right.numpy(), right, atol=1e-15)
    paths = [left @ left @ left, left @ left @ right, left @ right @ left, left @ right @ right]
    paths += [right @ left @ left, right @ left @ right, right @ right @ left]
    paths += [right @ right @ right]
    np.testing.assert_allclose(grammar.node_marginals(3).numpy(), np.stack(paths), atol=1e-15)
    assert torch.equal(grammar.node_marginals(0), torch.eye(3, dtype=torch.float64)[None])


def test_rules_of_the_users_own_keep_their_gradient():
    logits = torch.randn(3, 9, dtype=torch.float64, requires_grad=True)
    grammar = Grammar.from_tensor(logits.softmax(-1).view(3, 3, 3), depth=2)
    grammar.node_marginals(2)[1, 0, 2].backward()
    assert logits.grad is not None
    assert logits.grad.abs().sum() > 0
    assert not grammar.unambiguous
    rules = Grammar.random(3, 2).transition.numpy().astype(np.float32)
    assert Grammar.from_tensor(rules, depth=2, unambiguous=True).transition.dtype == torch.float64


def uniform(*shape: int) -> torch.Tensor:
    table = torch.ones(shape, dtype=torch.float64)
    return table / table.flatten(1).sum(1)[0]


def negative() -> torch.Tensor:
    table = uniform(2, 2, 2)
    table[0, 0, 0], table[0, 0, 1] = -0.25, 0.75
    return table


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (uniform(3, 3), "expected \\[q, q, q\\]"),
        (uniform(3, 2, 3), "expected \\[q, q, q\\]"),
        (uniform(1, 1, 1), "q at least 2"),
        (uniform(3, 3, 3) * 1.01, "parent 0 sum to 1.01; expected 1"),
        (negative(), "some entry is negative"),
        (uniform(2, 2, 2) * float("nan"), "NaN"),
    ],
)
def test_a_tensor_that_is_no_table_of_rules_is_refused(table, message):
    with pytest.raises(InputError, match=message):
        Grammar.from_tensor(table, depth=2)
    with pytest.raises(InputError, match=message):
        Grammar(table, depth=2)


def test_ambiguous_rules_are_refused_where_unambiguous_ones_are_asked_for():
    table = Grammar.random(3, 2, seed=1).transition.clone()
    pair = tuple(int(i) for i in (table[0] > 0).nonzero()[0])
    table[1] *= 0.9
    table[1][pair] += 0.1
    Grammar.from_tensor(table, depth=2)
    with pytest.raises(InputError, match=rf"children \({pair[0]}, {pair[1]}\) have 2 possible"):
        Grammar.from_tensor(table, depth=2, unambiguous=True)


def test_settings_that_cannot_be_are_refused():
    for settings in ({"q": 1}, {"arity": 1}, {"sigma": -1.0}, {"sigma": float("nan")}):
        with pytest.raises(InputError, match="no grammar of"):
            Grammar.random(**({"q": 3, "depth": 2} | settings))
    with pytest.raises(InputError, match="seed=-1"):
        Grammar.random(3, 2, seed=-1)
    with pytest.raises(InputError, match="depth=0 is not possible"):
        Grammar.random(3, 0)
    with pytest.raises(InputError, match="no level 3 in a tree of depth 2"):
        Grammar.random(3, 2).node_marginals(3)

"""Accuracies of every observer on every kind of data, as an independent prototype measured them.

The prototype's code is not ours; its grammar (q = 4, depth 4) was drawn with NumPy's older
generator. It counted fewer sequences: two of its 25 values for the root are .011 off.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mechprobe.trees import Grammar, bp_ladder, divergences, sample

ROOT = {  # accuracy of BP_0 .. BP_4 for the root, on data of k
    0: (1.000, 0.894, 0.633, 0.573, 0.487),
    1: (0.723, 0.825, 0.647, 0.573, 0.493),
    2: (0.406, 0.471, 0.735, 0.583, 0.499),
    3: (0.305, 0.329, 0.451, 0.640, 0.522),
    4: (0.267, 0.274, 0.318, 0.414, 0.575),
}
MASKED = (0.714, 0.707, 0.669, 0.583, 0.399)  # the same for a masked leaf, on data of k = 0
APART = (0.0, 0.023, 0.113, 0.302, 0.606)  # KL(BP_0 || BP_k) there, nats


@pytest.fixture(scope="module")
def grammar() -> Grammar:
    old = np.random.RandomState(0)
    groups = old.permutation(16).reshape(4, 4)
    table = torch.zeros(4, 16, dtype=torch.float64)
    table.scatter_(1, torch.from_numpy(groups), torch.from_numpy(old.randn(4, 4)).softmax(-1))
    return Grammar.from_tensor(table.view(4, 4, 4), depth=4, unambiguous=True)


@pytest.mark.parametrize("k", range(5))
def test_observers_name_the_root_as_often(grammar, k):
    drawn = sample(grammar, 60_000, k, seed=k)
    root = bp_ladder(grammar, drawn.leaves, dtype=torch.float32).root
    found = (root.argmax(-1) == drawn.root).double().mean(1)
    np.testing.assert_allclose(found, ROOT[k], atol=0.015)
    assert np.abs(found.numpy() - ROOT[k]).mean() < 0.007


def test_observers_name_a_masked_leaf_as_often_and_are_as_far_apart(grammar):
    n = 60_000
    leaves = sample(grammar, n, 0, seed=5).leaves
    mask = torch.zeros(n, 16, dtype=torch.bool)
    mask[torch.arange(n), torch.arange(n) % 16] = True
    observers = bp_ladder(grammar, leaves, mask).masked
    assert observers is not None
    found = (observers.argmax(-1) == leaves[mask]).double().mean(1)
    np.testing.assert_allclose(found, MASKED, atol=0.01)
    kl = [float(divergences(observers[:1], p.clamp_min(1e-300).log()).mean()) for p in observers]
    np.testing.assert_allclose(kl, APART, atol=0.01)

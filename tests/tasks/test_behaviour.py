"""Batches, counterfactuals, halves and parts of a behaviour; pairs that do not fit are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.tasks import Behaviour

LENGTHS = (5, 2, 7, 3, 7, 4)


def first_logit(logits, targets):
    return logits[..., 0].reshape(len(logits), -1)[:, 0] * targets["weight"]


@pytest.fixture
def behaviour(random_batch):
    inputs, corrupt = random_batch(*LENGTHS), random_batch(*LENGTHS, seed=1)
    weight = torch.arange(6.0)
    return Behaviour("mine", inputs, first_logit, "first", {"weight": weight}, corrupt)


@pytest.mark.parametrize("size", [1, 2, 4, 64])
def test_batches_hold_every_example_once_cut_to_their_longest(behaviour, size):
    batches, others = behaviour.batches(size), behaviour.corrupt_batches(size)
    assert sorted(i for b in batches for i in b.index.tolist()) == list(range(6))
    lengths = [n for b in batches for n in b.attention_mask.sum(1).tolist()]
    assert lengths == sorted(LENGTHS)
    for batch, other in zip(batches, others, strict=True):
        assert len(batch) <= size
        assert batch.tokens.shape[1] == int(batch.attention_mask.sum(1).max())
        assert torch.equal(batch.index, other.index)
        for row, i in enumerate(batch.index.tolist()):
            n = LENGTHS[i]
            assert torch.equal(batch.tokens[row, :n], behaviour.inputs.tokens[i, :n])
            assert torch.equal(other.tokens[row, :n], behaviour.corrupt.tokens[i, :n])
        paired = behaviour.counterfactual(batch)
        assert torch.equal(paired.tokens, other.tokens)
        assert torch.equal(paired.attention_mask, batch.attention_mask)


def test_measure_gives_each_example_its_own_targets(behaviour):
    batch = behaviour.batches(4)[1]
    logits = torch.ones(len(batch), 7, 3)
    assert behaviour.measure(logits, batch).tolist() == batch.index.tolist()


def test_a_part_is_numbered_anew_with_its_targets_and_counterfactuals(behaviour):
    part = behaviour.take(np.array([4, 1]))
    assert part.inputs.index.tolist() == [0, 1]
    assert part.targets["weight"].tolist() == [4, 1]
    assert torch.equal(part.inputs.tokens, behaviour.inputs.tokens[[4, 1]])
    assert part.corrupt is not None
    assert torch.equal(part.corrupt.tokens, behaviour.corrupt.tokens[[4, 1]])


def test_swapped_changes_sides_and_keeps_targets(behaviour):
    other = behaviour.swapped()
    assert torch.equal(other.inputs.tokens, behaviour.corrupt.tokens)
    assert torch.equal(other.corrupt.tokens, behaviour.inputs.tokens)
    assert other.targets is behaviour.targets
    assert torch.equal(other.swapped().inputs.tokens, behaviour.inputs.tokens)


def test_halves_are_disjoint_complete_and_seeded(behaviour):
    select, report = behaviour.halves()
    assert sorted([*select, *report]) == list(range(6))
    assert (np.diff(select) > 0).all()
    assert (np.diff(report) > 0).all()
    np.testing.assert_array_equal(behaviour.halves()[0], select)
    assert any((behaviour.halves(seed)[0] != select).any() for seed in range(1, 5))
    one = behaviour.take(np.array([2]))
    assert [part.tolist() for part in one.halves()] == [[0], [0]]


def test_pairs_of_different_length_are_named(behaviour, random_batch):
    shorter = random_batch(5, 2, 7, 2, 7, 3)
    with pytest.raises(InputError, match=r"example 3 has 3 tokens, its counterfactual 2 \(2 such"):
        replace(behaviour, corrupt=shorter)
    with pytest.raises(InputError, match="6 examples, 5 counterfactuals; give one each"):
        replace(behaviour, corrupt=random_batch(*LENGTHS[:5]))
    with pytest.raises(InputError, match="padded to 7 tokens, counterfactuals to 9"):
        replace(behaviour, corrupt=random_batch(*LENGTHS, width=9))


def test_what_does_not_fit_is_refused(behaviour, random_batch):
    inputs = behaviour.inputs
    with pytest.raises(InputError, match="target 'weight' has 5 rows for 6 examples"):
        replace(behaviour, targets={"weight": torch.ones(5)})
    with pytest.raises(InputError, match="must be 0 to 5, in order"):
        replace(behaviour, inputs=random_batch(*LENGTHS, first=3))
    left = replace(inputs, attention_mask=inputs.attention_mask.flip(1))
    with pytest.raises(InputError, match="example 0 is empty or has padding before real tokens"):
        replace(behaviour, inputs=left)
    with pytest.raises(InputError, match="batch size 0 is not possible"):
        behaviour.batches(0)
    with pytest.raises(InputError, match="mine has no counterfactual inputs"):
        replace(behaviour, corrupt=None).corrupt_batches()
    with pytest.raises(InputError, match="no examples; give at least one"):
        behaviour.take(np.array([], dtype=np.int64))

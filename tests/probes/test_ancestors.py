"""Ancestor probes on the network whose messages are known, and against ideal observers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.models.tree_construction import HookedTreeConstruction
from mechprobe.probes.ancestors import (
    ancestor_task,
    block_control,
    fit_ancestor_probes,
    hits_by_sequence,
    leaf_vectors,
    observer_posteriors,
    probe_posteriors,
    reach_table,
)
from mechprobe.probes.fitting import ProbeSettings
from mechprobe.training.tree_tasks import masked_tokens
from mechprobe.trees import Grammar, block_beliefs, enumerate_trees, sample

GRAMMAR = Grammar.random(3, 2, seed=4)
SETTINGS = ProbeSettings(lr=1e-2, batch_size=40, epochs=12, patience=4)


@pytest.fixture(scope="module")
def data():
    samples = sample(GRAMMAR, 700, 0, 1, ancestors=True)
    return leaf_vectors(HookedTreeConstruction(GRAMMAR), samples)


def parts(data):
    return data.part(0, 450), data.part(450, 550), data.part(550, 700)


def test_ancestors_are_those_of_the_sampled_trees(data):
    levels = data.samples.levels
    for leaf in range(4):
        assert torch.equal(data.ancestors(1)[:, leaf], levels[1][:, leaf // 2])
        assert torch.equal(data.ancestors(2)[:, leaf], levels[0][:, 0])
    assert torch.equal(data.ancestors(0), data.samples.leaves)
    part = data.part(10, 20)
    assert torch.equal(part.ancestors(1), data.ancestors(1)[10:20])
    assert torch.equal(part.vectors.storage, data.vectors.storage[40:80])


def test_a_task_and_its_control_hold_for_parts(data):
    task, control = ancestor_task(data, 3, 1), block_control(data, 3, 1)
    part = data.part(7, 9)
    found = np.stack([task.label_of(s) for s in part.vectors.sentences])
    assert (found == data.ancestors(1)[7:9].numpy()).all()
    labels = np.stack([control.label_of(s) for s in data.vectors.sentences])
    assert (labels[:, 0] == labels[:, 1]).all()
    of_pair: dict[tuple, set] = {}
    for pair, label in zip(data.samples.leaves[:, :2].tolist(), labels[:, 0]):
        of_pair.setdefault(tuple(pair), set()).add(int(label))
    assert all(len(found) == 1 for found in of_pair.values())
    assert len({next(iter(found)) for found in of_pair.values()}) > 1
    assert (labels[:, 0] != data.ancestors(1)[:, 0].numpy()).mean() > 0.2


def test_observers_are_block_beliefs_and_enumeration(data):
    for reach in (0, 1, 2):
        theirs = block_beliefs(GRAMMAR, data.samples.leaves, reach).top
        ours = observer_posteriors(GRAMMAR, data, reach, reach)
        torch.testing.assert_close(ours, theirs.repeat_interleave(2**reach, dim=1))
    ours = observer_posteriors(GRAMMAR, data, 2, 1)
    for i in range(3):
        evidence = np.ones((4, 3))
        evidence[:2] = np.eye(3)[data.samples.leaves[i, :2].numpy()]
        theirs = enumerate_trees(GRAMMAR, 0, evidence).marginals(0)[0]
        np.testing.assert_allclose(ours[i, 0].numpy(), theirs, atol=1e-12)


def test_layer_h_of_the_constructed_network_knows_height_h_and_no_layer_more_than_its_block(data):
    train, dev, test = parts(data)
    for height in (1, 2):
        bank = fit_ancestor_probes(ancestor_task(data, 3, height), train, dev, settings=SETTINGS)
        accuracy = hits_by_sequence(bank, test).mean(1)
        assert accuracy[height] > 0.97
        for layer in range(3):
            seen = observer_posteriors(GRAMMAR, test, height, layer).argmax(-1)
            ceiling = float((seen == test.ancestors(height)).double().mean())
            assert accuracy[layer] <= ceiling + 0.05
        reach = reach_table(GRAMMAR, bank, test, height)
        closest = reach[reach["closest"]].set_index("layer")["reach"]
        assert closest[height] == height
        assert closest[0] == 0
        if height == 2:
            assert closest[1] == 1


def test_posteriors_are_distributions_whose_argmax_is_the_prediction(data):
    train, dev, test = parts(data)
    task = ancestor_task(data, 3, 1)
    for kind in ("linear", "mlp"):
        bank = fit_ancestor_probes(task, train, dev, kind=kind, settings=SETTINGS)
        said = probe_posteriors(bank, test.vectors)
        torch.testing.assert_close(said.sum(-1), torch.ones(said.shape[:2], dtype=torch.float64))
        right = (said.argmax(-1).view(3, 150, 4) == test.ancestors(1)).double().mean((1, 2))
        np.testing.assert_allclose(right.numpy(), hits_by_sequence(bank, test).mean(1))


def test_leaves_the_model_did_not_see_are_not_seen_by_observers():
    samples = sample(GRAMMAR, 30, 0, 2, ancestors=True)
    mask = torch.zeros(30, 4, dtype=torch.bool)
    mask[:, 1] = True
    tokens = masked_tokens(GRAMMAR, samples.leaves, mask)
    data = leaf_vectors(HookedTreeConstruction(GRAMMAR), samples, tokens=tokens)
    assert torch.equal(data.mask, mask)
    blind = block_beliefs(GRAMMAR, samples.leaves, 1, mask=mask).top
    ours = observer_posteriors(GRAMMAR, data, 1, 1)
    torch.testing.assert_close(ours, blind.repeat_interleave(2, dim=1))


def test_what_is_refused(data):
    with pytest.raises(InputError, match="ancestors=True"):
        leaf_vectors(HookedTreeConstruction(GRAMMAR), sample(GRAMMAR, 4, 0, 1))
    with pytest.raises(InputError, match="height 3"):
        ancestor_task(data, 3, 3)
    with pytest.raises(InputError, match="reach 3"):
        observer_posteriors(GRAMMAR, data, 1, 3)
    with pytest.raises(InputError, match="'cubic'"):
        fit_ancestor_probes(ancestor_task(data, 3, 1), data, data, kind="cubic")

"""Tasks on trees: batches that depend on the step, losses against a loop, masks as asked."""

from __future__ import annotations

import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.models import forward
from mechprobe.training.fresh import FreshSettings, fit_fresh
from mechprobe.training.tree_tasks import (
    TreeTask,
    as_batch,
    masked_tokens,
    random_masks,
    tree_encoder,
    tree_log_probs,
)
from mechprobe.trees import Grammar

GRAMMAR = Grammar.random(3, 2, seed=1)
SIZES = {"n_layers": 1, "n_heads": 2, "d_model": 16, "d_mlp": 32}


def test_a_batch_depends_on_seed_and_step_only():
    task = TreeTask(GRAMMAR, "masked", 1, batch_size=8, seed=3, max_masks=2)
    again = TreeTask(GRAMMAR, "masked", 1, batch_size=8, seed=3, max_masks=2)
    task.batch(0)
    for step in (5, 2):
        assert torch.equal(task.batch(step).tokens, again.batch(step).tokens)
    assert not torch.equal(task.batch(5).leaves, task.batch(6).leaves)
    other = TreeTask(GRAMMAR, "masked", 1, batch_size=8, seed=4, max_masks=2)
    assert not torch.equal(task.batch(5).leaves, other.batch(5).leaves)


def test_masked_tokens_are_q_and_only_where_the_mask_is():
    batch = TreeTask(GRAMMAR, "masked", batch_size=200, max_masks=3).batch(0)
    assert torch.equal(batch.tokens == 3, batch.mask)
    assert torch.equal(batch.tokens[~batch.mask], batch.leaves[~batch.mask])
    counts = torch.bincount(batch.mask.sum(1), minlength=5).tolist()
    assert counts[0] == counts[4] == 0
    assert min(counts[1:4]) > 40
    assert batch.mask.float().mean(0).sub(0.5).abs().max() < 0.12
    root = TreeTask(GRAMMAR, "root", batch_size=20).batch(0)
    assert not root.mask.any()
    assert torch.equal(root.tokens, root.leaves)


def test_one_mask_is_equally_often_everywhere():
    mask = random_masks(8_000, 4, 1, torch.Generator().manual_seed(0))
    assert (mask.sum(1) == 1).all()
    assert (mask.float().mean(0) - 0.25).abs().max() < 0.03


def test_a_fixed_set_comes_once_an_epoch_in_a_new_order():
    task = TreeTask(GRAMMAR, "root", batch_size=8, n_train=40)
    epochs = [torch.cat([task.batch(5 * e + i).leaves for i in range(5)]) for e in range(2)]
    rows = [sorted(map(tuple, epoch.tolist())) for epoch in epochs]
    assert rows[0] == rows[1]
    assert not torch.equal(*epochs)


@pytest.mark.parametrize("kind", ["root", "masked"])
def test_the_loss_is_the_mean_over_answers(kind):
    task, model = TreeTask(GRAMMAR, kind, batch_size=6, max_masks=3), tree_encoder(
        GRAMMAR, kind, **SIZES
    )
    batch = task.batch(4)
    logits = forward(model, as_batch(batch.tokens))
    losses = []
    for i in range(6):
        if kind == "root":
            losses.append(-logits[i].log_softmax(-1)[batch.root[i]])
        else:
            losses += [-logits[i, j].log_softmax(-1)[batch.leaves[i, j]]
                       for j in range(4) if batch.mask[i, j]]
    torch.testing.assert_close(task.loss(model, 4), torch.stack(losses).mean())
    mask = None if kind == "root" else batch.mask
    said = tree_log_probs(model, batch.tokens, mask, batch_size=4)
    answers = batch.root if kind == "root" else batch.leaves[batch.mask]
    mean = -said.gather(1, answers[:, None]).mean()
    torch.testing.assert_close(mean.float(), torch.stack(losses).mean())


def test_a_model_learns_the_root_of_a_small_tree(one_thread):
    grammar = Grammar.random(2, 2, seed=0)
    task, model = TreeTask(grammar, "root", batch_size=64), tree_encoder(grammar, "root", **SIZES)
    fit_fresh(model, task.loss, FreshSettings(steps=150, lr=5e-3, warmup_steps=10))
    test = TreeTask(grammar, "root", batch_size=500, seed=9).batch(0)
    right = tree_log_probs(model, test.tokens).argmax(1) == test.root
    assert right.float().mean() > 0.95


def test_what_cannot_be_asked():
    with pytest.raises(InputError, match="k=3"):
        TreeTask(GRAMMAR, "root", 3)
    with pytest.raises(InputError, match="'roots'"):
        TreeTask(GRAMMAR, "roots")
    with pytest.raises(InputError, match="1 to 4 masks"):
        TreeTask(GRAMMAR, "masked", max_masks=5)
    with pytest.raises(InputError, match="smaller than a batch"):
        TreeTask(GRAMMAR, "root", n_train=10)
    leaves = torch.tensor([[0, 1, 2, 3]])
    with pytest.raises(InputError, match="symbols from 0 to 3"):
        masked_tokens(GRAMMAR, leaves, torch.zeros(1, 4, dtype=torch.bool))
    with pytest.raises(InputError, match="'x'"):
        tree_encoder(GRAMMAR, "x", **SIZES)

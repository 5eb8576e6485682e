"""Learned masks against a naive trainer written here, and against what they must never do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.gates.baselines import mean_baseline
from mechprobe.gates.reference import gated_logits
from mechprobe.locate import hard_concrete
from mechprobe.locate.masks import (
    MaskTrainer,
    Member,
    batch_at,
    frozen,
    full_model_logits,
    sparsity_penalty,
)
from mechprobe.models import forward
from mechprobe.runs import Run
from mechprobe.tasks.metrics import kl
from tests.locate.masks.conftest import MEMBERS, SHORT, trained
from tests.locate.masks.naive import naive_training

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("objective", ["kl", "task"])
@pytest.mark.parametrize("rule", ["expected", "published"])
def test_training_equals_the_naive_one(model, batches, grid, baseline, rule, objective):
    """Six steps of three members, two micro-batches each, against one member at a time."""
    settings = replace(SHORT, rule=rule, objective=objective)
    means = baseline.values(model, batches[0], grid)
    found = trained(model, batches, grid, baseline, settings)
    assert found.dtype == torch.float32
    start = MaskTrainer(MEMBERS, len(grid), settings).log_alpha
    assert (found - start).abs().max() > 0.1
    with frozen(model):
        for row, member in zip(found, MEMBERS, strict=True):
            expected, _ = naive_training(model, batches, member, grid, means, settings)
            torch.testing.assert_close(row, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("rule", ["expected", "published"])
def test_the_first_gradients_equal_the_naive_ones(
    tiny_classifier, batches, grid, rule, tmp_path
):
    """The float32 model: AdamW's first moment after one step is a tenth of the gradient."""
    model = tiny_classifier()
    settings = replace(SHORT, rule=rule)
    stands = mean_baseline(model, batches, grid)
    with Run.open(tmp_path, {"study": "test"}) as run:
        store = run.checkpoint("masks")

        def stop(step, report):
            if step == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            trained(model, batches, grid, stands, settings, store=store, save_every=1, on_step=stop)
        state = store.load()
    assert state is not None
    assert state["step"] == 1
    means = stands.values(model, batches[0], grid)
    with frozen(model):
        for k, member in enumerate(MEMBERS):
            gradient = []
            naive_training(model, batches, member, grid, means, settings, gradient)
            moment = state["descent"]["first"][k] / 0.1
            assert gradient[0].abs().max() > 1e-4
            torch.testing.assert_close(moment, gradient[0], rtol=0, atol=1e-5)
            climbing = state["ascent"]["first"][k].abs() / 0.1
            torch.testing.assert_close(climbing, gradient[1].abs(), rtol=0, atol=1e-5)


def test_the_gradient_of_log_alpha_passes_gradcheck(model, batches, grid, baseline):
    full = forward(model, batches[0]).detach()
    u = torch.stack([
        hard_concrete.uniform_noise(m.seed, 0, len(grid), torch.float64) for m in MEMBERS
    ])
    target = torch.tensor([0.5, 0.7, 0.3], dtype=torch.float64)

    def loss(log_alpha, multipliers):
        gates = hard_concrete.sample(log_alpha, u)
        logits = gated_logits(model, batches[0], gates, grid, baseline)
        penalty = sparsity_penalty(1 - gates.mean(-1), target, multipliers)
        expected = hard_concrete.probability_closed(log_alpha).mean(-1)
        both = penalty + sparsity_penalty(expected, target, multipliers)
        return torch.stack([kl(full, row).mean() for row in logits]) + both

    generator = torch.Generator().manual_seed(0)
    log_alpha = torch.rand(3, len(grid), generator=generator, dtype=torch.float64) - 0.5
    multipliers = torch.rand(3, 2, generator=generator, dtype=torch.float64)
    inputs = (log_alpha.requires_grad_(True), multipliers.requires_grad_(True))
    assert torch.autograd.gradcheck(loss, inputs)


def test_members_are_their_own_single_runs_for_any_chunk(model, batches, grid, baseline):
    together = trained(model, batches, grid, baseline)
    for chunk in (1, 2):
        chunked = trained(model, batches, grid, baseline, chunk=chunk)
        torch.testing.assert_close(chunked, together, rtol=0, atol=1e-6)
    for row, member in zip(together, MEMBERS, strict=True):
        alone = trained(model, batches, grid, baseline, members=[member])
        torch.testing.assert_close(alone[0], row, rtol=0, atol=1e-6)


def test_training_is_deterministic_and_draws_from_no_global_state(model, batches, grid, baseline):
    torch.manual_seed(1)
    first = trained(model, batches, grid, baseline)
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    again = trained(model, batches, grid, baseline)
    assert torch.equal(first, again)
    assert torch.equal(before, torch.random.get_rng_state())
    assert not torch.equal(first, trained(model, batches, grid, baseline, order_seed=1))
    other = [replace(m, seed=m.seed + 1) for m in MEMBERS]
    assert not torch.equal(first, trained(model, batches, grid, baseline, members=other))


def test_known_full_logits_are_used(model, batches, grid, baseline):
    known = full_model_logits(model, batches)
    first = trained(model, batches, grid, baseline, full_logits=known)
    assert torch.equal(first, trained(model, batches, grid, baseline))
    shifted = [logits.flip(-1) for logits in known]
    assert not torch.equal(first, trained(model, batches, grid, baseline, full_logits=shifted))


def test_every_epoch_visits_every_batch_once():
    for seed in (0, 5):
        visits = [batch_at(draw, 7, seed) for draw in range(21)]
        for epoch in range(3):
            assert sorted(visits[7 * epoch : 7 * epoch + 7]) == list(range(7))
        assert visits[:7] != visits[7:14]
    assert [batch_at(d, 7, 0) for d in range(7)] != [batch_at(d, 7, 5) for d in range(7)]


def test_a_frozen_model_is_given_back_as_it_was(tiny_classifier):
    model = tiny_classifier()
    model.embed.requires_grad_(False)
    before = [p.requires_grad for p in model.parameters()]

    def fail():
        with frozen(model):
            assert not any(p.requires_grad for p in model.parameters())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [p.requires_grad for p in model.parameters()] == before
    assert len(set(before)) == 2


def test_training_leaves_the_model_alone(model, batches, grid, baseline):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trained(model, batches, grid, baseline)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_each_step_reports_every_member(model, batches, grid, baseline):
    seen = []
    trained(model, batches, grid, baseline, on_step=lambda step, r: seen.append((step, r)))
    assert [step for step, _ in seen] == [1, 2, 3, 4, 5, 6]
    first = seen[0][1]
    start = MaskTrainer(MEMBERS, len(grid), SHORT).log_alpha.detach()
    expected = hard_concrete.probability_closed(start).mean(-1)
    np.testing.assert_allclose(first["closed"], expected, atol=1e-6)
    np.testing.assert_allclose(first["target"], [m.sparsity / 3.6 for m in MEMBERS], atol=1e-6)
    assert all(len(r["loss"]) == 3 and min(r["loss"]) > 0 for _, r in seen)


def test_wrong_searches_are_refused(model, batches, grid, baseline):
    with pytest.raises(InputError, match="at least one batch"):
        trained(model, [], grid, baseline)
    with pytest.raises(InputError, match="at least one member"):
        trained(model, batches, grid, baseline, members=[])
    with pytest.raises(InputError, match="2 full-model logits for 3 batches"):
        trained(
            model, batches, grid, baseline, full_logits=full_model_logits(model, batches[:2])
        )
    with pytest.raises(InputError, match="seed -1 of a mask is negative"):
        Member(-1, 0.5)
    with pytest.raises(InputError, match="outside"):
        Member(0, 1.0)


def test_a_loss_that_is_not_finite_is_named(model, batches, grid, baseline):
    broken = full_model_logits(model, batches)
    third = batch_at(2, 3, 0)  # two micro-batches a step: step 1 is the first to use it
    broken[third] = broken[third] * float("nan")
    with pytest.raises(FloatingPointError, match=r"at step 1 for \[Member\(seed=3.*NaN or inf"):
        trained(model, batches, grid, baseline, full_logits=broken)

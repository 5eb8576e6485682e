"""Fits on fresh batches: Adam as by hand, resumed to the bit, refused where it cannot work."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from mechprobe.errors import InputError
from mechprobe.runs import Checkpoint
from mechprobe.training.fresh import FreshSettings, fit_fresh


def data(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(16, 5, generator=torch.Generator().manual_seed(step))
    return x, x.sum(1, keepdim=True)


def loss_at(model: nn.Linear, step: int) -> torch.Tensor:
    x, y = data(step)
    return ((model(x) - y) ** 2).mean()


def fresh() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(5, 1)


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_it_is_adam_with_the_schedule():
    settings = FreshSettings(steps=20, lr=0.05, warmup_steps=4)
    ours, theirs = fresh(), fresh()
    fit_fresh(ours, loss_at, settings)
    optimiser = torch.optim.Adam(theirs.parameters())
    for step in range(20):
        optimiser.param_groups[0]["lr"] = 0.05 * min((step + 1) / 4, (20 - step) / 16, 1)
        optimiser.zero_grad()
        loss_at(theirs, step).backward()
        optimiser.step()
    torch.testing.assert_close(weights(ours), weights(theirs))
    assert FreshSettings(steps=20, lr=0.05, warmup_steps=4, decay=False).rate(19) == 0.05


def test_it_learns():
    model = fresh()
    fit_fresh(model, loss_at, FreshSettings(steps=400, lr=0.05, warmup_steps=10))
    assert loss_at(model, 10_000).item() < 1e-3


def test_resumed_it_has_the_same_numbers(tmp_path):
    settings = FreshSettings(steps=30, lr=0.05, warmup_steps=4)
    whole, seen = fresh(), []
    fit_fresh(
        whole, loss_at, settings, trajectory=(0, 7, 30),
        on_checkpoint=lambda step, model: seen.append((step, copy.deepcopy(model))),
    )
    assert [step for step, _ in seen] == [0, 7, 30]
    torch.testing.assert_close(weights(seen[0][1]), weights(fresh()))

    def broken(model: nn.Linear, step: int) -> torch.Tensor:
        if step == 17:
            raise KeyboardInterrupt
        return loss_at(model, step)

    torn, store = fresh(), Checkpoint(tmp_path / "state.safetensors")
    with pytest.raises(KeyboardInterrupt):
        fit_fresh(torn, broken, settings, store=store, save_every=5)
    again = fresh()
    fit_fresh(again, loss_at, settings, store=store, save_every=5)
    assert torch.equal(weights(again), weights(whole))


def test_frozen_weights_stay():
    model = fresh()
    model.bias.requires_grad_(False)
    before = model.bias.clone()
    fit_fresh(model, loss_at, FreshSettings(steps=5))
    assert torch.equal(model.bias, before)


def test_a_loss_that_is_no_number_stops_it():
    with pytest.raises(FloatingPointError, match="step 0"):
        fit_fresh(fresh(), lambda m, s: loss_at(m, s) * torch.nan, FreshSettings(steps=3))


def test_settings_that_cannot_work():
    with pytest.raises(InputError, match="0 steps"):
        FreshSettings(steps=0)
    with pytest.raises(InputError, match="trajectory point 9"):
        fit_fresh(fresh(), loss_at, FreshSettings(steps=5), trajectory=(9,))

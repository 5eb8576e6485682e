"""Where masks start, how multipliers and learning rates move."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mechprobe.locate.masks import (
    MaskSettings,
    MaskTrainer,
    Member,
    published_settings,
    sparsity_penalty,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def test_log_alpha_starts_where_it_should():
    trainer = MaskTrainer([Member(0, 0.5), Member(1, 0.5)], 4_000, published_settings(0.5))
    start = trainer.log_alpha.detach()
    assert float(start.mean()) == pytest.approx(10, abs=0.001)
    assert float(start.std()) == pytest.approx(0.01, rel=0.05)
    assert not torch.equal(start[0], start[1])
    again = MaskTrainer([Member(1, 0.3)], 4_000, published_settings(0.3))
    assert torch.equal(again.log_alpha[0], start[1])
    assert (trainer.multipliers == 0).all()


def test_the_penalty_is_the_lagrangian():
    closed, target = torch.tensor([0.2, 0.6]), torch.tensor([0.5, 0.5])
    multipliers = torch.tensor([[2.0, 3.0], [-1.0, 4.0]])
    penalty = sparsity_penalty(closed, target, multipliers)
    np.testing.assert_allclose(penalty, [2 * 0.3 + 3 * 0.09, 0.1 + 4 * 0.01], atol=1e-6)


@pytest.mark.parametrize("rule", ["expected", "published"])
def test_multipliers_climb_and_log_alpha_gives_way(rule):
    """Too few closed: lambda1 rises and gates close; too many: lambda1 falls and gates open."""
    settings = MaskSettings(rule=rule, steps=40, lr_warmup_steps=1, sparsity_warmup=0.0)
    for start, direction in ((3.0, 1), (-3.0, -1)):
        trainer = MaskTrainer([Member(0, 0.5)], 50, replace(settings, init=start))
        for _ in range(20):
            gates, closed = trainer.draw()
            trainer.backward(gates, closed, torch.zeros_like(gates))
            trainer.update()
        lambda1, lambda2 = trainer.multipliers.detach()[0].tolist()
        assert lambda1 * direction > 1
        assert lambda2 > 1
        assert (float(trainer.log_alpha.detach().mean()) - start) * direction < -0.3


def test_learning_rates_rise_then_fall_to_the_end():
    """With a gradient of 1 in every step, AdamW moves by its learning rate."""
    settings = MaskSettings(steps=10, lr=0.1, lr_warmup_steps=4, weight_decay=0.0)
    trainer = MaskTrainer([Member(0, 0.5)], 3, settings)
    rates = []
    for _ in range(10):
        before = trainer.log_alpha.detach().clone(), trainer.multipliers.detach().clone()
        trainer.log_alpha.grad = torch.ones_like(trainer.log_alpha)
        trainer.multipliers.grad = torch.ones_like(trainer.multipliers)
        trainer.update()
        down = before[0] - trainer.log_alpha.detach()
        up = trainer.multipliers.detach() - before[1]
        rates.append(float(down.mean()) / 0.1)
        assert float(up.mean()) == pytest.approx(rates[-1], rel=1e-4)
    expected = [1 / 4, 2 / 4, 3 / 4, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]
    np.testing.assert_allclose(rates, expected, rtol=1e-4)
    assert trainer.active == []

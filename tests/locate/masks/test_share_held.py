"""The share of closed gates is met, and the gradient is that of a loss behind the shift."""

from __future__ import annotations

import pytest
import torch

from mechprobe.locate import hard_concrete
from mechprobe.locate.masks import MaskSettings, MaskTrainer, Member
from mechprobe.locate.share_held import along_the_share, held_at
from tests.locate.masks.conftest import trained

pytestmark = pytest.mark.usefixtures("one_thread")


def some_log_alpha(k=4, n=9):
    generator = torch.Generator().manual_seed(1)
    return 3 * torch.randn(k, n, generator=generator, dtype=torch.float64)


def test_one_number_a_row_brings_the_expected_share_to_its_target():
    log_alpha, target = some_log_alpha(), torch.tensor([0.05, 0.3, 0.5, 0.95]).double()
    held = held_at(log_alpha, target)
    shift = held - log_alpha
    torch.testing.assert_close(shift, shift[:, :1].expand_as(shift), rtol=0, atol=1e-9)
    torch.testing.assert_close(hard_concrete.probability_closed(held).mean(-1), target)
    torch.testing.assert_close(held_at(held + 7, target), held)


def test_the_gradient_is_that_of_the_loss_after_the_shift():
    """By finite differences through the bisection itself."""
    target, n = torch.tensor([0.4], dtype=torch.float64), 6
    log_alpha = held_at(some_log_alpha(1, n), target)
    slope = torch.linspace(-1, 2, n, dtype=torch.float64)

    def loss(x):
        return float((slope * held_at(x, target).tanh()).sum())

    grad = slope * (1 - log_alpha.tanh() ** 2)
    found, h = along_the_share(log_alpha, grad), 1e-4
    for i in range(n):
        step = torch.zeros(1, n, dtype=torch.float64)
        step[0, i] = h
        expected = (loss(log_alpha + step) - loss(log_alpha - step)) / (2 * h)
        assert float(found[0, i]) == pytest.approx(expected, abs=1e-4)
    assert float(found.sum()) == pytest.approx(0, abs=1e-9)


def test_a_search_is_at_its_target_in_every_step(model, batches, grid, baseline):
    members = [Member(3, 0.5), Member(0, 0.7)]
    settings = MaskSettings(rule="held", steps=10, lr=0.3, lr_warmup_steps=2, sparsity_warmup=0.5)
    reports = []
    found = trained(model, batches, grid, baseline, settings, members,
                    on_step=lambda step, report: reports.append(report))  # fmt: skip
    for step, report in enumerate(reports):
        share = min(1.0, (step + 1) / 5)
        assert report["target"] == pytest.approx([0.5 * share, 0.7 * share])
        assert report["closed"] == pytest.approx(report["target"], abs=1e-5)
    assert (found - found.mean(1, keepdim=True)).abs().max() > 0.3
    assert not torch.equal(found[0], found[1])


def test_no_multiplier_moves_where_the_share_is_held():
    trainer = MaskTrainer([Member(0, 0.5)], 5, MaskSettings(rule="held", steps=3))
    trainer.hold()
    gates, closed = trainer.draw()
    trainer.backward(gates, closed, torch.ones_like(gates))
    trainer.update()
    assert (trainer.multipliers == 0).all()

"""bfloat16 products under float32 gates, stream and norms, against the float32 reference."""

from __future__ import annotations

import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.gates.baselines import make_baseline
from mechprobe.gates.engine import Engine
from mechprobe.gates.reference import gated_logits
from mechprobe.models import site_grid

pytestmark = pytest.mark.usefixtures("one_thread")

LOGITS, SLOPES = 0.04, 0.08
"""Of the largest; a bfloat16 rounds by up to 2^-9 = 0.002, once in each of about 30 steps."""


def a_loss(logits, batch):
    generator = torch.Generator().manual_seed(0)
    weight = torch.rand(logits.shape, generator=generator, dtype=torch.float64).to(logits)
    return (weight * logits.softmax(-1)).sum()


def some_gates(k, n):
    generator = torch.Generator().manual_seed(0)
    return (2 * torch.rand(k, n, generator=generator) - 0.5).clamp(0, 1)


@pytest.mark.parametrize("kind", ["mean", "mean_position"])
def test_every_architecture_is_near_the_float32_reference(architecture, kind, filled, ragged):
    model, batch = filled(architecture, torch.float32), ragged(architecture)
    grid = site_grid(model)
    baseline = make_baseline(kind, model, [batch], grid)
    gates = some_gates(2, len(grid))
    leaf = gates.clone().requires_grad_()
    logits = gated_logits(model, batch, leaf, grid, baseline)
    losses = torch.stack([a_loss(row, batch) for row in logits])
    (slopes,) = torch.autograd.grad(losses.sum(), leaf)
    engine = Engine(model, grid, baseline, precision=torch.bfloat16)
    got = engine.logits(batch, gates)
    values, found = engine.gradients(batch, gates, a_loss)
    assert got.dtype == values.dtype == found.dtype == torch.float32
    off = (got - logits).abs().max()
    assert 0 < off <= LOGITS * logits.abs().max()
    assert (found - slopes).norm() <= SLOPES * slopes.norm()
    torch.testing.assert_close(values, losses, rtol=LOGITS, atol=0)


def test_stacked_and_closed_vectors_agree_with_one_at_a_time(filled, ragged):
    model, batch = filled("classifier", torch.float32), ragged("classifier")
    grid = site_grid(model)
    baseline = make_baseline("mean", model, [batch], grid)
    engine = Engine(model, grid, baseline, precision=torch.bfloat16)
    gates = some_gates(5, len(grid))
    one, five = (engine.gradients(batch, gates, a_loss, at_once=n) for n in (1, 5))
    for got, want in zip(five, one, strict=True):
        assert (got - want).abs().max() <= SLOPES * want.abs().max()


def test_other_precisions_are_refused(filled, ragged):
    batch = ragged("classifier")
    for own, asked in ((torch.float64, torch.bfloat16), (torch.float32, torch.float16)):
        model = filled("classifier", own)
        grid = site_grid(model)
        with pytest.raises(InputError, match="precision torch"):
            Engine(model, grid, make_baseline("zero", model, [batch], grid), precision=asked)

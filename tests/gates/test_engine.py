"""The engine against the reference path (hooks and autograd), on every architecture.

The architectures are those of ``tests.gates.conftest``: heads that classify at a pooled or at the
last position, read every position, flatten all of them, or write words; causal, bidirectional,
local and cross attention, grouped queries; norms before, after and nowhere. Every one of them is
compared in float32 and float64 (here) and bfloat16 (``test_engine_precision``), with no padding and
with padding on either side, one vector at a time and stacked; every Hugging Face family besides in
``test_engine_hf``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.gates.baselines import make_baseline, paired_baseline
from mechprobe.gates.context import gated
from mechprobe.gates.engine import Engine, EngineFallback, engine_for
from mechprobe.gates.reference import gated_logits
from mechprobe.models import (
    build_classifier,
    build_decoder,
    build_decoder_classifier,
    forward,
    run_with_edits,
    site_grid,
)
from mechprobe.sites import Site
from tests.gates.conftest import SIZES

pytestmark = pytest.mark.usefixtures("one_thread")
CLOSE = {torch.float64: 1e-10, torch.float32: 1e-5}


def mixed_gates(k, n, seed=0, dtype=torch.float64):
    """Gates of which about a quarter are exactly 0, a quarter exactly 1."""
    generator = torch.Generator().manual_seed(seed)
    drawn = 2 * torch.rand(k, n, generator=generator, dtype=torch.float64) - 0.5
    return drawn.clamp(0, 1).to(dtype)


def make_loss(seed=0):
    """A loss of one gate vector's logits in which every logit counts."""

    def loss(logits, batch):
        generator = torch.Generator().manual_seed(seed)
        weight = torch.rand(logits.shape, generator=generator, dtype=torch.float64).to(logits)
        return (weight * (logits.softmax(-1) + 0.1 * logits.square())).sum()

    return loss


def by_reference(model, batch, gates, grid, baseline, loss):
    leaf = gates.clone().requires_grad_()
    logits = gated_logits(model, batch, leaf, grid, baseline)
    losses = torch.stack([loss(row, batch) for row in logits])
    return logits.detach(), losses.detach(), torch.autograd.grad(losses.sum(), leaf)[0]


def assert_near(got, expected, dtype):
    """Within the tolerance, relative to the largest value."""
    assert got.shape == expected.shape
    assert (got - expected).abs().max() <= CLOSE[dtype] * expected.abs().max()


def assert_equals_the_reference(engine, batch, gates, at_once=None):
    """Logits, losses and gate gradients of the engine against hooks and autograd."""
    loss, model, dtype = make_loss(), engine.model, gates.dtype
    logits, losses, slopes = by_reference(model, batch, gates, engine.grid, engine.baseline, loss)
    assert_near(engine.logits(batch, gates, at_once=at_once), logits, dtype)
    got, found = engine.gradients(batch, gates, loss, at_once=at_once)
    assert_near(got, losses, dtype)
    assert_near(found, slopes, dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_every_architecture_equals_the_reference(architecture, filled, ragged, dtype):
    model, batch = filled(architecture, dtype), ragged(architecture)
    grid = site_grid(model)
    baseline = make_baseline("mean", model, [batch], grid)
    gates = mixed_gates(3, len(grid), dtype=dtype)
    assert_equals_the_reference(Engine(model, grid, baseline), batch, gates)


@pytest.mark.parametrize("name", ["classifier", "llama", "parallel-classifier", "t5-gated"])
@pytest.mark.parametrize("kind", ["zero", "mean_position", "resample"])
def test_every_baseline_and_neurons(name, kind, filled, ragged):
    model, batch = filled(name), ragged(name)
    grid = replace(site_grid(model), neurons=True)
    baseline = make_baseline(kind, model, [batch], grid)
    gates = mixed_gates(2, len(grid), seed=1)
    assert_equals_the_reference(Engine(model, grid, baseline), batch, gates)


@pytest.mark.parametrize("name", ["classifier", "neox", "t5"])
@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_vectors_may_share_a_prefix_and_run_stacked(name, at_once, filled, ragged):
    model, batch = filled(name), ragged(name)
    grid = site_grid(model)
    baseline = make_baseline("mean", model, [batch], grid)
    gates = torch.ones(6, len(grid), dtype=torch.float64)  # all open; one closed each; a pair alike
    last = grid.index("dec 2.1" if name == "t5" else "2.1")
    gates[1, 0] = gates[2, last] = gates[3, -1] = 0
    gates[4] = gates[3]
    gates[5, -2:] = 0.3
    assert_equals_the_reference(Engine(model, grid, baseline), batch, gates, at_once)


@pytest.mark.parametrize("at_once", [2, 4])
def test_vectors_that_part_in_the_decoder_each_read_the_encoder(at_once, filled, ragged):
    model, batch = filled("t5"), ragged("t5")
    grid = site_grid(model)
    baseline = make_baseline("mean", model, [batch], grid)
    gates = torch.ones(4, len(grid), dtype=torch.float64)  # no two alike from the decoder on
    for row, site in enumerate(("dec 0.0", "dec 0.1", "cross 0.2")):
        gates[row, grid.index(site)] = 0.4
    assert_equals_the_reference(Engine(model, grid, baseline), batch, gates, at_once)


@pytest.mark.parametrize("at_once", [1, 4])
def test_gradients_nobody_wants_are_zero_and_the_others_right(at_once, filled, ragged):
    model, batch = filled("classifier"), ragged("classifier")
    grid = site_grid(model)
    baseline = make_baseline("mean", model, [batch], grid)
    gates, loss = mixed_gates(4, len(grid), seed=3), make_loss()
    wanted = (gates > 0) & (gates < 1)
    wanted[1, : grid.index("2.0")] = False  # only what comes late
    wanted[2] = False
    _, _, slopes = by_reference(model, batch, gates, grid, baseline, loss)
    engine = Engine(model, grid, baseline)
    _, found = engine.gradients(batch, gates, loss, wanted=wanted, at_once=at_once)
    assert_near(found, slopes * wanted, torch.float64)
    assert not found[2].any()


@pytest.mark.parametrize("at_once", [1, 3])
def test_each_examples_gradients(architecture, at_once, filled, ragged):
    """Kept apart they equal those of each example's own loss, and add up to the batch's."""
    model, batch = filled(architecture), ragged(architecture)
    grid = replace(site_grid(model), neurons=architecture in ("classifier", "t5-gated"))
    baseline = make_baseline("mean_position", model, [batch], grid)
    gates = mixed_gates(3, len(grid), seed=5)
    engine = Engine(model, grid, baseline)

    def metric(logits, batch):
        return logits.flatten(1).softmax(-1).square().sum(1)

    values, found = engine.each_gradients(batch, gates, metric, at_once=at_once)
    assert found.shape == (3, len(batch), len(grid))
    for row in range(len(batch)):
        _, losses, slopes = by_reference(
            model, batch, gates, grid, baseline, lambda logits, b, row=row: metric(logits, b)[row]
        )
        assert_near(values[:, row], losses, torch.float64)
        assert_near(found[:, row], slopes, torch.float64)
    _, whole = engine.gradients(batch, gates, lambda logits, b: metric(logits, b).sum())
    assert_near(found.sum(1), whole, torch.float64)


@pytest.mark.parametrize("kinds", [{"mlps": False}, {"heads": False},
                                   {"heads": False, "mlps": False, "neurons": True}])  # fmt: skip
@pytest.mark.parametrize("name", ["classifier", "gptj"])
def test_grids_of_one_kind(name, kinds, filled, ragged):
    model, batch = filled(name), ragged(name)
    grid = replace(site_grid(model), **kinds)
    baseline = make_baseline("mean", model, [batch], grid)
    gates = mixed_gates(2, len(grid), seed=4)
    assert_equals_the_reference(Engine(model, grid, baseline), batch, gates)


def test_everything_closed_and_everything_open(architecture, filled, ragged):
    model, batch = filled(architecture), ragged(architecture)
    grid = site_grid(model)
    baseline = make_baseline("mean", model, [batch], grid)
    gates = torch.stack([torch.ones(len(grid)), torch.zeros(len(grid))]).double()
    logits = Engine(model, grid, baseline).logits(batch, gates)
    assert_near(logits[0], forward(model, batch), torch.float64)
    assert_near(logits[1], gated_logits(model, batch, gates[1:], grid, baseline)[0], torch.float64)


@pytest.mark.parametrize("padding", ["none", "left"])
def test_every_architecture_without_padding_and_on_the_left(architecture, padding, filled, ragged):
    """On the right there is some in all other tests."""
    model, batch = filled(architecture), ragged(architecture)
    grid, width = site_grid(model), batch.tokens.shape[1]
    lengths = torch.tensor([7, 4, 6] if padding == "left" else [width] * 3)
    real = (torch.arange(width).flip(0) < lengths[:, None]).long()
    batch = replace(batch, tokens=batch.tokens.clamp(min=1) * real, attention_mask=real)
    baseline = make_baseline("mean", model, [batch], grid)
    gates = mixed_gates(2, len(grid))
    assert_equals_the_reference(Engine(model, grid, baseline), batch, gates)


@pytest.mark.parametrize("name", ["classifier", "decoder-classifier", "gpt2"])
@pytest.mark.parametrize("remember", [0, 2**20])
def test_one_layer(name, remember, ragged):
    """The first layer is the last: where one position is read, it is so from the start."""
    sizes: dict[str, Any] = SIZES | {"n_layers": 1, "dtype": torch.float64}
    build = {
        "classifier": lambda: build_classifier(("yes", "no"), None, **sizes),
        "decoder-classifier": lambda: build_decoder_classifier(("yes", "no"), None, **sizes),
        "gpt2": lambda: build_decoder(**sizes),
    }[name]
    model, batch = build().requires_grad_(False), ragged(name)
    grid = site_grid(model)
    engine = Engine(model, grid, make_baseline("mean", model, [batch], grid), remember=remember)
    for at_once in (1, 3):
        assert_equals_the_reference(engine, batch, mixed_gates(3, len(grid)), at_once)


def test_paired_values(filled, random_batch):
    model, batch, other = filled("gpt2"), random_batch(6, 6), random_batch(6, 6, seed=9)
    grid = site_grid(model)
    baseline = paired_baseline(lambda _: other)
    gates = mixed_gates(3, len(grid))
    expected = gated_logits(model, batch, gates, grid, baseline)
    assert_near(Engine(model, grid, baseline).logits(batch, gates), expected, torch.float64)


def test_gradients_agree_with_finite_differences(filled, ragged):
    model, batch = filled("classifier"), ragged("classifier")
    grid = site_grid(model)
    baseline, loss = make_baseline("mean", model, [batch], grid), make_loss()
    engine = Engine(model, grid, baseline)
    gates = torch.full((1, len(grid)), 0.6, dtype=torch.float64)
    _, slopes = engine.gradients(batch, gates, loss)
    step = 1e-5 * torch.eye(len(grid), dtype=torch.float64)
    up, _ = engine.gradients(batch, gates + step, loss)
    down, _ = engine.gradients(batch, gates - step, loss)
    torch.testing.assert_close(slopes[0], (up - down) / 2e-5, rtol=1e-6, atol=1e-8)


def test_wrong_shapes_are_refused(filled, ragged):
    model, batch = filled("classifier"), ragged("classifier")
    grid = site_grid(model)
    engine = Engine(model, grid, make_baseline("zero", model, [batch], grid))
    with pytest.raises(InputError, match="grid of 15 sites"):
        engine.logits(batch, torch.ones(2, 3))
    with pytest.raises(InputError, match="grid of 15 sites"):
        engine.gradients(batch, torch.ones(1, 14), make_loss())


def test_a_model_under_hooks_or_unknown_settings_falls_back_with_a_warning(filled, ragged):
    model, batch = filled("classifier"), ragged("classifier")
    grid = site_grid(model)
    baseline = make_baseline("zero", model, [batch], grid)
    assert engine_for(model, grid, baseline) is not None
    with gated(model, closed=["0.1"]), pytest.warns(EngineFallback, match="hooks stand"):
        assert engine_for(model, grid, baseline) is None
    model.cfg.attn_scores_soft_cap = 30.0
    with pytest.warns(EngineFallback, match="attn_scores_soft_cap=30"):
        assert engine_for(model, grid, baseline) is None


def test_the_model_stays_as_it_was(filled, ragged):
    model, batch = filled("llama"), ragged("llama")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    grid = site_grid(model)
    baseline = make_baseline("mean", model, [batch], grid)
    Engine(model, grid, baseline).gradients(batch, mixed_gates(2, len(grid)), make_loss())
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    seen = []
    run_with_edits(model, batch, {Site.parse("0.1"): lambda z: seen.append(1) or z})
    assert seen

"""What the engine does not compute: counted below it, product by product."""

from __future__ import annotations

import pytest
import torch

from mechprobe.gates.baselines import make_baseline
from mechprobe.gates.engine import Engine
from mechprobe.models import site_grid
from tests.gates.work import work_of

pytestmark = pytest.mark.usefixtures("one_thread")

D, HEADS, D_HEAD, MLP = 16, 4, 4, 12


@pytest.fixture
def made(filled, ragged):
    """Engine, batch and grid of an architecture, its stand-ins already known."""

    def make(name, kind="mean"):
        model, batch = filled(name), ragged(name)
        grid = site_grid(model)
        engine = Engine(model, grid, make_baseline(kind, model, [batch], grid))
        engine.logits(batch, torch.ones(1, len(grid)).double())
        return engine, batch, grid

    return make


def summed(logits, batch):
    return logits.square().sum()


def gradients(engine, batch, gates, **settings):
    wanted = (gates > 0) & (gates < 1)
    return work_of(lambda: engine.gradients(batch, gates, summed, wanted=wanted, **settings))


def half_gates(grid, k=1):
    return torch.full((k, len(grid)), 0.5, dtype=torch.float64)


def closed(grid, gates, *sites):
    gates = gates.clone()
    for site in sites:
        gates[:, grid.index(site)] = 0
    return gates


def test_a_decoder_costs_what_its_open_units_need(made):
    """Written out: 3 layers, both ways, and neither weight gradients nor the first way back."""
    engine, batch, grid = made("gpt2")
    blocks, pos = batch.tokens.shape
    rows = blocks * pos
    qkv, out, mlp = 3 * HEADS * D_HEAD * D, HEADS * D_HEAD * D, MLP * D
    unembed = 20 * D
    forward = 3 * (qkv + out + 2 * mlp) + unembed
    # back: no stream before the first stage, so its queries, keys and values are no one's
    back = 3 * (out + 2 * mlp) + 2 * qkv + unembed
    each = blocks * HEADS * pos * pos * D_HEAD
    work = gradients(engine, batch, half_gates(grid))
    rest = (1 + blocks) * 3 * HEADS * D  # 1 - gates, and an example's gradient, times stand-ins
    assert work.linear == rows * (forward + back) + rest
    assert work.batched == each * (2 * 3 + 4 * 2)
    assert work.softmaxes == blocks * HEADS * pos * pos * (3 + 2)


@pytest.mark.parametrize("name", ["classifier", "llama", "neox", "t5-gated", "flat-post"])
def test_closed_heads_and_mlps_are_not_run(made, name):
    """A closed head's attention and a closed MLP cost nothing, forward or backward."""
    engine, batch, grid = made(name)
    stack = "dec " if name.startswith("t5") else ""
    open_ = gradients(engine, batch, half_gates(grid))
    no_mlp = gradients(engine, batch, closed(grid, half_gates(grid), f"{stack}mlp.1"))
    rows = (batch.decoder_tokens if name == "t5-gated" else batch.tokens).numel()
    gated = name in ("llama", "t5-gated")
    assert open_.linear - no_mlp.linear == rows * MLP * D * (6 if gated else 4)
    assert open_.batched == no_mlp.batched
    no_heads = closed(grid, half_gates(grid), f"{stack}1.0", f"{stack}1.1")
    fewer = gradients(engine, batch, no_heads)
    n = batch.decoder_tokens.shape if name.startswith("t5") else batch.tokens.shape
    pairs = 2 * n[0] * n[1] * n[1]
    assert open_.batched - fewer.batched == pairs * D_HEAD * (2 + 4)
    assert open_.softmaxes - fewer.softmaxes == 2 * pairs
    heads = 4 if name != "llama" else 2 + 2 / 2  # queries and outputs; two heads share keys, values
    shrunk = rows * 2 * D_HEAD * D * heads * 2
    assert abs(open_.linear - fewer.linear - shrunk) <= 4 * HEADS * D


def test_everything_closed_costs_nothing_but_the_read_out(made):
    engine, batch, grid = made("gpt2")
    gates = torch.zeros(1, len(grid), dtype=torch.float64)
    work = gradients(engine, batch, gates)
    assert work.batched == work.softmaxes == 0
    assert work.linear == batch.tokens.numel() * 20 * D + 3 * HEADS * D  # and constants
    assert not any("gelu" in name for name in work.calls)


def test_stacked_vectors_each_skip_their_own(made):
    """Vectors whose open sets differ, run stacked, cost no more than one after the other."""
    engine, batch, grid = made("classifier")
    generator = torch.Generator().manual_seed(1)
    gates = half_gates(grid, 6)
    gates[torch.rand(gates.shape, generator=generator) < 0.5] = 0
    alone = gradients(engine, batch, gates, at_once=1)
    stacked = gradients(engine, batch, gates, at_once=6)
    assert stacked.batched == alone.batched
    assert stacked.softmaxes == alone.softmaxes
    assert stacked.linear == alone.linear
    assert sum(stacked.calls.values()) < sum(alone.calls.values())


def test_no_weight_gets_a_gradient(made):
    """No product sums over rows, as the gradient of a weight would."""
    engine, batch, grid = made("classifier")
    rows = batch.tokens.numel()
    work = gradients(engine, batch, half_gates(grid))
    assert work.shapes
    assert all(into != rows for _, into, _ in work.shapes)


def test_what_nobody_wants_is_not_gone_back_through(made):
    """Gradients of the last layer's gates alone go back through that layer alone."""
    engine, batch, grid = made("gpt2")
    gates = half_gates(grid)
    wanted = torch.zeros_like(gates, dtype=torch.bool)
    wanted[:, grid.index("mlp.2")] = True
    forward = work_of(lambda: engine.logits(batch, gates))
    both = work_of(lambda: engine.gradients(batch, gates, summed, wanted=wanted))
    assert both.linear - forward.linear == batch.tokens.numel() * 20 * D  # the unembedding's
    assert both.batched == forward.batched
    assert both.softmaxes == forward.softmaxes


def test_only_the_position_that_is_read_is_computed_in_the_last_layer(made):
    engine, batch, grid = made("classifier")
    blocks, pos = batch.tokens.shape
    work = work_of(lambda: engine.logits(batch, half_gates(grid)))
    layer = 4 * HEADS * D_HEAD * D + 2 * MLP * D
    last = 2 * HEADS * D_HEAD * D * pos + (2 * HEADS * D_HEAD * D + 2 * MLP * D)
    read_out = D * D + 2 * D
    constants = 3 * HEADS * D
    assert work.linear == blocks * (2 * pos * layer + last + read_out) + constants


def test_the_first_layer_is_computed_once_and_not_again_when_remembered(made, filled):
    engine, batch, grid = made("classifier")
    gates = half_gates(grid, 3)
    gates[1], gates[2] = 0.25, 0.75
    one = work_of(lambda: engine.logits(batch, gates[:1]))
    three = work_of(lambda: engine.logits(batch, gates, at_once=1))
    rows, qkv = batch.tokens.numel(), 3 * HEADS * D_HEAD * D
    assert 3 * one.linear - three.linear == 2 * rows * qkv
    model = filled("classifier")
    mean = make_baseline("mean", model, [batch], grid)
    keeping = Engine(model, grid, mean, remember=2**20)
    keeping.logits(batch, gates)
    again = work_of(lambda: keeping.logits(batch, gates, at_once=1))
    assert three.linear - again.linear == rows * qkv


def test_equal_vectors_are_computed_once(made):
    engine, batch, grid = made("gpt2")
    gates = half_gates(grid, 4)
    one, four = (work_of(lambda g=g: engine.logits(batch, g)) for g in (gates[:1], gates))
    assert one.linear == four.linear
    assert one.batched == four.batched


@pytest.mark.parametrize("at_once", [1, 4])
def test_a_sweep_shares_what_comes_before_the_closed_head(made, at_once):
    engine, batch, grid = made("gpt2")
    gates = torch.ones(grid.n_head_sites, len(grid), dtype=torch.float64)
    gates[range(len(gates)), range(len(gates))] = 0
    alone = work_of(lambda: engine.logits(batch, gates[-1:], at_once=1)).linear
    every = work_of(lambda: engine.logits(batch, gates, at_once=at_once)).linear
    assert every < 0.65 * len(gates) * alone


def test_nothing_is_wider_than_the_batch(made, filled):
    """A short batch costs what its own length asks, whatever the model could read."""
    engine, batch, grid = made("gpt2")
    assert batch.tokens.shape[1] < engine.model.cfg.n_ctx
    work = gradients(engine, batch, half_gates(grid))
    assert max(rows for rows, _, _ in work.shapes) == batch.tokens.numel()

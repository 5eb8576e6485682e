"""Recomputing on the way back: the same numbers to the last bit, for less memory and more work."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mechprobe.gates.baselines import make_baseline
from mechprobe.gates.engine import Engine
from mechprobe.models import build_classifier, build_decoder, site_grid
from tests.gates.live_memory import most_alive
from tests.gates.test_engine import make_loss, mixed_gates
from tests.gates.work import work_of

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("at_once", [1, 3])
def test_every_architectures_numbers_are_the_same(architecture, at_once, filled, ragged):
    """One at a time with the first stage remembered; stacked, of each example too."""
    model, batch = filled(architecture), ragged(architecture)
    grid = replace(site_grid(model), neurons=architecture in ("classifier", "t5-gated"))
    mean = make_baseline("mean_position", model, [batch], grid)
    engine = Engine(model, grid, mean, remember=2**20 if at_once == 1 else 0)
    gates = mixed_gates(4, len(grid), seed=2)
    gates[3] = gates[2]
    plain = engine.gradients(batch, gates, make_loss(), at_once=at_once)
    again = engine.gradients(batch, gates, make_loss(), at_once=at_once, recompute=True)
    assert torch.equal(again[0], plain[0])
    assert torch.equal(again[1], plain[1])
    assert plain[1].any()
    if at_once == 1:
        return

    def metric(logits, _):
        return logits.flatten(1).softmax(-1).square().sum(1)

    each = engine.each_gradients(batch, gates, metric, at_once=at_once)
    again = engine.each_gradients(batch, gates, metric, at_once=at_once, recompute=True)
    assert torch.equal(again[1], each[1])


@pytest.mark.parametrize("name", ["classifier", "gpt2"])
def test_a_stage_before_the_first_gate_that_is_asked_for_is_not_run_again(name, filled, ragged):
    model, batch = filled(name), ragged(name)
    grid = site_grid(model)
    engine = Engine(model, grid, make_baseline("mean", model, [batch], grid))
    gates = mixed_gates(2, len(grid), seed=3)
    wanted = torch.zeros_like(gates, dtype=torch.bool)
    wanted[:, grid.index("mlp.2")] = True

    def cost(recompute):
        return work_of(lambda: engine.gradients(
            batch, gates, make_loss(), wanted=wanted, at_once=2, recompute=recompute
        )).linear

    assert cost(True) == cost(False)
    wanted[:, grid.index("0.1")] = True
    assert cost(True) > cost(False)


def deep(build, **more):
    model = build(n_layers=8, n_heads=4, d_model=32, d_mlp=128, n_ctx=32, d_vocab=30, **more)
    return model.requires_grad_(False)


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_memory_falls_and_work_grows_by_one_way_forward(kind, random_batch):
    if kind == "encoder":
        model = deep(lambda **sizes: build_classifier(("no", "yes"), None, **sizes))
    else:
        model = deep(build_decoder)
    batch, grid = random_batch(32, 20, 30, 32), site_grid(model)
    engine = Engine(model, grid, make_baseline("zero", model, [batch], grid))
    gates = torch.full((4, len(grid)), 0.5) + 0.1 * torch.arange(4)[:, None]

    def step(recompute):
        return engine.gradients(batch, gates, make_loss(), at_once=4, recompute=recompute)

    step(False)  # lays out weights
    plain, again = (most_alive(lambda r=r: step(r)) for r in (False, True))
    assert again < 0.4 * plain
    forward, one, two = (
        work_of(run) for run in (lambda: engine.logits(batch, gates, at_once=4),
                                 lambda: step(False), lambda: step(True))
    )  # fmt: skip
    assert one.linear < two.linear < one.linear + forward.linear
    assert one.batched < two.batched <= one.batched + forward.batched


def test_a_way_forward_alone_keeps_one_stage(random_batch):
    batch = random_batch(32, 32)
    taken = []
    for n_layers in (2, 8):
        model = build_decoder(n_layers=n_layers, n_heads=4, d_model=32, d_mlp=128, n_ctx=32,
                              d_vocab=30).requires_grad_(False)  # fmt: skip
        grid = site_grid(model)
        engine = Engine(model, grid, make_baseline("zero", model, [batch], grid))
        gates = torch.full((4, len(grid)), 0.5) + 0.1 * torch.arange(4)[:, None]
        engine.logits(batch, gates, at_once=4)  # lays out weights
        taken.append(most_alive(lambda e=engine, g=gates: e.logits(batch, g, at_once=4)))
    assert taken[1] < 1.05 * taken[0]

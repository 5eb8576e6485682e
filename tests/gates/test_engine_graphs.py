"""Steps of fixed size against the engine itself; what a CUDA graph would record is run anew.

The recording needs a GPU; that nothing in a step asks the host, or moves a buffer, does not.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mechprobe.gates.baselines import make_baseline
from mechprobe.gates.engine import Engine
from mechprobe.gates.engine_graphs import GraphedEngine, can_be_static, graphed
from mechprobe.gates.engine_rooms import Rooms, Units
from mechprobe.models import site_grid
from tests.gates.conftest import ARCHITECTURES
from tests.gates.test_engine import assert_near, make_loss, mixed_gates

pytestmark = pytest.mark.usefixtures("one_thread")
ONE_STACK = [name for name in ARCHITECTURES if not name.startswith("t5")]


def between(gates):
    return (gates > 0) & (gates < 1)


@pytest.mark.parametrize("kind", ["mean", "zero"])
@pytest.mark.parametrize("name", ONE_STACK)
def test_fixed_steps_equal_the_engine(name, kind, filled, ragged):
    model, grid = filled(name), site_grid(filled(name))
    batches = [ragged(name), ragged(name, seed=5)]
    engine = Engine(model, grid, make_baseline(kind, model, batches, grid))
    steps = GraphedEngine(engine)
    for draw, batch in enumerate([*batches, *batches]):
        gates = mixed_gates(5, len(grid), seed=draw)
        if draw == 3:
            gates[:, 1:] = 0
        wanted = between(gates)
        losses, slopes = engine.gradients(batch, gates, make_loss(), wanted=wanted)
        got, found = steps.gradients(batch, gates, make_loss(), wanted=wanted, at_once=3)
        assert_near(got, losses, torch.float64)
        assert_near(found, slopes, torch.float64)


def test_bfloat16_products_stay_near(filled, ragged):
    model, batch = filled("classifier", torch.float32), ragged("classifier")
    grid = site_grid(model)
    mean = make_baseline("mean", model, [batch], grid)
    engine = Engine(model, grid, mean, precision=torch.bfloat16)
    gates = mixed_gates(4, len(grid), dtype=torch.float32)
    wanted = between(gates)
    losses, slopes = engine.gradients(batch, gates, make_loss(), wanted=wanted)
    got, found = GraphedEngine(engine).gradients(batch, gates, make_loss(), wanted=wanted)
    torch.testing.assert_close(got, losses, rtol=0.02, atol=0)
    assert (found - slopes).norm() < 0.08 * slopes.norm()


class Recordable(TorchDispatchMode):
    """Refuses what a CUDA graph cannot record: values that the host reads or brings along."""

    REFUSED = ("_local_scalar_dense", "nonzero", "lift_fresh", "masked_select", "unique",
               "_to_cpu", "_unique2", "equal")  # fmt: skip

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert function._opname not in self.REFUSED, function
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ONE_STACK)
def test_a_step_asks_nothing_of_the_host_and_its_buffers_stay(name, filled, ragged):
    model, batch = filled(name), ragged(name)
    grid = site_grid(model)
    steps = GraphedEngine(Engine(model, grid, make_baseline("mean", model, [batch], grid)))
    gates = mixed_gates(3, len(grid))
    steps.gradients(batch, gates, make_loss(), wanted=between(gates), at_once=3)
    ((step, _),) = steps.steps.values()

    def places():
        assert step.into_logits is not None
        of_units = [t for placed in step.placed for t in (placed.units, placed.there)]
        return [t.data_ptr() for t in (step.gates, step.into_logits, *of_units)]

    before = places()
    with Recordable():
        step.forward()
        step.back()
    steps.gradients(batch, gates, make_loss(), wanted=between(gates), at_once=3)
    assert len(steps.steps) == 1
    assert places() == before


def test_draws_share_few_sizes_and_no_room_is_much_too_large(filled, ragged):
    model, batch = filled("gpt2"), ragged("gpt2")
    grid = site_grid(model)
    rooms = Rooms(slack=1.5, at_most=3)
    steps = GraphedEngine(Engine(model, grid, make_baseline("mean", model, [batch], grid)), rooms)
    for draw in range(12):
        gates = mixed_gates(3, len(grid), seed=draw)
        steps.gradients(batch, gates, make_loss(), wanted=between(gates), at_once=3)
        assert len(steps.steps) <= 3
        assert {room for _, room, _ in steps.steps} <= set(rooms.there)


def heads(*counts, most=8):
    """A layer of which each vector runs that many heads, the last ones."""
    rows = torch.arange(most).flip(0) < torch.tensor(counts)[:, None]
    return Units(rows.numpy())


def test_a_room_is_found_before_one_is_made():
    rooms = Rooms(slack=1.25, at_most=2, sizes=4)
    assert rooms.choose([heads(3, 1), heads(8, 2)]) == (4, 8)
    assert rooms.choose([heads(4, 4), heads(7, 2)]) == (4, 8)  # fits
    assert rooms.choose([heads(2, 2), heads(2, 2)]) == (2, 2)  # (4, 8) is three times that
    assert rooms.choose([heads(2, 0), heads(3, 0)]) == (2, 4)  # the third: (4, 8) goes
    assert rooms.there == [(2, 2), (2, 4)]
    assert rooms.choose([heads(2, 2), heads(1, 2)]) == (2, 2)
    assert rooms.there == [(2, 4), (2, 2)]
    assert rooms.choose([heads(0), heads(0)]) == (0, 0)


def test_a_layers_units_come_first_and_what_fills_the_room_is_marked():
    order, there = heads(3, 1).placed(4)
    assert order.tolist() == [[5, 6, 7, 0], [7, 0, 1, 2]]
    assert there.tolist() == [[True] * 3 + [False], [True] + [False] * 3]


def test_only_what_fixed_steps_know_goes_through_them(filled, ragged, monkeypatch):
    def engine(name, kind="mean", **kinds):
        model = filled(name)
        grid = replace(site_grid(model), **kinds)
        return Engine(model, grid, make_baseline(kind, model, [ragged(name)], grid))

    assert can_be_static(engine("gpt2"))
    assert not can_be_static(engine("gpt2", "mean_position"))
    assert not can_be_static(engine("gpt2", neurons=True))
    assert not can_be_static(engine("t5"))
    monkeypatch.setenv("MECHPROBE_CUDA_GRAPHS", "1")
    assert graphed(engine("gpt2")) is None  # on a CPU

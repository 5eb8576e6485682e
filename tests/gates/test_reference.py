"""The reference path against hooks, weights and loops written here."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.gates.baselines import make_baseline, mean_baseline, zero_baseline
from mechprobe.gates.reference import gated_logits
from mechprobe.models import build_decoder, forward, site_grid
from mechprobe.sites import SiteGrid
from mechprobe.tasks.metrics import kl

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(tiny_classifier):
    return tiny_classifier(dtype=torch.float64)


@pytest.fixture(scope="module")
def batch(random_batch):
    return random_batch(7, 4, 6)


@pytest.fixture(scope="module")
def grid(model):
    return replace(site_grid(model), neurons=True)


def random_gates(k, grid, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(k, len(grid), generator=generator, dtype=torch.float64)


def by_own_hooks(model, batch, gates, grid, stands):
    """One gate vector through the model: a hook a site, ``stands(site)`` for what is closed."""
    handles = []
    for gate, site in zip(gates, grid.sites, strict=True):
        name = {
            "head": f"blocks.{site.layer}.attn.hook_z",
            "mlp": f"blocks.{site.layer}.hook_mlp_out",
            "neuron": f"blocks.{site.layer}.mlp.hook_post",
        }[site.kind]

        def hook(module, inputs, value, gate=gate, site=site):
            if site.kind == "mlp":
                return gate * value + (1 - gate) * stands(site)
            units = list(value.unbind(2))
            units[site.index] = gate * units[site.index] + (1 - gate) * stands(site)
            return torch.stack(units, 2)

        handles.append(model.hook_dict[name].register_forward_hook(hook))
    try:
        return model(batch.tokens, batch.segments, batch.attention_mask)
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("kind", ["zero", "mean", "mean_position", "resample"])
def test_open_gates_are_the_model(model, batch, grid, kind):
    baseline = make_baseline(kind, model, [batch], grid)
    logits = gated_logits(model, batch, torch.ones(2, len(grid)), grid, baseline)
    expected = forward(model, batch)
    assert logits.shape == (2, 3, 2)
    torch.testing.assert_close(logits, expected.expand(2, -1, -1), rtol=0, atol=1e-12)


def test_open_gates_are_a_decoder(batch):
    decoder = build_decoder(n_layers=2, n_heads=2, d_model=8, d_mlp=6, n_ctx=12, d_vocab=20, seed=1)
    grid = site_grid(decoder)
    baseline = mean_baseline(decoder, [batch], grid)
    logits = gated_logits(decoder, batch, torch.ones(1, len(grid)), grid, baseline)
    assert logits.shape == (1, 3, 7, 20)
    torch.testing.assert_close(logits[0], forward(decoder, batch), rtol=0, atol=1e-5)
    closed = gated_logits(decoder, batch, torch.zeros(1, len(grid)), grid, baseline)
    assert (closed[0] - forward(decoder, batch)).abs().max() > 1e-2


def test_closed_at_zero_is_the_model_without_those_weights(model, batch, grid):
    for seed in range(4):
        gates = (random_gates(1, grid, seed) > 0.5).double()
        cut = copy.deepcopy(model)
        with torch.no_grad():
            for gate, site in zip(gates[0], grid.sites, strict=True):
                block = cut.blocks[site.layer]
                if gate == 1:
                    continue
                if site.kind == "head":
                    block.attn.W_O[site.index] = 0
                elif site.kind == "neuron":
                    block.mlp.W_out[site.index] = 0
                else:
                    block.mlp.W_out.zero_()
                    block.mlp.b_out.zero_()
        logits = gated_logits(model, batch, gates, grid, zero_baseline())[0]
        torch.testing.assert_close(logits, forward(cut, batch), rtol=0, atol=1e-12)


def test_fractional_gates_equal_own_hooks(model, batch, grid):
    baseline = mean_baseline(model, [batch], grid)
    means = baseline.values(model, batch, grid)

    def stands(site):
        whole = means[replace(site, index=None)][0, 0]
        return whole if site.kind == "mlp" else whole[site.index]

    gates = random_gates(3, grid)
    logits = gated_logits(model, batch, gates, grid, baseline)
    for row, vector in zip(logits, gates, strict=True):
        expected = by_own_hooks(model, batch, vector, grid, stands)
        torch.testing.assert_close(row, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["zero", "mean_position", "resample"])
def test_stacked_vectors_equal_single_ones_for_any_chunk(model, batch, grid, kind):
    baseline = make_baseline(kind, model, [batch], grid, seed=3)
    gates = random_gates(5, grid)
    single = torch.cat([
        gated_logits(model, batch, row[None], grid, baseline) for row in gates
    ])
    for chunk in (None, 1, 2, 5, 9):
        stacked = gated_logits(model, batch, gates, grid, baseline, chunk=chunk)
        torch.testing.assert_close(stacked, single, rtol=0, atol=1e-12)


def test_sites_outside_the_grid_stay_open(model, batch, grid):
    gates = random_gates(1, grid)
    for part in (
        SiteGrid(2, 2, mlps=False), SiteGrid(2, 2, heads=False),
        SiteGrid(2, 2, heads=False, mlps=False, n_neurons=6, neurons=True),
    ):  # fmt: skip
        mine = torch.ones_like(gates)
        chosen = [grid.index(site) for site in part]
        mine[:, chosen] = gates[:, chosen]
        torch.testing.assert_close(
            gated_logits(model, batch, gates[:, chosen], part, zero_baseline()),
            gated_logits(model, batch, mine, grid, zero_baseline()), rtol=0, atol=1e-12,
        )  # fmt: skip


def test_gradients_pass_gradcheck_and_equal_own_hooks(model, batch, grid):
    baseline = mean_baseline(model, [batch], grid)
    means = baseline.values(model, batch, grid)
    full = forward(model, batch).detach()

    def loss(gates):
        return torch.stack([
            kl(full, row).mean() for row in gated_logits(model, batch, gates, grid, baseline)
        ])

    def stands(site):
        whole = means[replace(site, index=None)][0, 0]
        return whole if site.kind == "mlp" else whole[site.index]

    gates = random_gates(2, grid).requires_grad_(True)
    assert torch.autograd.gradcheck(loss, (gates,))
    stacked = torch.autograd.grad(loss(gates).sum(), gates)[0]
    for row, expected in zip(gates.detach(), stacked, strict=True):
        row = row.clone().requires_grad_(True)
        own = kl(full, by_own_hooks(model, batch, row, grid, stands)).mean()
        torch.testing.assert_close(torch.autograd.grad(own, row)[0], expected, rtol=0, atol=1e-12)


def test_any_precision_of_gates_meets_any_of_the_model(model, batch, grid, tiny_classifier):
    gates = random_gates(2, grid)
    exact = gated_logits(model, batch, gates.float().double(), grid, zero_baseline())
    mixed = gated_logits(model, batch, gates.float(), grid, zero_baseline())
    assert mixed.dtype == torch.float64
    torch.testing.assert_close(mixed, exact, rtol=0, atol=1e-12)
    single = gated_logits(tiny_classifier(), batch, gates, grid, zero_baseline())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single, exact.float(), rtol=0, atol=1e-5)


def test_the_model_and_its_hooks_are_left_alone(model, batch, grid):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gated_logits(model, batch, random_gates(2, grid), grid, zero_baseline()).sum().backward()
    model.zero_grad(set_to_none=True)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(point._forward_hooks for point in model.hook_dict.values())


def test_gates_that_do_not_fit_are_refused(model, batch, grid):
    for shape in ((1, len(grid) - 1), (0, len(grid))):
        with pytest.raises(InputError, match=r"gates of shape \[.*\] for a grid of 18 sites; give"):
            gated_logits(model, batch, torch.ones(shape), grid, zero_baseline())
    for chunk in (0, -1):
        with pytest.raises(InputError, match=f"a chunk of {chunk} gate vectors cannot run"):
            gated_logits(
                model, batch, torch.ones(1, len(grid)), grid, zero_baseline(), chunk=chunk
            )

"""The metric of gate vectors against runs with own hooks; sites and baselines by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.gates.baselines import zero_baseline
from mechprobe.locate.behaviours import behaviour_of
from mechprobe.locate.measure import baseline_for, chosen_sites, difference, grid_for, measure
from mechprobe.models import build_decoder, site_grid
from mechprobe.sites import SiteGrid
from mechprobe.tasks import Behaviour, PromptTask

pytestmark = pytest.mark.usefixtures("one_thread")

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def model():
    return build_decoder(
        n_layers=2, n_heads=3, d_model=9, d_mlp=6, n_ctx=8, d_vocab=20, init_std=0.5,
        dtype=torch.float64,
    )


@pytest.fixture(scope="module")
def behaviour(model):
    clean, corrupt = RNG.integers(0, 20, (2, 11, 6))
    answers = RNG.integers(0, 20, 11)
    return behaviour_of(model, PromptTask(clean, corrupt, answers=answers))


@pytest.mark.parametrize("size", [3, 64])
def test_closing_by_gates_is_closing_by_hooks(model, behaviour, size):
    grid = site_grid(model)
    gates = (RNG.random((4, len(grid))) > 0.5).astype(float)
    seen = []
    values = measure(
        model, behaviour, gates, grid, zero_baseline(), batch_size=size,
        on_batch=lambda: seen.append(1),
    )
    assert len(seen) == -(-11 // size)
    for row, vector in zip(values, gates, strict=True):
        hooks = []
        for gate, site in zip(vector, grid.sites, strict=True):
            name = f"blocks.{site.layer}." + ("attn.hook_z" if site.index is not None
                                              else "hook_mlp_out")

            def close(value, hook, gate=gate, index=site.index):
                if index is None:
                    return value * gate
                value[:, :, index] *= gate
                return value

            hooks.append((name, close))
        with torch.no_grad():
            logits = model.run_with_hooks(behaviour.inputs.tokens, fwd_hooks=hooks)[:, -1].numpy()
        for i, answer in enumerate(behaviour.targets["answer"][:, -1].tolist()):
            expected = logits[i, answer] - np.delete(logits[i], answer).max()
            assert row[i] == pytest.approx(expected, abs=1e-10)


def test_no_gates_is_the_untouched_model(model, behaviour):
    grid = site_grid(model)
    untouched = measure(model, behaviour, None, grid, zero_baseline())
    opened = measure(model, behaviour, np.ones((1, len(grid))), grid, zero_baseline())
    np.testing.assert_allclose(untouched, opened, atol=1e-10)


def test_a_metric_that_breaks_in_a_closed_model_names_the_example(model, behaviour):
    grid = site_grid(model)
    intact = measure(model, behaviour, None, grid, zero_baseline())[0]

    def broken(logits, targets):
        own = behaviour.metric(logits, targets)
        return torch.where((own - targets["intact"]).abs() < 1e-9, own, torch.nan)

    targets = {**behaviour.targets, "intact": torch.tensor(intact)}
    brittle = Behaviour("mine", behaviour.inputs, broken, "broken", targets)
    gates = np.ones((2, len(grid)))
    gates[1, 0] = 0
    with pytest.raises(InputError, match=r"'broken' is NaN on example 0 \(gate vector 1\)"):
        measure(model, brittle, gates, grid, zero_baseline())


def test_baselines_by_name(model, behaviour):
    grid = site_grid(model)
    for kind in ("zero", "mean", "mean_position", "resample", "paired"):
        assert baseline_for(kind, model, behaviour, grid).kind == kind
    own = zero_baseline()
    assert baseline_for(own, model, behaviour, grid) is own
    alone = Behaviour("mine", behaviour.inputs, behaviour.metric, "m", behaviour.targets)
    with pytest.raises(InputError, match="mine has no counterfactual inputs, which the paired bas"):
        baseline_for("paired", model, alone, grid)
    with pytest.raises(InputError, match="unknown baseline 'median'; one of zero, mean"):
        baseline_for("median", model, behaviour, grid)


def test_a_mean_comes_from_the_reference_when_one_is_given(model, behaviour):
    grid, batches = site_grid(model), behaviour.batches(64)
    part = behaviour.take(np.array([3, 5])).batches()
    own = baseline_for("mean", model, behaviour, grid).values(model, batches[0], grid)
    other = baseline_for("mean", model, behaviour, grid, reference=part)
    caches = {}
    tokens = behaviour.inputs.tokens
    for rows, found in ((tokens, own), (tokens[[3, 5]], other.values(model, batches[0], grid))):
        _, cache = model.run_with_cache(rows)
        for site, value in found.items():
            name = "attn.hook_z" if site.kind == "head" else "hook_mlp_out"
            expected = cache[f"blocks.{site.layer}.{name}"].mean((0, 1))
            torch.testing.assert_close(value[0, 0], expected, rtol=0, atol=1e-10)
            caches.setdefault(site, []).append(value)
    assert all((a - b).abs().max() > 1e-3 for a, b in caches.values())


GRID = SiteGrid(2, 3, n_neurons=4)


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("heads", "0.0 0.1 0.2 1.0 1.1 1.2"),
        ("mlps", "mlp.0 mlp.1"),
        ("all", "0.0 0.1 0.2 1.0 1.1 1.2 mlp.0 mlp.1"),
        (["1.2", "mlp.0", "0.1"], "1.2 mlp.0 0.1"),
        (["mlp.1", "0.*"], "mlp.1 0.0 0.1 0.2"),
    ],
)
def test_sites_by_name(named, expected):
    assert " ".join(map(str, chosen_sites(GRID, named))) == expected


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (["1.3"], r"no site '1.3' here \(2 layers x 3 heads, .* nearest: 1.\d, "),
        (["mlp.2"], "no site 'mlp.2' here .* nearest: mlp.[01], mlp.[01]"),
        (["2.*"], r"no site '2.\*' here .* nearest: "),
        (["1.0", "1.0"], "site '1.0' is named twice"),
        (["1.0", "1.*"], "site '1.0' is named twice"),
        ([], "no sites were named"),
        ("neurons", "sites='neurons'; give 'heads', 'mlps', 'all' or a list"),
        (["head 3"], "'head 3' is not a site; write a head as"),
    ],
)
def test_sites_that_do_not_exist_name_the_nearest(named, message):
    with pytest.raises(InputError, match=message):
        chosen_sites(GRID, named)


def test_a_model_without_mlps_has_none_to_choose():
    with pytest.raises(InputError, match="this model has no mlps; name other sites"):
        chosen_sites(SiteGrid(2, 3, mlps=False), "mlps")


def test_neurons_are_gated_when_named(model):
    assert not grid_for(model, ["0.1"])[0].neurons
    grid, sites = grid_for(model, ["mlp.1.5", "0.1"])
    assert grid.neurons
    assert [str(site) for site in sites] == ["mlp.1.5", "0.1"]
    assert len(grid_for(model, ["mlp.1.*"])[1]) == 6
    with pytest.raises(InputError, match=r"no site 'mlp\.1\.6' here"):
        grid_for(model, ["mlp.1.6"])


def test_differences_within_rounding_are_none():
    single = build_decoder(n_layers=1, n_heads=1, d_model=4, n_ctx=4, d_vocab=5)
    first = np.array([[3.0, 1e-3, -50.0, 2.0]])
    moved = first + np.array([[3e-7, 2e-8, 1e-5, 1e-3]])
    np.testing.assert_allclose(difference(moved, first, single), [[0, 0, 0, 1e-3]], atol=1e-9)


def test_differences_in_double_precision_are_kept(model):
    first = np.array([3.0, 1e-3])
    moved = first + 1e-9
    np.testing.assert_array_equal(difference(moved, first, model), moved - first)

"""Attribution against finite differences, exact ablation, and what integrated effects add up to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.gates.baselines import mean_baseline
from mechprobe.gates.engine import EngineFallback
from mechprobe.locate.attribute import attribute, gate_gradients, path_gradients, path_points
from mechprobe.locate.behaviours import behaviour_of
from mechprobe.locate.measure import baseline_for, measure
from mechprobe.locate.meter import meter_for
from mechprobe.models import site_grid
from mechprobe.tasks.answers import find_metric
from mechprobe.tasks.behaviour import Behaviour

pytestmark = pytest.mark.usefixtures("one_thread")


def finite_differences(model, behaviour, gates, grid, baseline, step=1e-5):
    """Central differences of the metric in every gate, [site, example]."""
    moved = step * np.eye(len(grid))
    ends = torch.from_numpy(np.concatenate([gates + moved, gates - moved]))
    up, down = np.split(measure(model, behaviour, ends, grid, baseline), 2)
    return (up - down) / (2 * step)


@pytest.mark.parametrize("kind", ["zero", "mean", "mean_position", "resample", "paired"])
def test_first_order_is_the_slope_of_the_metric_in_each_gate(small_decoder, prompts, kind):
    model, behaviour = small_decoder(), prompts()
    scores = attribute(model, behaviour, "all", kind)
    grid = site_grid(model)
    baseline = baseline_for(kind, model, behaviour, grid)
    expected = finite_differences(model, behaviour, np.ones(len(grid)), grid, baseline)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(scores.effects, expected, atol=1e-7)
    assert scores.baseline == kind
    assert scores.sites == tuple(map(str, grid))
    assert scores.forwards == 2 + (kind != "zero")


@pytest.mark.parametrize("metric", ["probability", "log_probability", "kl"])
def test_integrated_effects_add_up_to_closing_everything(small_decoder, prompts, metric):
    model, behaviour = small_decoder(scale=0.4), prompts(metric=metric, positions=2)
    scores = attribute(model, behaviour, "all", method="integrated", steps=60, metric=metric)
    grid = site_grid(model)
    baseline = baseline_for("paired", model, behaviour, grid)
    behaviour = behaviour_of(model, behaviour)  # adds the full logits that KL needs
    full, closed = measure(model, behaviour, np.stack([np.ones(len(grid)), np.zeros(len(grid))]),
                           grid, baseline)  # fmt: skip
    assert np.abs(full - closed).min() > 1e-5
    np.testing.assert_allclose(scores.effects.sum(0), full - closed, atol=1e-5)
    assert scores.settings["completeness_gap"] < 1e-5


def test_integrated_effects_of_some_sites_add_up_to_closing_those(small_decoder, prompts):
    model, behaviour = small_decoder(), prompts()
    chosen = ["0.1", "1.0", "mlp.1"]
    scores = attribute(model, behaviour, chosen, "zero", method="integrated", steps=60)
    grid = site_grid(model)
    ends = np.stack([grid.mask(), grid.mask(closed=chosen)])
    baseline = baseline_for("zero", model, behaviour, grid)
    full, closed = measure(model, behaviour, ends, grid, baseline)
    np.testing.assert_allclose(scores.effects.sum(0), full - closed, atol=1e-4)
    assert scores.sites == tuple(chosen)


def test_the_completeness_gap_is_what_is_missing_and_shrinks_with_steps(small_decoder, prompts):
    model, behaviour = small_decoder(), prompts()
    grid = site_grid(model)
    ends = np.stack([np.ones(len(grid)), grid.mask(closed=[s for s in grid if s.kind == "head"])])
    full, closed = measure(
        model, behaviour, ends, grid, baseline_for("paired", model, behaviour, grid)
    )
    gaps = []
    for steps in (1, 4, 40):
        scores = attribute(model, behaviour, method="integrated", steps=steps)
        gaps.append(scores.settings["completeness_gap"])
        missing = np.abs(scores.effects.sum(0) - (full - closed)).mean()
        assert gaps[-1] == pytest.approx(missing, rel=1e-6, abs=1e-9)
        assert scores.forwards == (2 * steps + 1) + (2 + 1)
    assert gaps[0] > 10 * gaps[1] > 100 * gaps[2]


@pytest.mark.parametrize("kind", ["mean", "resample", "paired"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_path_through_the_engine_equals_hooks_and_autograd(small_decoder, prompts, kind, dtype):
    """All points of a path in one call give what a hooked model gives one point at a time."""
    meter = meter_for(small_decoder(dtype=dtype), prompts(positions=2), ["0.*", "mlp.1"], kind)
    moved = torch.from_numpy(meter.grid.mask(kept=meter.sites))
    along = torch.ones(3, len(moved), dtype=dtype)
    along[:, moved] = torch.tensor([[0.0], [0.3], [1.0]], dtype=dtype)
    by_hooks = replace(meter)
    by_hooks.engine = False
    assert meter.engine
    for batch in meter.behaviour.batches(5):
        got = path_gradients(meter, batch, along, moved)
        want = path_gradients(by_hooks, batch, along, moved) * moved
        assert got.shape == (3, len(batch), len(meter.grid))
        close = {torch.float64: 1e-10, torch.float32: 1e-5}[dtype]
        assert (got - want).abs().max() <= close * want.abs().max()


def test_a_model_the_engine_does_not_run_is_attributed_to_after_one_warning(small_decoder, prompts):
    expected = attribute(small_decoder(), prompts(), "all", "zero", method="integrated", steps=3)
    model = small_decoder()
    model.cfg.attn_scores_soft_cap = 1e5  # what the engine does not know, and far out of reach
    with pytest.warns(EngineFallback) as warned:
        scores = attribute(model, prompts(), "all", "zero", method="integrated", steps=3)
    assert [w.category for w in warned] == [EngineFallback]
    np.testing.assert_allclose(scores.effects, expected.effects, atol=1e-6)


@pytest.mark.parametrize("method", ["first_order", "integrated"])
def test_where_the_model_is_linear_attribution_is_exact_ablation(small_decoder, prompts, method):
    model = small_decoder(n_layers=1, n_heads=4, attn_only=True, normalization_type=None)
    behaviour = prompts()
    scores = attribute(model, behaviour, method=method, steps=1)
    grid = site_grid(model)
    gates = np.concatenate([np.ones((1, 4)), 1 - np.eye(4)])
    out = measure(model, behaviour, gates, grid, baseline_for("paired", model, behaviour, grid))
    np.testing.assert_allclose(scores.effects, out[0] - out[1:], atol=1e-5)


def test_a_classifier_is_attributed_to_as_well(tiny_classifier, random_batch):
    model = tiny_classifier(dtype=torch.float64)
    inputs = random_batch(7, 4, 6, 5)
    name, function = find_metric("logit_difference")
    targets = {"answer": inputs.labels, "wrong": 1 - inputs.labels}
    behaviour = Behaviour("labels", inputs, function, name, targets)
    scores = attribute(model, behaviour, ["0.*", "mlp.1"], "mean")
    grid = site_grid(model)
    baseline = mean_baseline(model, [inputs], grid)
    slopes = finite_differences(model, behaviour, np.ones(len(grid)), grid, baseline)
    expected = slopes[[grid.index(site) for site in scores.sites]]
    np.testing.assert_allclose(scores.effects, expected, atol=1e-7)


def test_neurons_can_be_attributed_to(small_decoder, prompts):
    model, behaviour = small_decoder(), prompts()
    scores = attribute(model, behaviour, ["mlp.0.*", "1.1"], "zero")
    assert scores.sites == (*(f"mlp.0.{i}" for i in range(10)), "1.1")
    grid = replace(site_grid(model), neurons=True)
    baseline = baseline_for("zero", model, behaviour, grid)
    slopes = finite_differences(model, behaviour, np.ones(len(grid)), grid, baseline)
    expected = slopes[[grid.index(site) for site in scores.sites]]
    np.testing.assert_allclose(scores.effects, expected, atol=1e-7)


def test_examples_have_their_own_gates(small_decoder, prompts):
    model, behaviour = small_decoder(), prompts()
    grid = site_grid(model)
    (batch,) = behaviour.batches(64)
    values = baseline_for("paired", model, behaviour, grid).values(model, batch, grid)
    gates = torch.rand(len(batch), len(grid), generator=torch.Generator().manual_seed(1))
    together = gate_gradients(model, behaviour, batch, gates, grid, values)
    same = gate_gradients(model, behaviour, batch, gates[3:4].expand(len(batch), -1), grid, values)
    np.testing.assert_allclose(together[3], same[3], atol=1e-12)
    assert not torch.allclose(together[2], same[2])


def test_weights_are_left_as_they_were(small_decoder, prompts):
    model = small_decoder()
    attribute(model, prompts())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("metric", "why"),
    [("accuracy", "argmax"), ("exact_match", "argmax"), ("kl", "best at the full model"),
     (lambda logits: (logits[:, 0, 0] > 0).double(), "without a gradient"),
     (lambda logits: torch.round(logits.sum((1, 2))), "step function")],
)  # fmt: skip
def test_metrics_without_a_gradient_are_refused(small_decoder, prompts, metric, why):
    with pytest.raises(InputError, match=why):
        attribute(small_decoder(), prompts(), metric=metric)


def test_an_unknown_method_and_no_steps_are_refused(small_decoder, prompts):
    with pytest.raises(InputError, match="'first_order' or 'integrated'"):
        attribute(small_decoder(), prompts(), method="second_order")
    with pytest.raises(InputError, match="steps=0"):
        attribute(small_decoder(), prompts(), method="integrated", steps=0)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_quadrature_integrates_polynomials_exactly(steps):
    points, weights = path_points("integrated", steps)
    for degree in range(2 * steps):
        total = sum(w * p**degree for p, w in zip(points, weights, strict=True))
        assert total == pytest.approx(1 / (degree + 1), abs=1e-12)
    assert abs(sum(w * p ** (2 * steps) for p, w in zip(points, weights)) - 1 / (2 * steps + 1)) > 0

"""Outcomes land in the order of the examples, whatever the order of the batches."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.gates.baselines import mean_baseline, zero_baseline
from mechprobe.gates.engine import Engine, EngineFallback
from mechprobe.gates.evaluate import evaluate
from mechprobe.gates.reference import gated_logits
from mechprobe.models import forward, site_grid

pytestmark = pytest.mark.usefixtures("one_thread")


def first_logit(logits, batch):
    return logits[:, 0]


@pytest.fixture(scope="module")
def model(tiny_classifier):
    return tiny_classifier()


@pytest.fixture(scope="module")
def batches(random_batch):
    return [random_batch(5, 7, seed=1, first=3), random_batch(4, 6, 3)]


def test_what_the_engine_does_not_know_goes_by_hooks_after_one_warning(tiny_classifier, batches):
    model = tiny_classifier()
    grid = site_grid(model)
    baseline = zero_baseline()
    gates = torch.rand(3, len(grid), generator=torch.Generator().manual_seed(0))
    expected = evaluate(model, batches, gates, grid, baseline, first_logit)
    model.cfg.experts_per_token = 2  # which these blocks do not read, nor the engine know
    with pytest.warns(EngineFallback, match="experts_per_token=2") as warned:
        out = evaluate(model, batches, gates, grid, baseline, first_logit)
    assert len(warned) == 1
    np.testing.assert_allclose(out, expected, atol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        told = evaluate(model, batches, gates, grid, baseline, first_logit, engine=False)
    np.testing.assert_array_equal(told, out)


def test_an_engine_made_before_is_used(model, batches, monkeypatch):
    grid = site_grid(model)
    baseline = mean_baseline(model, batches, grid)
    gates = torch.rand(2, len(grid), generator=torch.Generator().manual_seed(0))
    expected = evaluate(model, batches, gates, grid, baseline, first_logit)
    engine = Engine(model, grid, baseline)
    ran = []
    run = engine.outcomes
    monkeypatch.setattr(engine, "outcomes", lambda *a, **k: ran.append(1) or run(*a, **k))
    out = evaluate(model, batches, gates, grid, baseline, first_logit, engine=engine)
    np.testing.assert_array_equal(out, expected)
    assert len(ran) == len(batches)


def test_every_gate_vector_on_every_example(model, batches):
    grid = site_grid(model)
    baseline = mean_baseline(model, batches, grid)
    gates = torch.rand(4, len(grid), generator=torch.Generator().manual_seed(0))
    seen = []
    out = evaluate(
        model, batches, gates, grid, baseline, first_logit, chunk=3,
        on_batch=lambda: seen.append(1),
    )  # fmt: skip
    assert out.shape == (4, 5)
    assert out.dtype == np.float64
    assert len(seen) == 2
    for k in range(4):
        for batch in batches:
            logits = gated_logits(model, batch, gates[k : k + 1], grid, baseline)[0]
            np.testing.assert_allclose(
                out[k, batch.index.numpy()], logits[:, 0].detach().numpy(), atol=1e-6
            )


def test_without_gates_it_is_the_model(model, batches):
    grid = site_grid(model)
    out = evaluate(model, batches, None, grid, zero_baseline(), first_logit)
    assert out.shape == (1, 5)
    for batch in batches:
        expected = forward(model, batch)[:, 0].detach().numpy()
        np.testing.assert_allclose(out[0, batch.index.numpy()], expected, atol=1e-6)


def test_a_metric_sees_its_batch(model, batches):
    labels = evaluate(
        model, batches, None, site_grid(model), zero_baseline(), lambda logits, b: b.labels.float()
    )
    expected = np.concatenate([batches[1].labels, batches[0].labels])
    np.testing.assert_array_equal(labels[0], expected)


def test_batches_that_are_not_whole_are_refused(model, batches, random_batch):
    grid = site_grid(model)
    with pytest.raises(InputError, match="no batches"):
        evaluate(model, [], None, grid, zero_baseline(), first_logit)
    for wrong in ([batches[0]], [*batches, batches[1]], [random_batch(4, 4, first=1)]):
        with pytest.raises(InputError, match=r"their index is not 0 to \d+, each once"):
            evaluate(model, wrong, None, grid, zero_baseline(), first_logit)

"""Masks of language models, and masks by the engine and by hooks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.gates.baselines import mean_baseline, zero_baseline
from mechprobe.gates.engine import Engine, EngineFallback
from mechprobe.gates.engine_graphs import GraphedEngine
from mechprobe.locate.mask_gradients import EngineGradients
from mechprobe.locate.mask_loss import full_model_logits
from mechprobe.locate.masks import MaskSettings, Member, mask_loss, train_masks
from mechprobe.models import build_decoder, forward, site_grid
from mechprobe.tasks.metrics import kl
from tests.locate.masks.conftest import MEMBERS

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def decoder():
    return build_decoder(n_layers=1, n_heads=2, d_model=8, d_mlp=6, n_ctx=12, d_vocab=20, seed=1)


def test_a_language_model_counts_real_tokens_only(decoder, random_batch):
    batch = random_batch(7, 3)
    full, masked = forward(decoder, batch).detach(), forward(decoder, batch).detach() * 0.5
    per_token = kl(full, masked)
    by_hand = torch.cat([per_token[0, :7], per_token[1, :3]]).mean()
    torch.testing.assert_close(mask_loss(masked, batch, full), by_hand)
    masked[1, 3:] += 100 * torch.randn(4, 20, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(mask_loss(masked, batch, full), by_hand)


def test_a_language_model_is_searched(decoder, random_batch):
    batches, grid = [random_batch(7, 3)], site_grid(decoder)
    settings = MaskSettings(steps=3)
    found = train_masks(decoder, batches, MEMBERS[:1], grid, zero_baseline(), settings)
    assert found.shape == (1, 3)
    assert found.isfinite().all()
    with pytest.raises(InputError, match='"task" needs a classifier'):
        train_masks(
            decoder, batches, MEMBERS, grid, zero_baseline(), replace(settings, objective="task")
        )


def test_engine_hooks_and_fixed_steps_train_the_same_masks(tiny_classifier, random_batch):
    model = tiny_classifier(dtype=torch.float64)
    batches = [random_batch(7, 5, 6, seed=seed) for seed in (1, 2)]
    grid = site_grid(model)
    baseline = mean_baseline(model, batches, grid)
    members, settings = [Member(0, 0.3), Member(1, 0.6)], MaskSettings(steps=12)
    by_engine = train_masks(model, batches, members, grid, baseline, settings)
    handle = model.hook_pooled.register_forward_hook(lambda *_: None)  # unknown to the engine
    try:
        with pytest.warns(EngineFallback, match="hooks stand"):
            by_hooks = train_masks(model, batches, members, grid, baseline, settings)
    finally:
        handle.remove()
    torch.testing.assert_close(by_engine, by_hooks, rtol=1e-5, atol=1e-5)
    stacked = train_masks(model, batches, members, grid, baseline, settings, chunk=2)
    torch.testing.assert_close(by_engine, stacked, rtol=1e-5, atol=1e-5)
    assert not torch.equal(by_engine[0], by_engine[1])
    engine = Engine(model, grid, baseline)
    in_steps = EngineGradients(engine, graphs=GraphedEngine(engine))
    full = dict(zip(map(id, batches), full_model_logits(model, batches), strict=True))
    by_steps = train_masks(
        model, batches, members, grid, baseline, settings, gradients=in_steps,
        loss=lambda logits, batch: mask_loss(logits, batch, full[id(batch)]),
    )
    torch.testing.assert_close(by_engine, by_steps, rtol=1e-5, atol=1e-5)

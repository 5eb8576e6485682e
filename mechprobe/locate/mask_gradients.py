"""Loss and gate gradients of each member of a mask search, by the engine or by hooks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from mechprobe.gates.baselines import Baseline
from mechprobe.gates.engine import Engine, engine_for
from mechprobe.gates.reference import gated_logits
from mechprobe.locate.mask_loss import Loss
from mechprobe.models.edits import HookedModel
from mechprobe.sites import SiteGrid
from mechprobe.tasks.batches import Batch

Gradients = Callable[[Batch, Tensor, Loss], tuple[Tensor, Tensor]]
"""From a batch, gates [k, site] and a loss to losses [k] and gate gradients [k, site]."""

REMEMBER = 2**28  # bytes of first-layer results that a search keeps


def gradients_for(
    model: HookedModel, grid: SiteGrid, baseline: Baseline, chunk: int | None = None
) -> Gradients:
    """Each member's loss and gate gradients by the engine, or by hooks where it does not run."""
    engine = engine_for(model, grid, baseline, remember=REMEMBER)
    if engine is None:
        return partial(_by_reference, model, grid, baseline, chunk)
    return partial(_by_engine, engine, chunk)


def _by_engine(
    engine: Engine, chunk: int | None, batch: Batch, gates: Tensor, loss: Loss
) -> tuple[Tensor, Tensor]:
    """Each member's loss and its gradient; none is asked for where a gate is clamped to 0 or 1."""
    return engine.gradients(batch, gates, loss, wanted=(gates > 0) & (gates < 1), at_once=chunk)


def _by_reference(
    model: HookedModel, grid: SiteGrid, baseline: Baseline, chunk: int | None, batch: Batch,
    gates: Tensor, loss: Loss,
) -> tuple[Tensor, Tensor]:
    """The same by hooks and autograd, for what the engine does not run."""
    leaf = gates.requires_grad_(True)
    size = chunk or max(1, 8192 // max(1, batch.tokens.numel()))
    losses = []
    for part in leaf.split(size):
        logits = gated_logits(model, batch, part, grid, baseline, chunk=size)
        values = torch.stack([loss(row, batch) for row in logits])
        values.sum().backward()
        losses.append(values.detach())
    assert leaf.grad is not None
    return torch.cat(losses), leaf.grad

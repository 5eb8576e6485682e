"""Loss and gate gradients of each member of a mask search, by the engine or by hooks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from mechprobe.gates.baselines import Baseline
from mechprobe.gates.engine import Engine, engine_for
from mechprobe.gates.engine_graphs import GraphedEngine, graphed
from mechprobe.gates.reference import gated_logits
from mechprobe.locate.mask_loss import Loss
from mechprobe.models.edits import HookedModel
from mechprobe.sites import SiteGrid
from mechprobe.tasks.batches import Batch

Gradients = Callable[[Batch, Tensor, Loss], tuple[Tensor, Tensor]]
"""From a batch, gates [k, site] and a loss to losses [k] and gate gradients [k, site]."""

REMEMBER = 2**28  # bytes of first-layer results that a search keeps


@dataclass(frozen=True)
class EngineGradients:
    """By the engine; no gradient is asked for where a gate is clamped to 0 or 1.

    Attributes:
        at_once: members that run stacked (None: by the number of tokens).
        recompute: trade time for memory on the way back (``Engine.gradients``).
        graphs: recorded steps of the engine, which take its place unless ``recompute``.
    """

    engine: Engine
    at_once: int | None = None
    recompute: bool = False
    graphs: GraphedEngine | None = None

    def __call__(self, batch: Batch, gates: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        """Each member's loss and the gradient of its gates."""
        wanted = (gates > 0) & (gates < 1)
        if self.graphs is not None and not self.recompute:
            return self.graphs.gradients(batch, gates, loss, wanted=wanted, at_once=self.at_once)
        return self.engine.gradients(
            batch, gates, loss, wanted=wanted, at_once=self.at_once, recompute=self.recompute
        )


def gradients_for(
    model: HookedModel, grid: SiteGrid, baseline: Baseline, chunk: int | None = None, *,
    recompute: bool = False,
) -> Gradients:
    """Each member's loss and gate gradients by the engine, or by hooks where it does not run."""
    engine = engine_for(model, grid, baseline, remember=REMEMBER)
    if engine is None:
        return partial(_by_reference, model, grid, baseline, chunk)
    return EngineGradients(engine, chunk, recompute, graphed(engine))


def sparing(gradients: Gradients) -> Gradients | None:
    """The same gradients in less memory and more time; None where there is no such way, or left."""
    if not isinstance(gradients, EngineGradients) or gradients.recompute:
        return None
    return replace(gradients, recompute=True)


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

"""Run a model whose attention may only go where a map allows it."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.models.edits import HookedModel, hook_name, run_with_named_hooks, site_grid
from mechprobe.sites import Site
from mechprobe.tasks.batches import Batch


def run_with_allowed_attention(
    model: HookedModel, batch: Batch, allowed: Bool[Tensor, "query key"]
) -> Float[Tensor, "batch ..."]:
    """Outputs of a model of one stack whose every head looks only at allowed keys.

    The weights of other keys become 0 and the rest is scaled to sum one, as if their scores were
    minus infinity.

    Raises:
        InputError: a model of several stacks, a map of another size, or a query without a key.
    """
    if site_grid(model).stacks != ("",):
        raise InputError("attention can be limited in models of one stack only")
    pos = batch.tokens.shape[1]
    if tuple(allowed.shape) != (pos, pos) or not bool(allowed.any(1).all()):
        raise InputError(
            f"a map of {tuple(allowed.shape)} with {int((~allowed.any(1)).sum())} queries that may "
            f"look nowhere; give [{pos}, {pos}] with at least one key for each query"
        )
    names = [
        hook_name(model, Site("head", layer)).replace("hook_z", "hook_pattern")
        for layer in range(model.cfg.n_layers)
    ]

    def keep(name: str, pattern: Tensor) -> Tensor:
        inside = pattern * allowed.to(pattern)
        tiny = torch.finfo(pattern.dtype).tiny
        return inside / inside.sum(-1, keepdim=True).clamp_min(tiny)

    return run_with_named_hooks(model, batch, names, keep)

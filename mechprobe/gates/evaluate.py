"""Per-example outcomes of K gated models over many batches, in the order of the examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.gates.baselines import Baseline
from mechprobe.gates.engine import Engine, engine_for
from mechprobe.gates.reference import gated_logits
from mechprobe.models.edits import HookedModel, forward
from mechprobe.sites import SiteGrid
from mechprobe.tasks.batches import Batch


@torch.no_grad()
def evaluate(
    model: HookedModel,
    batches: Sequence[Batch],
    gates: Float[Tensor, "k site"] | None,
    grid: SiteGrid,
    baseline: Baseline,
    metric: Callable[[Tensor, Batch], Tensor],
    *,
    chunk: int | None = None,
    engine: Engine | Literal[False] | None = None,
    on_batch: Callable[[], None] | None = None,
) -> Shaped[np.ndarray, "k example"]:
    """A per-example metric of every gate vector: float64 [k, example].

    Args:
        gates: one row a gate vector; None runs the untouched model (k = 1).
        metric: takes logits [batch, ...] and the batch, gives [batch].
        chunk: gate vectors that run stacked (None: by the number of tokens).
        engine: one made before of this model, grid and baseline; False: hooks; None: it is made.
        on_batch: called after each batch, for a progress bar.

    Examples stand in the order of ``Batch.index``.

    Raises:
        InputError: no batches, or batches whose ``index`` is not 0 .. n-1, each once.
    """
    if not batches:
        raise InputError("nothing to evaluate: no batches were given")
    index = np.sort(np.concatenate([batch.index.cpu().numpy() for batch in batches]))
    n = len(index)
    if (index != np.arange(n)).any():
        raise InputError(
            f"the batches hold {n} examples, but their index is not 0 to {n - 1}, each once; "
            "encode exactly the examples to be scored (too_long='truncate' keeps every row)"
        )
    k = 1 if gates is None else gates.shape[0]
    out = np.full((k, n), np.nan)
    if engine is None and gates is not None:
        engine = engine_for(model, grid, baseline)
    for batch in batches:
        if gates is None:
            rows = metric(forward(model, batch), batch).unsqueeze(0)
        elif engine:
            rows = engine.outcomes(batch, gates, metric, at_once=chunk)
        else:
            logits = gated_logits(model, batch, gates, grid, baseline, chunk=chunk)
            rows = torch.stack([metric(row, batch) for row in logits])
        out[:, batch.index.cpu().numpy()] = rows.double().cpu().numpy()
        if on_batch is not None:
            on_batch()
    return out

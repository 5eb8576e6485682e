"""The metric of K gate vectors on a behaviour: what every gate-based localiser calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.gates.baselines import Baseline, make_baseline, paired_baseline
from mechprobe.gates.choose import chosen_sites, grid_for
from mechprobe.gates.engine import Engine
from mechprobe.gates.evaluate import evaluate
from mechprobe.models.edits import HookedModel
from mechprobe.sites import SiteGrid
from mechprobe.tasks.batches import Batch
from mechprobe.tasks.behaviour import Behaviour

__all__ = ["BATCH", "baseline_for", "chosen_sites", "difference", "grid_for", "measure"]

BATCH = 64


def measure(
    model: HookedModel,
    behaviour: Behaviour,
    gates: Shaped[Tensor | np.ndarray, "k site"] | None,
    grid: SiteGrid,
    baseline: Baseline,
    *,
    batch_size: int = BATCH,
    engine: Engine | Literal[False] | None = None,
    on_batch: Callable[[], None] | None = None,
) -> Float[np.ndarray, "k example"]:
    """The metric of every gate vector on every example; None runs the untouched model (k = 1).

    Args:
        engine: as in ``mechprobe.gates.evaluate.evaluate``.

    Raises:
        InputError: a metric that is NaN or infinite, naming the example.
    """
    if isinstance(gates, np.ndarray):
        gates = torch.as_tensor(gates, dtype=torch.float32)
    if gates is not None:
        gates = gates.to(next(model.parameters()).device)
    out = evaluate(
        model, behaviour.batches(batch_size), gates, grid, baseline, behaviour.measure,
        engine=engine, on_batch=on_batch,
    )
    if (bad := ~np.isfinite(out)).any():
        k, row = np.argwhere(bad)[0]
        what = "NaN" if np.isnan(out[k, row]) else "infinite"
        raise InputError(
            f"{behaviour.name}: metric {behaviour.metric_name!r} is {what} on example {row} "
            f"(gate vector {k}); leave that example out or mend the metric"
        )
    return out


def difference(
    first: Float[np.ndarray, "*shape"], second: Float[np.ndarray, "*shape"], model: HookedModel
) -> Float[np.ndarray, "*shape"]:
    """First minus second; 0 where they differ by no more than the model's rounding error.

    Without it a component that does nothing would get effects such as 1e-8, which a sign test can
    find to be of one sign.
    """
    slack = 16 * torch.finfo(next(model.parameters()).dtype).eps
    out = first - second
    usual = float(np.sqrt(np.mean(first**2) + np.mean(second**2)))
    size = np.maximum(np.maximum(np.abs(first), np.abs(second)), usual)
    return np.where(np.abs(out) <= slack * size, 0.0, out)


def baseline_for(
    kind: str | Baseline,
    model: HookedModel,
    behaviour: Behaviour,
    grid: SiteGrid,
    *,
    reference: Sequence[Batch] | None = None,
    seed: int = 0,
) -> Baseline:
    """A baseline by name, fitted on ``reference`` batches (the behaviour's own inputs when None).

    Raises:
        InputError: an unknown kind, or "paired" for a behaviour without counterfactuals.
    """
    if isinstance(kind, Baseline):
        return kind
    if kind == "paired":
        if behaviour.corrupt is None:
            raise InputError(
                f"{behaviour.name} has no counterfactual inputs, which the paired baseline needs; "
                "give a corrupt input for every clean one, or take baseline='mean'"
            )
        return paired_baseline(behaviour.counterfactual)
    batches = behaviour.batches(BATCH) if reference is None else reference
    return make_baseline(kind, model, batches, grid, seed=seed)

"""Attribution: how much each site matters, from gradients of the metric with respect to the gates.

First order estimates what closing one site would do from the gradient at the full model: all sites
for two passes. Integrated follows the gradient from all sites closed to all open, so that the
effects add up to what closing all of them does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.gates.baselines import Baseline
from mechprobe.locate.behaviours import AnyTask
from mechprobe.locate.measure import BATCH
from mechprobe.locate.meter import Meter, meter_for
from mechprobe.locate.scores import Scores
from mechprobe.models.edits import HookedModel, forward, run_with_edits
from mechprobe.runs import progress as progress_bar
from mechprobe.sites import Site, SiteGrid, SiteName
from mechprobe.tasks.answers import WITHOUT_GRADIENT
from mechprobe.tasks.batches import Batch
from mechprobe.tasks.behaviour import Behaviour


def attribute(
    model: HookedModel,
    task: AnyTask,
    sites: str | Sequence[SiteName] = "heads",
    baseline: str | Baseline = "paired",
    *,
    method: str = "first_order",
    steps: int = 10,
    metric: str | Callable[..., Tensor] | None = None,
    n: int | None = 512,
    split: str = "dev",
    seed: int = 0,
    reference: Sequence[Batch] | Behaviour | None = None,
    batch_size: int = BATCH,
    progress: bool = True,
) -> Scores:
    """Estimated effect of every site, from gradients with respect to gates.

    "first_order": d metric / d gate at the full model, the linear estimate of metric(full) -
    metric(site closed) (attribution patching: Nanda 2023; Syed et al. 2023). "integrated": that
    gradient's mean while the chosen sites open together from closed to full (integrated gradients,
    Sundararajan et al. 2017, along activations as in Hanna et al. 2024); each example's effects
    add up to metric(full) - metric(all chosen sites closed), up to the error of the quadrature,
    whose mean over examples is in ``settings["completeness_gap"]``.

    ``forwards`` counts a backward pass as one (weights get no gradient), and the passes that the
    baseline and the two ends of the path take.

    Args:
        sites: "heads", "mlps", "all" or a list; the others stay open.
        baseline: what stands in a closed site's place (``mechprobe.gates.baselines``).
        steps: points of the Gauss-Legendre quadrature of "integrated".
        metric: instead of the task's own; must have a gradient.
        n: examples at most.
        split: of a sentence-pair task.
        reference: what a mean baseline is taken over; the task's own inputs when None.
        batch_size: examples a batch.
        progress: show a bar when it takes long.

    Raises:
        InputError: a metric without gradient (accuracy, exact match), or with none at the full
            model (KL under "first_order"); an unknown method; fewer than one step; as ``ablate``.
    """
    points, weights = path_points(method, steps)
    meter = meter_for(
        model, task, sites, baseline, metric=metric, n=n, split=split, seed=seed,
        reference=reference, batch_size=batch_size,
        show=f"attribute, {method}" if progress else None,
    )
    _refuse_flat(model, meter.behaviour, method)
    effects = _along_path(meter, points, weights)
    settings: dict[str, Any] = {
        "task": meter.behaviour.name, "n": len(meter.behaviour), "seed": seed
    }
    if method == "integrated":
        full, closed = meter.closing([(), meter.sites])
        gap = float(np.abs(effects.sum(0) - (full - closed)).mean())
        settings |= {"steps": steps, "completeness_gap": gap}
    select, report = meter.behaviour.halves(seed)
    return Scores(
        method=f"attribute, {method.replace('_', ' ')}", sites=tuple(map(str, meter.sites)),
        effects=effects, select=select, report=report, metric=meter.behaviour.metric_name,
        baseline=meter.baseline.kind, forwards=meter.passes, settings=settings, grid=meter.grid,
    )


def _along_path(
    meter: Meter, points: Sequence[float], weights: Sequence[float]
) -> Float[np.ndarray, "site example"]:
    """The weighted sum of gradients where the chosen gates stand at each point, the rest at 1."""
    effects = np.zeros((len(meter.sites), len(meter.behaviour)))
    columns = [meter.grid.index(site) for site in meter.sites]
    moved = torch.from_numpy(meter.grid.mask(kept=meter.sites))
    weight = next(meter.model.parameters())
    moved = moved.to(weight.device)
    dtype = torch.promote_types(weight.dtype, torch.float32)
    ones = torch.ones(moved.shape, dtype=dtype, device=weight.device)
    along = torch.stack([ones.masked_fill(moved, point) for point in points])
    batches = meter.behaviour.batches(meter.batch_size)
    for batch in batches if meter.show is None else progress_bar(batches, meter.show):
        slopes = path_gradients(meter, batch, along, moved)[..., columns]
        rows = batch.index.cpu().numpy()
        effects[:, rows] = np.einsum("p,pbs->sb", weights, slopes.double().cpu().numpy())
    meter.passes += 2 * len(points) + (meter.baseline.kind in ("resample", "paired"))
    return effects


def path_gradients(
    meter: Meter,
    batch: Batch,
    along: Float[Tensor, "point site"],
    moved: Bool[Tensor, " site"],
) -> Float[Tensor, "point batch site"]:
    """Each example's d metric / d gates at every point of a path, in one call of the engine.

    Where the engine does not run the model: a point at a time, by hooks and autograd.

    Args:
        along: the gates at each point.
        moved: the gates whose gradient is asked for; of the others the engine gives 0.

    Raises:
        InputError: a gradient that is NaN or infinite, naming the example.
    """
    model, behaviour = meter.model, meter.behaviour
    if not meter.engine:
        values = meter.baseline.values(model, batch, meter.grid)
        each = [
            gate_gradients(model, behaviour, batch, g.expand(len(batch), -1), meter.grid, values)
            for g in along
        ]
        return torch.stack(each)
    wanted = moved.expand(len(along), -1)
    _, slopes = meter.engine.each_gradients(batch, along, behaviour.measure, wanted=wanted)
    for slope in slopes:
        refuse_endless(behaviour, batch, slope)
    return slopes


def gate_gradients(
    model: HookedModel,
    behaviour: Behaviour,
    batch: Batch,
    gates: Float[Tensor, "batch site"],
    grid: SiteGrid,
    values: Mapping[Site, Tensor],
) -> Float[Tensor, "batch site"]:
    """Each example's d metric / d gates at its own gate vector, in one forward and one backward.

    Args:
        gates: one row an example, columns in the order of ``grid.sites``.
        values: what stands in closed gates' places (``Baseline.values`` of this batch).

    Raises:
        InputError: a gradient that is NaN or infinite, naming the example.
    """
    dtype = torch.promote_types(next(model.parameters()).dtype, torch.float32)
    own_gates = gates.detach().to(dtype).clone().requires_grad_()
    with torch.enable_grad():
        edits = {
            site: _gate(_like(own_gates[:, columns], site), values[site])
            for site, columns in grid.layer_columns.items()
        }
        outcome = behaviour.measure(run_with_edits(model, batch, edits), batch)
        (slope,) = torch.autograd.grad(outcome.sum(), own_gates)
    refuse_endless(behaviour, batch, slope)
    return slope


def refuse_endless(
    behaviour: Behaviour, batch: Batch, slope: Float[Tensor, "batch site"]
) -> None:
    """Raise InputError where a gradient is NaN or infinite, naming the example."""
    if not (finite := slope.isfinite().all(1)).all():
        row = int(batch.index.to(finite.device)[~finite][0])
        raise InputError(
            f"{behaviour.name}: the gradient of metric {behaviour.metric_name!r} is not finite on "
            f"example {row}; leave that example out or mend the metric"
        )


def _like(gates: Float[Tensor, "batch unit"], site: Site) -> Tensor:
    """Gates of a layer in the shape of its activation, to be broadcast over positions."""
    if site.kind == "head":
        return rearrange(gates, "batch unit -> batch 1 unit 1")
    return rearrange(gates, "batch unit -> batch 1 unit")


def _gate(g: Tensor, base: Tensor) -> Callable[[Tensor], Tensor]:
    def edit(own: Tensor) -> Tensor:
        return (base + g * (own - base)).to(own.dtype)

    return edit


def path_points(method: str, steps: int) -> tuple[list[float], list[float]]:
    """Gate values in 0 to 1 at which gradients are taken, and their weights (sum 1).

    "first_order": at 1 only. "integrated": Gauss-Legendre points, exact for polynomials in the
    gate of degree 2 steps - 1; one step is the midpoint.

    Raises:
        InputError: another method, or fewer than one step.
    """
    if method == "first_order":
        return [1.0], [1.0]
    if method != "integrated":
        raise InputError(f"method={method!r}; give 'first_order' or 'integrated'")
    if steps < 1:
        raise InputError(f"steps={steps}; an integral needs at least one point")
    points, weights = np.polynomial.legendre.leggauss(steps)
    return ((points + 1) / 2).tolist(), (weights / 2).tolist()


def _refuse_flat(model: HookedModel, behaviour: Behaviour, method: str) -> None:
    """Refuse metrics whose gradient would be zero or missing everywhere."""
    name = behaviour.metric_name
    why = "takes an argmax, so it has no gradient" if name in WITHOUT_GRADIENT else ""
    if name == "kl" and method == "first_order":
        why = "is at its best at the full model, where its gradient is 0"
    if not why:
        batch = behaviour.batches(32)[0]
        with torch.no_grad():
            logits = forward(model, batch)
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(logits.shape, generator=generator).to(logits)
        logits = (logits + logits.std() * noise).requires_grad_()
        with torch.enable_grad():
            outcome = behaviour.measure(logits, batch)
        if not outcome.requires_grad:
            why = "gives numbers without a gradient"
        elif not torch.autograd.grad(outcome.sum(), logits)[0].any():
            why = "has gradient 0 (it is a step function of the logits)"
    if why:
        raise InputError(
            f"metric {name!r} {why}; attribute with 'logit_difference' or 'log_probability'"
            + (" or method='integrated'" if name == "kl" else "")
            + ", or use ablation"
        )

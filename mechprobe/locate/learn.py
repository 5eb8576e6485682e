"""Learned masks as a localiser: which sites sparse masks keep, over independent seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import numpy as np
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.gates.baselines import Baseline
from mechprobe.locate.behaviours import AnyTask, behaviour_of
from mechprobe.locate.masks import MaskSettings, Member, scaled, train_masks
from mechprobe.locate.measure import BATCH, baseline_for
from mechprobe.locate.scores import Scores
from mechprobe.locate.search import binarise, choose_sites
from mechprobe.locate.subnetworks import SubnetworkSet
from mechprobe.models.edits import HookedModel, site_grid
from mechprobe.runs import progress as progress_bar
from mechprobe.tasks.answers import WITHOUT_GRADIENT
from mechprobe.tasks.batches import Batch
from mechprobe.tasks.behaviour import Behaviour


def masked_subnetworks(
    model: HookedModel,
    task: AnyTask,
    sites: str = "heads",
    baseline: str | Baseline = "mean",
    *,
    sparsity: float = 0.5,
    seeds: Iterable[int] = range(12),
    steps: int = 300,
    metric: str | Callable[..., Tensor] = "kl",
    n: int | None = 512,
    split: str = "dev",
    seed: int = 0,
    batch_size: int = BATCH,
    progress: bool = True,
) -> SubnetworkSet:
    """Learn one sparse mask a seed that keeps a behaviour, on any model the gates run on.

    Hard concrete gates (Louizos et al. 2018) under a Lagrangian on the expected share of closed
    gates, as ``find_subnetworks`` trains them, but on the metric of any task.

    Args:
        sites: "heads", "mlps", "all" or "neurons"; the others stay open.
        sparsity: share of those sites closed, inside (0, 1).
        metric: what is kept: "kl" (minus the divergence from the full model at the scored
            positions), or any differentiable metric, which is then maximised.
        seed: of the examples drawn and of the batches' order.

    Raises:
        InputError: a metric without gradient, no seeds, or what ``behaviour_of`` refuses.
    """
    if metric in WITHOUT_GRADIENT:
        raise InputError(f"metric {metric!r} has no gradient; learn masks on 'kl', say")
    members = [Member(s, sparsity) for s in seeds]
    behaviour = behaviour_of(model, task, metric=metric, split=split, n=n, seed=seed)
    grid = choose_sites(site_grid(model), sites)
    stands = baseline_for(baseline, model, behaviour, grid, seed=seed)
    settings = scaled(MaskSettings(), steps)
    with progress_bar(steps, "learn masks") if progress else nullcontext() as bar:

        def on_step(step: int, report: dict[str, list[float]]) -> None:
            if bar is not None:
                bar.update(step - bar.n)

        log_alpha = train_masks(
            model, behaviour.batches(batch_size), members, grid, stands, settings,
            order_seed=seed, loss=_loss(behaviour), on_step=on_step,
        )
    return SubnetworkSet(tuple(
        binarise(row.cpu(), member, grid, settings, stands.kind)
        for row, member in zip(log_alpha, members, strict=True)
        if not row.isnan().any()
    ))


def learn_masks(
    model: HookedModel,
    task: AnyTask,
    sites: str = "heads",
    baseline: str | Baseline = "mean",
    **settings: Any,
) -> Scores:
    """How much more often than chance sparse masks keep each site.

    The effect of a site in one mask is 1 where it is kept and 0 where not, less the share of sites
    that mask keeps, so that chance is 0. In these scores an "example" is a mask's seed: intervals
    and p-values are over seeds, and nothing is held out.

    Args:
        settings: of ``masked_subnetworks``.

    Raises:
        InputError: as ``masked_subnetworks``.
    """
    found = masked_subnetworks(model, task, sites, baseline, **settings)
    kept = found.binary().T.astype(float)
    every = np.arange(len(found))
    made = found[0].settings
    metric = settings.get("metric", "kl")
    return Scores(
        method="learned masks", sites=tuple(map(str, found.sites)),
        effects=kept - kept.mean(0), select=every, report=every,
        metric=metric if isinstance(metric, str) else metric.__name__,
        baseline=made["baseline"], forwards=made["steps"] * len(found),
        settings={"sparsity": found[0].sparsity_target, "steps": made["steps"],
                  "seeds": [member.seed for member in found]},
        grid=found.sites,
    )


def _loss(behaviour: Behaviour) -> Callable[[Tensor, Batch], Tensor]:
    def loss(logits: Tensor, batch: Batch) -> Tensor:
        return -behaviour.measure(logits, batch).mean()

    return loss

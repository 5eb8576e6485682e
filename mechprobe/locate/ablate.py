"""Ablation: what closing a site does, one at a time, alone open, or one after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, overload

import numpy as np
from jaxtyping import Float
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.gates.baselines import Baseline
from mechprobe.locate.behaviours import AnyTask
from mechprobe.locate.cumulative import CumulativeCurve, cumulative
from mechprobe.locate.measure import BATCH, difference
from mechprobe.locate.meter import Meter, meter_for, single_effects
from mechprobe.locate.scores import Scores
from mechprobe.models.edits import HookedModel
from mechprobe.sites import SiteName
from mechprobe.tasks.batches import Batch
from mechprobe.tasks.behaviour import Behaviour


@overload
def ablate(
    model: HookedModel, task: AnyTask, sites: str | Sequence[SiteName] = ...,
    baseline: str | Baseline = ..., *, how: Literal["single", "leave_one_in"] = ...,
    order: None = ..., metric: str | Callable[..., Tensor] | None = ..., n: int | None = ...,
    split: str = ..., seed: int = ..., reference: Sequence[Batch] | Behaviour | None = ...,
    batch_size: int = ..., progress: bool = ...,
) -> Scores: ...
@overload
def ablate(
    model: HookedModel, task: AnyTask, sites: str | Sequence[SiteName] = ...,
    baseline: str | Baseline = ..., *, how: Literal["cumulative"],
    order: Scores | Sequence[SiteName] | None = ...,
    metric: str | Callable[..., Tensor] | None = ..., n: int | None = ..., split: str = ...,
    seed: int = ..., reference: Sequence[Batch] | Behaviour | None = ..., batch_size: int = ...,
    progress: bool = ...,
) -> CumulativeCurve: ...
def ablate(
    model: HookedModel,
    task: AnyTask,
    sites: str | Sequence[SiteName] = "heads",
    baseline: str | Baseline = "mean",
    *,
    how: str = "single",
    order: Scores | Sequence[SiteName] | None = None,
    metric: str | Callable[..., Tensor] | None = None,
    n: int | None = 512,
    split: str = "dev",
    seed: int = 0,
    reference: Sequence[Batch] | Behaviour | None = None,
    batch_size: int = BATCH,
    progress: bool = True,
) -> Scores | CumulativeCurve:
    """The effect of closing each site on a behaviour.

    Args:
        task: the name of a card of sentence pairs, a ``Task``, a ``PromptTask`` or a ``Behaviour``.
        sites: "heads", "mlps", "all" or a list such as ``["5.1", "mlp.3", "4.*"]``; a
            head may also be ``(5, 1)`` or ``"L5H1"``, wherever sites are named.
        baseline: what stands in a closed site's place: "zero", "mean", "mean_position",
            "resample", "paired" (needs counterfactuals), or a ``Baseline``.
        how: "single": metric(all open) - metric(the site closed). "leave_one_in": metric(of the
            chosen sites only this one open) - metric(all chosen closed). "cumulative": sites are
            closed one after another (``mechprobe.locate.cumulative``).
        order: for "cumulative".
        metric: a name or a function of logits, instead of the task's own.
        n: examples at most; None takes all.
        split: of a sentence-pair task.
        reference: what a mean is taken over; None: the examples themselves.
        batch_size: examples a batch.
        progress: show a bar when it takes long.

    Returns:
        Scores, ranked on one half of the examples and reported on the other; for "cumulative" a
        curve.

    Raises:
        InputError: an unknown ``how``, sites that do not exist, a task, metric or baseline that
            does not fit the model.
    """
    if how not in ("single", "leave_one_in", "cumulative"):
        raise InputError(f"how={how!r}; give 'single', 'leave_one_in' or 'cumulative'")
    if how == "cumulative":
        return cumulative(
            model, task, order, sites=sites, baseline=baseline, metric=metric, n=n, split=split,
            seed=seed, reference=reference, batch_size=batch_size, progress=progress,
        )
    if order is not None:
        raise InputError(f"an order is for how='cumulative', not {how!r}; leave it out")
    meter = meter_for(
        model, task, sites, baseline, metric=metric, n=n, split=split, seed=seed,
        reference=reference, batch_size=batch_size, show="ablate" if progress else None,
    )
    effects = single_effects(meter) if how == "single" else leave_one_in_effects(meter)
    select, report = meter.behaviour.halves(seed)
    return Scores(
        method="ablate" if how == "single" else "ablate, leave one in",
        sites=tuple(map(str, meter.sites)), effects=effects, select=select, report=report,
        metric=meter.behaviour.metric_name, baseline=meter.baseline.kind, forwards=meter.passes,
        settings={
            "how": how, "task": meter.behaviour.name, "n": len(meter.behaviour), "seed": seed,
        },
        grid=meter.grid,
    )


def leave_one_in_effects(meter: Meter) -> Float[np.ndarray, "site example"]:
    """metric(of the chosen sites only this one open) - metric(all of them closed)."""
    chosen = meter.sites
    values = meter.closing([chosen, *([s for s in chosen if s != site] for site in chosen)])
    return difference(values[1:], np.broadcast_to(values[0], values[1:].shape), meter.model)

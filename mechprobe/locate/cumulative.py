"""Closing sites one after another, in an order, beside random orders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.figures import closing_curve
from mechprobe.gates.baselines import Baseline
from mechprobe.locate.behaviours import AnyTask
from mechprobe.locate.kept import keep, kept
from mechprobe.locate.measure import BATCH
from mechprobe.locate.meter import Meter, meter_for, single_effects
from mechprobe.locate.scores import Scores
from mechprobe.locate.tabled import Tabled
from mechprobe.models.edits import HookedModel
from mechprobe.sites import SiteName
from mechprobe.stats import bootstrap_mean, empirical_p
from mechprobe.tasks.batches import Batch
from mechprobe.tasks.behaviour import Behaviour

MOST_STEPS = 24


@dataclass(frozen=True, eq=False, repr=False)
class CumulativeCurve(Tabled):
    """A metric while more and more sites are closed.

    Attributes:
        order: the sites, the first closed first.
        closed: how many of them are closed at each step; from 0 to all.
        values: the metric at each step on each example.
        null: the metric's mean at each step under random orders of the same sites.
        metric: its name.
        baseline: what stood in closed sites' places.
        forwards: model passes over each batch that it took.
        settings: what else made it.
    """

    order: tuple[str, ...]
    closed: Int[np.ndarray, " step"]
    values: Float[np.ndarray, "step example"]
    null: Float[np.ndarray, "draw step"]
    metric: str
    baseline: str
    forwards: int
    settings: Mapping[str, Any] = field(default_factory=dict)

    def table(self, seed: int = 0) -> pd.DataFrame:
        """One row a step.

        Columns: closed, site (the last one closed), value, low, high (95 % bootstrap interval over
        examples), null, null_low, null_high (mean and central 95 % of random orders), p (share of
        random orders that are at most as high at this step, of draws + 1).
        """
        ends = [bootstrap_mean(row, seed=seed) for row in self.values]
        low, high = np.percentile(self.null, [2.5, 97.5], axis=0)
        return pd.DataFrame({
            "closed": self.closed,
            "site": ["" if k == 0 else self.order[k - 1] for k in self.closed],
            "value": [e.estimate for e in ends],
            "low": [e.low for e in ends],
            "high": [e.high for e in ends],
            "null": self.null.mean(0),
            "null_low": low,
            "null_high": high,
            "p": [
                empirical_p(e.estimate, draws, "less")
                for e, draws in zip(ends, self.null.T, strict=True)
            ],
        })

    @cached_property
    def area(self) -> float:
        """Area under the curve over the share of sites closed: the metric's mean along the way."""
        return float(self._areas(self.values.mean(1)))

    @cached_property
    def p(self) -> float:
        """Share of random orders with at most this area (of draws + 1): the order finds its sites.

        One test of the whole curve; the steps' own p are not corrected for looking at many.
        """
        return empirical_p(self.area, self._areas(self.null), "less")

    def _areas(self, heights: Float[np.ndarray, "*draw step"]) -> Float[np.ndarray, "*draw"]:
        return np.asarray(np.trapezoid(heights, self.closed / self.closed[-1], axis=-1))

    def plot(self) -> Figure:
        """The curve with its interval, over the range of random orders."""
        return closing_curve(self.table(), unit=self.metric, title=f"{self.baseline} baseline")

    def save(self, folder: str | Path) -> Path:
        """Write ``cumulative.safetensors`` and ``cumulative.csv`` into a folder."""
        described = {
            "order": list(self.order), "metric": self.metric, "baseline": self.baseline,
            "forwards": self.forwards, "settings": dict(self.settings),
        }
        arrays = {"closed": self.closed, "values": self.values, "null": self.null}
        return keep(folder, "cumulative", described, arrays, self.table())

    @staticmethod
    def load(folder: str | Path) -> CumulativeCurve:
        """Read what ``save`` wrote; raises InputError when there is nothing to read."""
        with kept(folder, "cumulative", ("closed", "values", "null")) as (described, arrays):
            return CumulativeCurve(**{**described, "order": tuple(described["order"])}, **arrays)


def cumulative(
    model: HookedModel,
    task: AnyTask,
    order: Scores | Sequence[SiteName] | None = None,
    *,
    sites: str | Sequence[SiteName] = "heads",
    baseline: str | Baseline = "mean",
    steps: Sequence[int] | None = None,
    n_random: int = 20,
    metric: str | Callable[..., Tensor] | None = None,
    n: int | None = 512,
    split: str = "dev",
    seed: int = 0,
    reference: Sequence[Batch] | Behaviour | None = None,
    batch_size: int = BATCH,
    progress: bool = True,
) -> CumulativeCurve:
    """Close sites one after another and measure at each step, beside random orders.

    Args:
        order: the sites in the order they are closed, measured on all examples. Or scores, whose
            ranking is taken and the curve measured on the examples they do not rank on (scores of
            the same task, n and seed). None: ``sites`` ranked by their single effects on one half
            of the examples, the curve measured on the other.
        sites: what is ranked when no order is given.
        steps: how many sites are closed at each step; None: every number, or ``MOST_STEPS`` of
            them where there are more. 0 and all are always among them.
        n_random: random orders of the same sites.
        baseline, metric, n, split, seed, reference, batch_size, progress: as in ``ablate``.

    Raises:
        InputError: an order that names a site twice or one that does not exist, steps outside it,
            fewer than one random order; as ``ablate``.
    """
    if n_random < 1:
        raise InputError(f"{n_random} random orders give no null; give 1 or more")
    named = order.ranking if isinstance(order, Scores) else order
    meter = meter_for(
        model, task, sites if named is None else list(named), baseline, metric=metric, n=n,
        split=split, seed=seed, reference=reference, batch_size=batch_size,
        show="cumulative" if progress else None,
    )
    passes = meter.passes
    if isinstance(order, Scores):
        meter = meter.on(_held_out(order, meter))
    elif order is None:
        select, report = meter.behaviour.halves(seed)
        ranker = meter.on(select)
        effects = single_effects(ranker).mean(1)
        meter.sites = [meter.sites[i] for i in np.argsort(-effects, kind="stable")]
        passes += ranker.passes
        meter = meter.on(report)
    chosen = meter.sites
    closed = _steps(steps, len(chosen))
    rng = np.random.default_rng([seed, 11])
    orders = [chosen, *([chosen[i] for i in rng.permutation(len(chosen))] for _ in range(n_random))]
    inner = [k for k in closed if 0 < k < len(chosen)]
    sets = [(), chosen, *(one[:k] for one in orders for k in inner)]
    measured = meter.closing(sets)
    middle = measured[2:].reshape(len(orders), len(inner), -1)
    ends = np.broadcast_to(measured[:2, None], (2, len(orders), measured.shape[1]))
    every = np.concatenate([ends[0][:, None], middle, ends[1][:, None]], axis=1)
    return CumulativeCurve(
        order=tuple(map(str, chosen)), closed=np.array(closed), values=every[0],
        null=every[1:].mean(2), metric=meter.behaviour.metric_name, baseline=meter.baseline.kind,
        forwards=passes + meter.passes,
        settings={"task": meter.behaviour.name, "n": len(meter.behaviour), "seed": seed},
    )


def _held_out(order: Scores, meter: Meter) -> Int[np.ndarray, " row"]:
    """The rows the scores do not rank on."""
    n = len(meter.behaviour)
    if order.effects.shape[1] != n:
        raise InputError(
            f"scores of {order.effects.shape[1]} examples (or masks) order sites for {n} examples; "
            "score the same task with the same n, or give the sites themselves (.ranking)"
        )
    if np.intersect1d(order.select, order.report).size:
        raise InputError(
            f"the scores of {order.method!r} held no examples out; give their .ranking and other "
            "examples (split=)"
        )
    return order.report


def _steps(steps: Sequence[int] | None, n: int) -> list[int]:
    if steps is None:
        return sorted({round(k) for k in np.linspace(0, n, min(n, MOST_STEPS) + 1)})
    if outside := [k for k in steps if not 0 <= k <= n]:
        raise InputError(f"step {outside[0]} closes more sites than the {n} there are, or fewer "
                         f"than 0; give numbers from 0 to {n}")
    return sorted({0, *steps, n})

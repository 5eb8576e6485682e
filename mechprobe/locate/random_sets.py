"""Whether a set of sites matters more than random sets of the same size."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations, product
from math import comb, prod
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.figures import bars_with_null
from mechprobe.gates.baselines import Baseline
from mechprobe.locate.behaviours import AnyTask
from mechprobe.locate.kept import keep, kept
from mechprobe.locate.measure import BATCH, chosen_sites, difference
from mechprobe.locate.meter import meter_for
from mechprobe.locate.tabled import Tabled
from mechprobe.models.edits import HookedModel
from mechprobe.sites import Site, SiteName
from mechprobe.stats import bootstrap_mean, empirical_p
from mechprobe.stats.intervals import Interval
from mechprobe.tasks.batches import Batch
from mechprobe.tasks.behaviour import Behaviour

FEWEST = 100


@dataclass(frozen=True, eq=False, repr=False)
class SetTest(Tabled):
    """The effect of closing a set of sites, beside random sets with as many of each kind.

    Attributes:
        sites: the set.
        effects: metric(all open) - metric(the set closed) of each example.
        null: mean effect of each random set; when ``exact``, of every possible set.
        exact: whether ``null`` holds all sets there are, this one among them.
        metric: its name.
        baseline: what stood in closed sites' places.
        forwards: model passes over each batch that it took.
        settings: what else made it.
    """

    sites: tuple[str, ...]
    effects: Float[np.ndarray, " example"]
    null: Float[np.ndarray, " draw"]
    exact: bool
    metric: str
    baseline: str
    forwards: int
    settings: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def effect(self) -> Interval:
        """Mean effect with a 95 % bootstrap interval over examples."""
        return bootstrap_mean(self.effects)

    @cached_property
    def p(self) -> float:
        """How often a random set's effect is at least as large (never 0)."""
        observed = float(self.effects.mean())
        if self.exact:
            slack = 1e-9 * max(1.0, abs(observed))
            return float((self.null >= observed - slack).mean())
        return empirical_p(observed, self.null)

    def table(self) -> pd.DataFrame:
        """One row: set, size, observed, low, high, expected, null_low, null_high, p."""
        low, high = np.percentile(self.null, [2.5, 97.5])
        return pd.DataFrame([{
            "set": " ".join(self.sites), "size": len(self.sites),
            "observed": self.effect.estimate, "low": self.effect.low, "high": self.effect.high,
            "expected": self.null.mean(), "null_low": low, "null_high": high, "p": self.p,
        }])

    def plot(self) -> Figure:
        """The set's effect over the range of random sets."""
        unit = f"effect on {self.metric}"
        return bars_with_null(
            self.table(), label="set", panel=None, unit=unit,
            null="random sets (mean, central 95 %)",
        )

    def save(self, folder: str | Path) -> Path:
        """Write ``set_test.safetensors`` and ``set_test.csv`` into a folder."""
        described = {
            "sites": list(self.sites), "exact": self.exact, "metric": self.metric,
            "baseline": self.baseline, "forwards": self.forwards, "settings": dict(self.settings),
        }
        arrays = {"effects": self.effects, "null": self.null}
        return keep(folder, "set_test", described, arrays, self.table())

    @staticmethod
    def load(folder: str | Path) -> SetTest:
        """Read what ``save`` wrote; raises InputError when there is nothing to read."""
        with kept(folder, "set_test", ("effects", "null")) as (described, arrays):
            return SetTest(**{**described, "sites": tuple(described["sites"])}, **arrays)


def random_set_p(
    model: HookedModel,
    task: AnyTask,
    sites: Sequence[SiteName],
    baseline: str | Baseline = "mean",
    *,
    among: str | Sequence[SiteName] = "all",
    same_layers: bool = False,
    n_sets: int = 200,
    metric: str | Callable[..., Tensor] | None = None,
    n: int | None = 512,
    split: str = "dev",
    seed: int = 0,
    reference: Sequence[Batch] | Behaviour | None = None,
    batch_size: int = BATCH,
    progress: bool = True,
) -> SetTest:
    """Close a set of sites, and random sets with as many heads, MLPs and neurons.

    The set should come from elsewhere than these examples (``Scores.top`` of other rows, another
    task), or its p is too small.

    Args:
        sites: the set.
        among: what random sets are drawn from; only sites of the set's kinds count.
        same_layers: random sets have as many sites in each layer (and stack) as the set has.
        n_sets: random sets, at least 100. All possible sets are taken where there are no more.
        baseline, metric, n, split, seed, reference, batch_size, progress: as in ``ablate``.

    Raises:
        InputError: fewer than 100 random sets asked for, no other set to compare with, a set
            outside ``among``; as ``ablate``.
    """
    if n_sets < FEWEST:
        raise InputError(f"{n_sets} random sets are too few for a p-value; give {FEWEST} or more")
    meter = meter_for(
        model, task, sites, baseline, metric=metric, n=n, split=split, seed=seed,
        reference=reference, batch_size=batch_size, show="random sets" if progress else None,
    )
    pool = chosen_sites(meter.grid, among)
    drawn, exact = equal_sets(meter.sites, pool, n_sets, same_layers=same_layers, seed=seed)
    values = meter.closing([(), meter.sites, *drawn])
    effects = difference(np.broadcast_to(values[0], values[1:].shape), values[1:], model)
    return SetTest(
        sites=tuple(map(str, meter.sites)), effects=effects[0], null=effects[1:].mean(1),
        exact=exact, metric=meter.behaviour.metric_name, baseline=meter.baseline.kind,
        forwards=meter.passes,
        settings={
            "task": meter.behaviour.name, "n": len(meter.behaviour), "seed": seed,
            "same_layers": same_layers,
        },
    )


def equal_sets(
    sites: Sequence[Site], pool: Sequence[Site], n: int, *, same_layers: bool, seed: int = 0
) -> tuple[list[list[Site]], bool]:
    """Sets with as many sites of each kind (and layer) from a pool: n random ones, or all.

    Returns:
        The sets, and whether they are all there are (the given one among them).

    Raises:
        InputError: a site outside the pool, or a pool that allows no other set.
    """
    if missing := [site for site in sites if site not in pool]:
        raise InputError(f"{missing[0]} is not among the sites that random sets are drawn from")

    def group(site: Site) -> tuple:
        return (site.kind, site.stack, site.layer) if same_layers else (site.kind,)

    wanted: dict[tuple, int] = defaultdict(int)
    for site in sites:
        wanted[group(site)] += 1
    from_ = {key: [site for site in pool if group(site) == key] for key in wanted}
    total = prod(comb(len(from_[key]), size) for key, size in wanted.items())
    if total == 1:
        raise InputError(
            "these are all the sites there are of their kind"
            f"{' and layer' if same_layers else ''}; no other set of {len(sites)} exists"
        )
    if total <= n:
        every = product(*(combinations(from_[key], size) for key, size in wanted.items()))
        return [[site for part in parts for site in part] for parts in every], True
    rng = np.random.default_rng([seed, 13])
    return [
        [
            from_[key][i]
            for key, size in wanted.items()
            for i in rng.choice(len(from_[key]), size, replace=False)
        ]
        for _ in range(n)
    ], False

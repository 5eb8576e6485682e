"""Faithfulness and completeness of a ranking or of nested sets, and their areas CPR and CMD.

m(k): the metric's mean with the first k sites open and the other candidates closed. Faithfulness
f(k) = (m(k) - m(0)) / (m(n) - m(0)) (Wang et al. 2023; Marks et al. 2025); completeness is the same
for what is left when the first k are closed: 0 once they hold all that matters. CPR is the area
under f over the share k / n of sites, CMD the area between f and 1 (Mueller et al. 2025, MIB, there
over edges); between the measured sizes, 0 and n among them, f is taken as a straight line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.figures.faithful import faithfulness_curve
from mechprobe.gates.baselines import Baseline
from mechprobe.locate.behaviours import AnyTask
from mechprobe.locate.kept import keep, kept
from mechprobe.locate.measure import BATCH
from mechprobe.locate.meter import meter_for
from mechprobe.locate.ranked import Ranking, ordered
from mechprobe.locate.scores import Scores
from mechprobe.locate.tabled import Tabled
from mechprobe.models.edits import HookedModel
from mechprobe.sites import SiteName
from mechprobe.stats import empirical_p
from mechprobe.stats.resample import resampled_scores

SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Shares of sites at which the curve of many sites is measured, as in MIB; rounded up to sites."""
EVERY_SIZE_UP_TO = 24


@dataclass(frozen=True, eq=False, repr=False)
class Faithfulness(Tabled):
    """How much of a behaviour the first sites of a ranking keep, and how much is left without them.

    Attributes:
        order: the ranking, the most important first.
        sizes: how many sites are kept (or closed) at each point; from 0 to all.
        alone: the metric of each example with the first sites open and the others closed.
        without: the same with the first sites closed and the others open.
        null: the mean of ``alone`` under random rankings.
        metric: its name.
        baseline: what stood in closed sites' places.
        forwards: model passes over each batch that it took.
        settings: what else made it.
    """

    order: tuple[str, ...]
    sizes: Int[np.ndarray, " size"]
    alone: Float[np.ndarray, "size example"]
    without: Float[np.ndarray, "size example"]
    null: Float[np.ndarray, "draw size"]
    metric: str
    baseline: str
    forwards: int
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shares(self) -> Float[np.ndarray, " size"]:
        """Each size as a share of all sites."""
        return self.sizes / len(self.order)

    @property
    def faithfulness(self) -> Float[np.ndarray, " size"]:
        """f of each size: 0 with all sites closed, 1 for the full model."""
        return self._normalised(self.alone.mean(1))

    @property
    def completeness(self) -> Float[np.ndarray, " size"]:
        """Faithfulness of the rest of the model, without the first sites."""
        return self._normalised(self.without.mean(1))

    @property
    def cpr(self) -> float:
        """Area under the faithfulness curve by the trapezoidal rule; above 1 is possible."""
        return float(self._cpr(self.faithfulness))

    @property
    def cmd(self) -> float:
        """Area between the faithfulness curve and 1; 0 is a perfect curve."""
        return float(self._cmd(self.faithfulness))

    def table(self, seed: int = 0) -> pd.DataFrame:
        """One row a size.

        Columns: size, share, faithfulness and completeness (each with _low and _high, the 95 %
        bootstrap interval over examples), null, null_low, null_high (mean and central 95 % of
        random rankings; NaN without any).
        """
        columns = {"size": self.sizes, "share": self.shares}
        for name, values in (("faithfulness", self.alone), ("completeness", self.without)):
            drawn = self._drawn(values, seed)
            columns[name] = getattr(self, name)
            columns[f"{name}_low"], columns[f"{name}_high"] = _central(drawn)
        null = self._normalised(self.null) if len(self.null) else np.full((1, len(self.sizes)),
                                                                          np.nan)
        columns["null"] = null.mean(0)
        columns["null_low"], columns["null_high"] = _central(null)
        return pd.DataFrame(columns)

    def areas(self, seed: int = 0) -> pd.DataFrame:
        """CPR and CMD beside those of random rankings.

        Columns: area, value, low, high (95 % bootstrap interval over examples), null, null_low,
        null_high (mean and central 95 % of random rankings), p (share of random rankings that are
        as good, of draws + 1; NaN without any).
        """
        drawn = self._drawn(self.alone, seed)
        rows = []
        for name, area, tail in (("CPR", self._cpr, "greater"), ("CMD", self._cmd, "less")):
            value = float(area(self.faithfulness))
            null = area(self._normalised(self.null)) if len(self.null) else np.full(1, np.nan)
            p = empirical_p(value, null, tail) if len(self.null) else np.nan
            ends = [float(end) for end in (*_central(area(drawn)), null.mean(), *_central(null))]
            rows.append([name, value, *ends, p])
        return pd.DataFrame(
            rows,
            columns=["area", "value", "low", "high", "null", "null_low", "null_high", "p"],
        )

    def plot(self) -> Figure:
        """Both curves with their intervals, over the range of random rankings."""
        return faithfulness_curve(self.table(), title=f"CPR {self.cpr:.2f}, CMD {self.cmd:.2f}")

    def save(self, folder: str | Path) -> Path:
        """Write ``faithfulness.safetensors`` and ``faithfulness.csv`` into a folder."""
        described = {
            "order": list(self.order), "metric": self.metric, "baseline": self.baseline,
            "forwards": self.forwards, "settings": dict(self.settings),
        }
        arrays = {name: getattr(self, name) for name in ("sizes", "alone", "without", "null")}
        return keep(folder, "faithfulness", described, arrays, self.table())

    @staticmethod
    def load(folder: str | Path) -> Faithfulness:
        """Read what ``save`` wrote; raises InputError when there is nothing to read."""
        names = ("sizes", "alone", "without", "null")
        with kept(folder, "faithfulness", names) as (described, arrays):
            return Faithfulness(**{**described, "order": tuple(described["order"])}, **arrays)

    def _normalised(
        self, means: Float[np.ndarray, "*draw size"]
    ) -> Float[np.ndarray, "*draw size"]:
        closed, full = self.alone[0].mean(), self.alone[-1].mean()
        return (means - closed) / (full - closed)

    def _drawn(self, values: Float[np.ndarray, "size example"], seed: int) -> np.ndarray:
        """Normalised curves of resampled examples [draw, size]; NaN where a resample has no range.
        """
        rows = np.concatenate([values, self.alone[[0, -1]]])
        drawn = resampled_scores(rows, seed=seed)
        span = drawn[:, -1:] - drawn[:, -2:-1]
        usable = np.abs(span) > 1e-9
        return np.where(usable, drawn[:, :-2] - drawn[:, -2:-1], np.nan) / np.where(
            usable, span, 1.0
        )

    def _cpr(self, curve: Float[np.ndarray, "*draw size"]) -> np.ndarray:
        return np.asarray(np.trapezoid(curve, self.shares, axis=-1))

    def _cmd(self, curve: Float[np.ndarray, "*draw size"]) -> np.ndarray:
        return _area_between(1 - curve, self.shares)


def _area_between(
    gap: Float[np.ndarray, "*draw size"], at: Float[np.ndarray, " size"]
) -> Float[np.ndarray, "*draw"]:
    """Area between a broken line and 0, also where it crosses 0 between two points."""
    left, right = gap[..., :-1], gap[..., 1:]
    total = np.abs(left) + np.abs(right)
    crossing = (left**2 + right**2) / (2 * np.where(total > 0, total, 1.0))
    area = np.where(left * right < 0, crossing, total / 2)
    return np.asarray((area * np.diff(at)).sum(-1))


def _central(drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if np.isnan(drawn).all():
        nothing = np.full(drawn.shape[1:], np.nan)
        return nothing, nothing
    low, high = np.nanpercentile(drawn, [2.5, 97.5], axis=0)
    return np.asarray(low), np.asarray(high)


def faithfulness(
    model: HookedModel,
    task: AnyTask,
    ranking: Ranking,
    baseline: str | Baseline = "paired",
    *,
    sites: str | Sequence[SiteName] = "heads",
    sizes: Sequence[int] | None = None,
    n_random: int = 20,
    metric: str | Callable[..., Tensor] | None = None,
    split: str = "dev",
    n: int | None = 512,
    seed: int = 0,
    batch_size: int = BATCH,
    progress: bool = True,
) -> Faithfulness:
    """Faithfulness and completeness curves of a ranking of sites, or of nested sets.

    Args:
        ranking: the sites, the most important first; or nested sets of them, small ones first
            (measured at their sizes, at 0 and at all); or scores, whose ranking is measured on
            the examples it was not chosen on (scores of the same task, n and seed).
        baseline: what stands in a closed site's place.
        sites: the candidates, which are closed but for the first k; a ranking must name them all.
            Other sites stay open. Scores bring their own.
        sizes: numbers of sites to measure at; None: every number for up to 24 candidates, else
            MIB's shares of them. 0 and all are always among them.
        n_random: random rankings of the candidates, for the null; 0 for none.
        metric, split, n, seed, batch_size, progress: as in ``ablate``.

    Raises:
        InputError: a ranking that is not one of the candidates, sets that are not nested, sizes
            outside 0 .. n; a behaviour that closing every candidate leaves as it is.
    """
    if isinstance(ranking, Scores):
        sites = list(ranking.sites)
    meter = meter_for(
        model, task, sites, baseline, metric=metric, n=n, split=split, seed=seed,
        batch_size=batch_size, show="faithfulness" if progress else None,
    )
    if isinstance(ranking, Scores):
        if ranking.effects.shape[1] != len(meter.behaviour):
            raise InputError(
                f"the scores are of {ranking.effects.shape[1]} examples, the task has "
                f"{len(meter.behaviour)}; give the same task, n and seed"
            )
        fitted, meter = meter.passes, meter.on(ranking.report)
        meter.passes += fitted
    order, cuts = ordered(ranking, meter.sites)
    at = _sizes(sizes if cuts is None else cuts, len(order))
    rng = np.random.default_rng([seed, 13])
    orders = [[order[i] for i in rng.permutation(len(order))] for _ in range(n_random)]
    inner = [k for k in at if 0 < k < len(order)]
    measured = meter.closing([
        (), order, *(order[k:] for k in inner), *(order[:k] for k in inner),
        *(drawn[k:] for drawn in orders for k in inner),
    ])
    full, closed, middle = measured[0], measured[1], measured[2:]
    _check_range(full, closed, meter.behaviour.name)
    without, null = middle[len(inner) :][: len(inner)], middle[2 * len(inner) :].mean(1)
    ends = np.full((n_random, 1), closed.mean()), np.full((n_random, 1), full.mean())
    return Faithfulness(
        order=tuple(map(str, order)), sizes=np.array(at),
        alone=np.stack([closed, *middle[: len(inner)], full]),
        without=np.stack([full, *without, closed]),
        null=np.concatenate([ends[0], null.reshape(n_random, len(inner)), ends[1]], axis=1),
        metric=meter.behaviour.metric_name, baseline=meter.baseline.kind, forwards=meter.passes,
        settings={"task": meter.behaviour.name, "n": len(meter.behaviour), "seed": seed},
    )


def _sizes(sizes: Sequence[int] | None, n: int) -> list[int]:
    if sizes is None:
        sizes = range(n + 1) if n <= EVERY_SIZE_UP_TO else [ceil(share * n) for share in SHARES]
    if outside := [k for k in sizes if not 0 <= k <= n]:
        raise InputError(f"size {outside[0]} is not possible with {n} sites; give 0 to {n}")
    return sorted({0, *sizes, n})


ROUNDING = 1e-6
"""Relative difference below which float32 passes of different make count as equal."""


def _check_range(full: np.ndarray, closed: np.ndarray, name: str) -> None:
    scale = max(np.abs(full).mean(), np.abs(closed).mean())
    if abs(full.mean() - closed.mean()) <= ROUNDING * scale:
        raise InputError(
            f"{name}: the metric is {full.mean():.4g} with every candidate open and closed, so "
            "nothing can be normalised; take another baseline, metric or sites"
        )

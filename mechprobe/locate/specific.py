"""Sites that one behaviour needs more than another: what a model needs to generalise only.

The score is ours: the drop of a generalisation behaviour when a site is closed, less the drop of
the in-distribution behaviour. A site that everything needs scores about 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Float

from mechprobe.errors import InputError
from mechprobe.gates.baselines import Baseline
from mechprobe.locate.ablate import ablate
from mechprobe.locate.measure import BATCH
from mechprobe.locate.scores import Scores
from mechprobe.models.edits import HookedModel
from mechprobe.sites import Site, SiteName
from mechprobe.stats import empirical_p, holm, permutation_p
from mechprobe.stats.concentration import gini, gini_null, sites_with_share
from mechprobe.stats.intervals import Interval
from mechprobe.tasks.batches import Batch
from mechprobe.tasks.behaviour import Behaviour


@dataclass(frozen=True, eq=False)
class SpecificScores:
    """Drops of two behaviours when each site is closed, and their difference.

    Attributes:
        wanted: drops of the behaviour asked about (generalisation).
        other: drops of the one it is compared with (in distribution).

    Raises:
        InputError: scores of different sites.
    """

    wanted: Scores
    other: Scores

    def __post_init__(self) -> None:
        if self.wanted.sites != self.other.sites:
            raise InputError("the two scores are of different sites; score the same ones")

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of what was scored."""
        return self.wanted.sites

    @cached_property
    def estimate(self) -> Float[np.ndarray, " site"]:
        """Drop of the wanted behaviour less that of the other, on held-out examples."""
        return self.wanted.estimate - self.other.estimate

    @cached_property
    def ranking(self) -> list[str]:
        """Sites from the highest score on the selection examples to the lowest."""
        chosen = [s.effects[:, s.select].mean(1) for s in (self.wanted, self.other)]
        return [self.sites[i] for i in np.argsort(chosen[1] - chosen[0], kind="stable")]

    def table(self, seed: int = 0, n: int = 2_000) -> pd.DataFrame:
        """One row a site, in the order of ``ranking``.

        Columns: site, drop, drop_other, score (held-out means), low, high (95 % bootstrap interval
        over examples of both), p (two-sided permutation test that the two drops have one
        distribution), p_corrected (Holm over sites).
        """
        held = [s.effects[:, s.report] for s in (self.wanted, self.other)]
        ends = [_difference(a, b, seed, n) for a, b in zip(*held, strict=True)]
        p = np.array([
            permutation_p(a, b, seed=seed, tail="two-sided") for a, b in zip(*held, strict=True)
        ])
        table = pd.DataFrame({
            "site": self.sites, "drop": self.wanted.estimate, "drop_other": self.other.estimate,
            "score": self.estimate, "low": [e.low for e in ends], "high": [e.high for e in ends],
            "p": p, "p_corrected": holm(p),
        })
        return table.set_index("site").loc[self.ranking].reset_index()

    def concentration(self, seed: int = 0, n: int = 1_000) -> dict[str, float]:
        """How few sites hold the score.

        Returns:
            sites; half (the fewest with half of the positive mass); gini; null (its mean where
            sites are exchangeable within every example) and p (share of such draws at least as
            high).
        """
        held = [s.effects[:, s.report] for s in (self.wanted, self.other)]
        drawn = gini_null(held[0], held[1], n, seed)
        drawn = drawn[np.isfinite(drawn)]
        found = gini(self.estimate)
        known = bool(np.isfinite(found) and len(drawn))
        return {
            "sites": float(len(self.sites)), "half": float(sites_with_share(self.estimate)),
            "gini": found, "null": float(drawn.mean()) if known else float("nan"),
            "p": empirical_p(found, drawn) if known else float("nan"),
        }

    def layers(self) -> pd.DataFrame:
        """Where the score lies: one row a stack and layer.

        Columns: stack, layer, score (sum over its heads), positive (sum of positive ones), centre
        (of the stack: mean layer weighted by positive scores, from 0 for the first to 1 for the
        last; NaN without any).
        """
        places = [(Site.parse(s).stack, Site.parse(s).layer) for s in self.sites]
        last = max(1, *(layer for _, layer in places))
        rows = []
        for place in dict.fromkeys(places):
            mine = self.estimate[[p == place for p in places]]
            rows.append({
                "stack": place[0], "layer": place[1], "score": float(mine.sum()),
                "positive": float(np.clip(mine, 0, None).sum()),
            })
        for row in rows:
            stack = [other for other in rows if other["stack"] == row["stack"]]
            mass = sum(other["positive"] for other in stack)
            moment = sum(other["positive"] * other["layer"] / last for other in stack)
            row["centre"] = moment / mass if mass > 0 else float("nan")
        return pd.DataFrame(rows)


def ablate_specific(
    model: HookedModel,
    wanted: Behaviour,
    other: Behaviour,
    sites: str | Sequence[SiteName] = "heads",
    baseline: str | Baseline = "mean",
    *,
    n: int | None = 512,
    seed: int = 0,
    reference: Sequence[Batch] | Behaviour | None = None,
    batch_size: int = BATCH,
    progress: bool = True,
) -> SpecificScores:
    """Close each site and see what ``wanted`` loses that ``other`` does not.

    Args:
        wanted, other: behaviours with the same metric, such as exact match in generalisation and in
            distribution.
        reference: what a mean is taken over; None: each behaviour's own examples.
        sites, baseline, n, seed, batch_size, progress: as in ``ablate``.

    Raises:
        InputError: behaviours with different metrics; as ``ablate``.
    """
    if wanted.metric_name != other.metric_name:
        raise InputError(
            f"{wanted.name} has metric {wanted.metric_name}, {other.name} {other.metric_name}; "
            "give both the same"
        )
    first, second = (
        ablate(
            model, behaviour, sites, baseline, n=n, seed=seed, reference=reference,
            batch_size=batch_size, progress=progress,
        )
        for behaviour in (wanted, other)
    )
    return SpecificScores(first, second)


def _difference(a: np.ndarray, b: np.ndarray, seed: int, n: int) -> Interval:
    """Mean of a less mean of b, both resampled."""
    rng = np.random.default_rng(seed)
    means = [x[rng.integers(len(x), size=(n, len(x)))].mean(1) for x in (a, b)]
    low, high = np.percentile(means[0] - means[1], [2.5, 97.5])
    return Interval(float(a.mean() - b.mean()), float(low), float(high), len(a) + len(b))

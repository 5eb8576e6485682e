"""When the core appears: subnetworks and effective sizes over the training trajectory."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import hypergeom

from mechprobe.locate.subnetworks import SubnetworkSet
from mechprobe.sites import Site

TOLERANCE = 0.03  # accuracy that a subnetwork may lose and still count as large enough
_ROUNDING = 1e-9


@dataclass(frozen=True)
class PointScores:
    """Accuracies at one training step: the full model's, and each subnetwork's."""

    step: int
    sparsity: np.ndarray
    in_domain: np.ndarray
    out_of_domain: np.ndarray
    full_in_domain: float
    full_out_of_domain: float


def effective_size(sparsity: np.ndarray, accuracy: np.ndarray, full: float) -> float:
    """Share of sites needed to keep accuracy within 3 points of the full model.

    One minus the largest sparsity whose mean accuracy is at least ``full - 0.03``; 1.0 when no
    sparsity reaches that (Bhaskar et al. 2024, section 6). The grid of sparsities searched bounds
    its resolution.
    """
    enough = full - TOLERANCE - _ROUNDING
    kept = [s for s in np.unique(sparsity) if accuracy[sparsity == s].mean() >= enough]
    return 1.0 - float(max(kept, default=0.0))


def emergence_table(points: Sequence[PointScores]) -> pd.DataFrame:
    """One row a training step, in and out of domain: accuracies and effective sizes.

    ``full_*`` is the full model's accuracy, the other the mean over the sparsities searched at
    every step, each counted once however many subnetworks it has, so that steps compare; a step's
    own sparsities where no sparsity is common to all.
    """
    common = set.intersection(*(set(point.sparsity.tolist()) for point in points))
    return pd.DataFrame([
        {
            "step": point.step,
            "full_in_domain": point.full_in_domain,
            "full_out_of_domain": point.full_out_of_domain,
            "in_domain": mean_over(common, point.sparsity, point.in_domain),
            "out_of_domain": mean_over(common, point.sparsity, point.out_of_domain),
            "size_in_domain": effective_size(
                point.sparsity, point.in_domain, point.full_in_domain
            ),
            "size_out_of_domain": effective_size(
                point.sparsity, point.out_of_domain, point.full_out_of_domain
            ),
        }
        for point in points
    ])


def mean_over(wanted: Collection[float], sparsity: np.ndarray, accuracy: np.ndarray) -> float:
    """Mean over the wanted sparsities (none: all there are) of the mean accuracy at each."""
    at_each = [accuracy[sparsity == s].mean() for s in wanted or np.unique(sparsity)]
    return float(np.mean(at_each))


def first_kept(
    sets: Sequence[tuple[int, SubnetworkSet]], heads: Sequence[Site], core: Sequence[Site]
) -> pd.DataFrame:
    """First training step at which each head is kept in at least half of that step's masks."""
    rows = []
    for site in heads:
        step = next(
            (at for at, found in sets if found.frequency()[found[0].sites.index(site)] >= 0.5),
            None,
        )
        rows.append({"head": str(site), "in_core": site in set(core), "first_step": step})
    return pd.DataFrame(rows)


def core_overlap(
    sets: Sequence[tuple[int, SubnetworkSet]], heads: Sequence[Site], core: Sequence[Site]
) -> pd.DataFrame:
    """How much of the final core each earlier subnetwork keeps, against random heads.

    One row a subnetwork: core heads kept, expected for a random set of as many heads, the
    upper-tail hypergeometric p, and p_smallest, that of a subnetwork that keeps all it could.
    """
    rows = []
    for step, found in sets:
        for member in found:
            kept = set(member.heads)
            hits, n, m = len(kept & set(core)), len(heads), len(kept)
            rows.append({
                "step": step, "seed": member.seed, "sparsity": member.sparsity_target,
                "heads_kept": m, "core_kept": hits, "core_size": len(core),
                "expected": len(core) * m / n,
                "p": float(hypergeom.sf(hits - 1, n, len(core), m)),
                "p_smallest": float(hypergeom.sf(min(m, len(core)) - 1, n, len(core), m)),
            })
    return pd.DataFrame(rows)

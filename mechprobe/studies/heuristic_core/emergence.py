"""When the core appears: subnetworks and effective sizes over the training trajectory."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import hypergeom

from mechprobe.locate.subnetworks import SubnetworkSet
from mechprobe.sites import Site
from mechprobe.stats import central, resampled_scores

TOLERANCE = 0.03  # accuracy that a subnetwork may lose and still count as large enough
_ROUNDING = 1e-9
OVERLAP = (
    "step", "seed", "sparsity", "heads_kept", "core_kept", "core_size", "expected", "p",
    "p_smallest",
)
"""Columns of ``core_overlap``."""


@dataclass(frozen=True)
class Outcomes:
    """Which examples were right: each subnetwork [k, example], and the full model [example].

    ``strata`` names the sub-case of each example; None where there are none.
    """

    subnetworks: np.ndarray
    full: np.ndarray
    strata: np.ndarray | None = None


@dataclass(frozen=True)
class Point:
    """One training step: the target sparsity of each subnetwork [k], and what was right."""

    step: int
    sparsity: np.ndarray
    in_domain: Outcomes
    out_of_domain: Outcomes


def effective_size(sparsity: np.ndarray, accuracy: np.ndarray, full: float) -> float:
    """Share of sites needed to keep accuracy within 3 points of the full model.

    One minus the largest sparsity whose mean accuracy is at least ``full - 0.03``; 1.0 when no
    sparsity reaches that (Bhaskar et al. 2024, section 6). The grid of sparsities searched bounds
    its resolution.
    """
    enough = full - TOLERANCE - _ROUNDING
    kept = [s for s in np.unique(sparsity) if accuracy[sparsity == s].mean() >= enough]
    return 1.0 - float(max(kept, default=0.0))


def size_draws(
    sparsity: np.ndarray, outcomes: Outcomes, *, seed: int, n: int
) -> tuple[float, np.ndarray]:
    """The effective size and its bootstrap draws [n] over examples (subnetworks held fixed)."""
    found, mean_of = np.unique(sparsity, return_inverse=True)
    right = np.stack([outcomes.subnetworks[mean_of == i].mean(0) for i in range(len(found))])
    rows = np.concatenate([right, outcomes.full[None]])
    here = scores(rows, outcomes.strata)
    drawn = resampled_scores(rows, outcomes.strata, seed=seed, n=n)
    sizes = np.array([effective_size(found, draw[:-1], float(draw[-1])) for draw in drawn])
    return effective_size(found, here[:-1], float(here[-1])), sizes


def scores(rows: np.ndarray, strata: np.ndarray | None) -> np.ndarray:
    """Accuracy of each row: the mean over strata of the mean over their examples."""
    if strata is None:
        return rows.mean(1)
    return np.mean([rows[:, strata == name].mean(1) for name in np.unique(strata)], axis=0)


def emergence_table(points: Sequence[Point], *, seed: int = 0, n: int = 1_000) -> pd.DataFrame:
    """One row a training step, in and out of domain: accuracies and effective sizes.

    ``full_*`` is the full model's accuracy, the other the mean over the sparsities searched at
    every step, each counted once however many subnetworks it has; effective sizes (``size_*``,
    with 95 % bootstrap intervals over examples) use the same sparsities, so that steps compare. A
    step's own sparsities stand in where no sparsity is common to all.
    """
    common = set.intersection(*(set(point.sparsity.tolist()) for point in points))
    rows = []
    for point in points:
        row: dict[str, float] = {"step": point.step}
        used = np.isin(point.sparsity, list(common)) if common else point.sparsity >= 0
        for name in ("in_domain", "out_of_domain"):
            all_of_it: Outcomes = getattr(point, name)
            mine = replace(all_of_it, subnetworks=all_of_it.subnetworks[used])
            accuracy = scores(mine.subnetworks, mine.strata)
            size, drawn = size_draws(point.sparsity[used], mine, seed=seed, n=n)
            low, high = central(drawn)
            row |= {
                f"full_{name}": float(scores(mine.full[None], mine.strata)[0]),
                name: mean_over(point.sparsity[used], accuracy),
                f"size_{name}": size, f"size_{name}_low": float(low),
                f"size_{name}_high": float(high),
            }
        rows.append(row)
    return pd.DataFrame(rows)


def mean_over(sparsity: np.ndarray, accuracy: np.ndarray) -> float:
    """Mean over sparsities of the mean accuracy at each."""
    return float(np.mean([accuracy[sparsity == s].mean() for s in np.unique(sparsity)]))


def size_difference(point: Point, *, seed: int = 0, n: int = 2_000) -> dict[str, float]:
    """Effective sizes of one step over all its sparsities, and out of domain minus in domain.

    Intervals are 95 % bootstraps over the examples of both domains.
    """
    inside, drawn_in = size_draws(point.sparsity, point.in_domain, seed=seed, n=n)
    outside, drawn_out = size_draws(point.sparsity, point.out_of_domain, seed=seed + 1, n=n)
    ends = [central(d) for d in (drawn_in, drawn_out, drawn_out - drawn_in)]
    (in_low, in_high), (out_low, out_high), (low, high) = (map(float, pair) for pair in ends)
    return {
        "in_domain": inside, "in_domain_low": in_low, "in_domain_high": in_high,
        "out_of_domain": outside, "out_of_domain_low": out_low, "out_of_domain_high": out_high,
        "difference": outside - inside, "low": low, "high": high,
    }


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
    sets: Sequence[tuple[int, SubnetworkSet]], heads: Sequence[Site], final: SubnetworkSet
) -> pd.DataFrame:
    """How much of the final core each earlier subnetwork keeps, against random heads.

    Masks of one seed share their noise at every step and sparsity, so that the core a subnetwork
    is held against is that of the final subnetworks of *other* seeds. The null keeps as many random
    heads in each layer: the hits of a layer are hypergeometric, and layers add up.

    One row a subnetwork: core heads kept, expected, upper-tail p, and p_smallest, that of a
    subnetwork that keeps all it could. A subnetwork without such a core has no row.
    """
    rows = []
    for step, found in sets:
        for member in found:
            others = [set(other.heads) for other in final if other.seed != member.seed]
            core = set.intersection(*others) if others else set()
            if not core:
                continue
            kept = set(member.heads)
            hits, chances = len(kept & core), hits_by_layer(heads, core, kept)
            possible = int(np.flatnonzero(chances)[-1])
            rows.append({
                "step": step, "seed": member.seed, "sparsity": member.sparsity_target,
                "heads_kept": len(kept), "core_kept": hits, "core_size": len(core),
                "expected": float(chances @ np.arange(len(chances))),
                "p": float(chances[hits:].sum()), "p_smallest": float(chances[possible:].sum()),
            })
    return pd.DataFrame(rows, columns=list(OVERLAP))


def hits_by_layer(
    heads: Sequence[Site], core: Collection[Site], kept: Collection[Site]
) -> Float[np.ndarray, " hits"]:
    """Chance of 0, 1, ... core heads among random heads, as many in each layer as are kept."""
    chances = np.ones(1)
    for layer in sorted({site.layer for site in heads}):
        n, c, m = (
            sum(site.layer == layer for site in group) for group in (heads, core, kept)
        )
        chances = np.convolve(chances, hypergeom.pmf(np.arange(min(c, m) + 1), n, c, m))
    return chances

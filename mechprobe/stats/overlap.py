"""Do several sets share more than random sets of the same sizes would?

A set is a row of a boolean array [k, site]; a core is what at least a given share of the k sets
keeps. Sets may be drawn within strata (the heads of one layer, say), so that a core that only says
"every set keeps the first layer" is not mistaken for shared heads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.stats import hypergeom

from mechprobe.errors import InputError
from mechprobe.stats.permutation import empirical_p

_CELLS = 4_000_000


@dataclass(frozen=True, eq=False)
class OverlapTest:
    """An overlap of k sets against random sets of the same sizes.

    ``expected`` and, for a core shared by all sets, ``p`` are exact; otherwise p counts the
    draws in ``null`` [draw]. p is one-sided: overlap at least as large as observed.
    """

    statistic: str
    observed: float
    expected: float
    p: float
    null: Float[np.ndarray, "draw"]

    def null_range(self, level: float = 0.95) -> tuple[float, float]:
        """The central ``level`` of the null's draws."""
        tail = 50 * (1 - level)
        low, high = np.percentile(self.null, [tail, 100 - tail])
        return float(low), float(high)


def overlap_test(
    members: Bool[np.ndarray, "k site"],
    statistic: str = "core",
    *,
    strata: Shaped[np.ndarray, "site"] | None = None,
    share: float = 1.0,
    seed: int = 0,
    n: int = 2_000,
) -> OverlapTest:
    """Compare the overlap of sets with that of random sets that keep as many sites (per stratum).

    Args:
        members: which sites each set keeps.
        statistic: "core" (size) or "jaccard" (mean over pairs).
        strata: label of each site; None: sets are random over all sites.
        share: a site is core when at least this share of the sets keeps it.

    Raises:
        InputError: an unknown statistic, or fewer than two sets.
    """
    if statistic not in ("core", "jaccard"):
        raise InputError(f"unknown overlap statistic {statistic!r}; expected 'core' or 'jaccard'")
    k, n_sites = members.shape
    if k < 2:
        raise InputError(f"overlap compares at least two sets; got {k}")
    labels = np.zeros(n_sites, dtype=int) if strata is None else _numbered(strata)
    counts = np.bincount(labels)
    sizes = np.stack([np.bincount(labels, row, len(counts)) for row in members]).astype(int)
    observed = float(
        core_size(members, share) if statistic == "core" else mean_jaccard(members)
    )
    null = overlap_null(sizes, counts, statistic, share=share, seed=seed, n=n)
    if statistic == "jaccard":
        expected = _expected_jaccard(sizes, counts)
        return OverlapTest(statistic, observed, expected, empirical_p(observed, null), null)
    expected = expected_core(sizes, counts, share)
    if share == 1:
        p = float(core_distribution(sizes, counts)[round(observed) :].sum())
    else:
        p = empirical_p(observed, null)
    return OverlapTest(statistic, observed, expected, min(1.0, p), null)


def overlap_null(
    sizes: Int[np.ndarray, "k stratum"] | Int[np.ndarray, "k"],
    n_sites: int | Int[np.ndarray, "stratum"],
    statistic: str = "core",
    *,
    share: float = 1.0,
    seed: int = 0,
    n: int = 2_000,
) -> Float[np.ndarray, "draw"]:
    """Overlap of k random sets of given sizes (sites per stratum), n times.

    Raises:
        InputError: a set larger than its stratum.
    """
    sizes, counts = _checked(sizes, n_sites)
    draws = random_sets(sizes, counts, seed=seed, n=n)
    return np.concatenate([
        np.asarray(core_size(sets, share) if statistic == "core" else mean_jaccard(sets))
        for sets in draws
    ]).astype(float)


def random_sets(
    sizes: Int[np.ndarray, "k stratum"], n_sites: Int[np.ndarray, "stratum"], *, seed: int, n: int
) -> Iterator[Bool[np.ndarray, "draw k site"]]:
    """Draw n times k sets with exact sizes per stratum, in chunks; sites are sorted by stratum."""
    rng = np.random.default_rng(seed)
    k, total = len(sizes), int(n_sites.sum())
    for start in range(0, n, chunk := max(1, _CELLS // max(1, k * total))):
        size = min(chunk, n - start)
        parts = []
        for column, count in zip(sizes.T, n_sites, strict=True):
            rank = rng.random((size, k, int(count))).argsort(-1).argsort(-1)
            parts.append(rank < column[:, None])
        yield np.concatenate(parts, axis=-1)


def core_size(sets: Bool[np.ndarray, "*draw k site"], share: float = 1.0
              ) -> Int[np.ndarray, "*draw"] | np.integer:
    """How many sites at least ``share`` of the k sets keep."""
    return (sets.sum(-2) >= members_needed(share, sets.shape[-2])).sum(-1)


def members_needed(share: float, k: int) -> int:
    """The least number of k members that is at least a share; raises InputError outside (0, 1]."""
    if not 0 < share <= 1:
        raise InputError(f"a core needs a share of the members in (0, 1]; got {share}")
    return max(1, math.ceil(share * k - 1e-9))


def jaccard_matrix(sets: Bool[np.ndarray, "*draw k site"]) -> Float[np.ndarray, "*draw k k"]:
    """Intersection over union of every pair of sets; two empty sets count as equal (1)."""
    rows = sets.astype(np.float64)
    shared = rows @ np.swapaxes(rows, -1, -2)
    size = rows.sum(-1)
    union = size[..., :, None] + size[..., None, :] - shared
    return np.where(union > 0, shared / np.maximum(union, 1), 1.0)


def mean_jaccard(sets: Bool[np.ndarray, "*draw k site"]
                 ) -> Float[np.ndarray, "*draw"] | np.floating:
    """Mean Jaccard similarity over the pairs of k sets."""
    upper = np.triu_indices(sets.shape[-2], 1)
    return jaccard_matrix(sets)[..., upper[0], upper[1]].mean(-1)


def expected_core(
    sizes: Int[np.ndarray, "k stratum"] | Int[np.ndarray, "k"],
    n_sites: int | Int[np.ndarray, "stratum"],
    share: float = 1.0,
) -> float:
    """Expected core size of random sets; n * prod(size / n) a stratum when all must keep a site.

    For a smaller share the chance that enough of k independent sets keep one site is the upper
    tail of a Poisson-binomial distribution.
    """
    sizes, counts = _checked(sizes, n_sites)
    total = 0.0
    for column, count in zip(sizes.T, counts, strict=True):
        if count == 0:
            continue
        keep = np.ones(1)
        for chance in column / count:
            keep = np.convolve(keep, [1 - chance, chance])
        total += count * keep[members_needed(share, len(column)) :].sum()
    return float(total)


def core_distribution(
    sizes: Int[np.ndarray, "k stratum"] | Int[np.ndarray, "k"],
    n_sites: int | Int[np.ndarray, "stratum"],
) -> Float[np.ndarray, "size"]:
    """Exact chance of each size 0..n of the intersection of k random sets of given sizes.

    Meeting an intersection of m sites with a further random set leaves a hypergeometric number of
    them; strata add up.
    """
    sizes, counts = _checked(sizes, n_sites)
    chances = np.ones(1)
    for column, count in zip(sizes.T, counts, strict=True):
        chances = np.convolve(chances, _intersection(column, int(count)))
    return chances


def _intersection(sizes: np.ndarray, n: int) -> np.ndarray:
    size = np.arange(n + 1)
    chances = (size == sizes[0]).astype(float)
    for kept in sizes[1:]:
        step = hypergeom.pmf(size[None, :], n, size[:, None], kept)
        chances = chances @ np.nan_to_num(step)
    return chances


def _expected_jaccard(sizes: np.ndarray, counts: np.ndarray) -> float:
    values = []
    for i in range(len(sizes)):
        for j in range(i):
            shared = core_distribution(sizes[[i, j]], counts)
            common = np.arange(len(shared))
            union = sizes[i].sum() + sizes[j].sum() - common
            ratio = np.where(union > 0, common / np.maximum(union, 1), 1.0)
            values.append(float(shared @ ratio))
    return float(np.mean(values))


def _numbered(strata: np.ndarray) -> np.ndarray:
    return np.unique(strata, return_inverse=True)[1].ravel()


def _checked(sizes: np.ndarray, n_sites: int | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    counts = np.atleast_1d(np.asarray(n_sites))
    sizes = np.asarray(sizes)
    sizes = sizes[:, None] if sizes.ndim == 1 else sizes
    if sizes.shape[1] != len(counts) or (sizes < 0).any() or (sizes > counts).any():
        raise InputError(
            f"set sizes {sizes.tolist()} do not fit strata of {counts.tolist()} sites; give one "
            "size per set and stratum, each between 0 and the stratum's size"
        )
    return sizes, counts

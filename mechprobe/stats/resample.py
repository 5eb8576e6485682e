"""Bootstrap of many paired means at once: every row sees the same resamples of the examples."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, Shaped

from mechprobe.errors import InputError


def resample_counts(
    strata: Shaped[np.ndarray, "example"], n: int, seed: int = 0
) -> Int[np.ndarray, "draw example"]:
    """How often each example is drawn in n resamples, each stratum keeping its size."""
    labels = np.unique(strata, return_inverse=True)[1]
    rng = np.random.default_rng(seed)
    counts = np.empty((n, len(labels)), dtype=np.int64)
    for label in range(labels.max() + 1):
        rows = np.flatnonzero(labels == label)
        counts[:, rows] = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=n)
    return counts


def resampled_scores(
    values: Shaped[np.ndarray, "row example"],
    strata: Shaped[np.ndarray, "example"] | None = None,
    *,
    seed: int = 0,
    n: int = 2_000,
) -> Float[np.ndarray, "draw row"]:
    """Scores of n resamples: the mean over strata of the mean over a stratum's examples.

    Without strata the mean over examples. Rows (models, say) share the resamples, so that
    differences and maxima over rows are taken draw by draw.

    Raises:
        InputError: no examples.
    """
    size = values.shape[1]
    if size == 0:
        raise InputError("a bootstrap needs at least one example; got none")
    labels = np.zeros(size, int) if strata is None else np.asarray(strata)
    _, inverse, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    weights = 1 / (len(sizes) * sizes[inverse])
    return resample_counts(labels, n, seed) @ (values * weights).T


def central(
    drawn: Float[np.ndarray, "draw *rest"], level: float = 0.95
) -> tuple[Float[np.ndarray, "*rest"], Float[np.ndarray, "*rest"]]:
    """The ends of the central share of the draws, along the first axis."""
    low, high = np.percentile(drawn, [50 * (1 - level), 50 * (1 + level)], axis=0)
    return np.asarray(low), np.asarray(high)

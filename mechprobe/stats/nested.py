"""Intervals where examples stand inside replicates: sets, seeds, models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mechprobe.errors import InputError
from mechprobe.stats.intervals import Interval


def nested_bootstrap(
    values: Sequence[np.ndarray], seed: int = 0, n: int = 2_000, level: float = 0.95
) -> Interval:
    """Mean over replicates of their means over examples, with a percentile bootstrap interval.

    Replicates are drawn again, and inside each drawn one its examples (Davison and Hinkley 1997,
    section 3.8). With one replicate it is the plain bootstrap over examples. With few replicates
    the interval is too narrow by about sqrt((k - 1) / k); it is not widened here.

    Args:
        values: for each replicate one number an example [example]; sizes may differ.

    Raises:
        InputError: no replicate, or one without examples.
    """
    rows = [np.asarray(part, dtype=np.float64) for part in values]
    if not rows or any(part.ndim != 1 or not len(part) for part in rows):
        raise InputError(
            f"a nested bootstrap needs one or more replicates with examples; got sizes "
            f"{[part.shape for part in rows]}"
        )
    rng = np.random.default_rng(seed)
    k = len(rows)
    means = np.zeros((n, k))
    for j in range(k):  # j-th place of each resample: a replicate, and its examples drawn again
        chosen = rng.integers(k, size=n)
        for i, part in enumerate(rows):
            at = np.flatnonzero(chosen == i)
            means[at, j] = _resampled_means(part, len(at), rng)
    tail = 50 * (1 - level)
    low, high = np.percentile(means.mean(1), [tail, 100 - tail])
    estimate = float(np.mean([part.mean() for part in rows]))
    return Interval(estimate, float(low), float(high), sum(map(len, rows)))


def nested_ratio(
    first: Sequence[np.ndarray], second: Sequence[np.ndarray], seed: int = 0, n: int = 2_000,
    level: float = 0.95,
) -> Interval:
    """Mean of ``first`` over that of ``second``, both as in ``nested_bootstrap``, resampled as one.

    Args:
        first, second: for each replicate one number an example [example], the same examples.

    Returns:
        The ratio; NaN where the second mean is not above 0, with NaN ends where it is not so in
        every resample.

    Raises:
        InputError: no replicate, one without examples, or replicates of two sizes.
    """
    if list(map(len, first)) != list(map(len, second)) or not first or not all(map(len, first)):
        raise InputError(
            f"a ratio needs the same examples above and below, and at least one; got sizes "
            f"{list(map(len, first))} and {list(map(len, second))}"
        )
    pairs = [np.array(both, dtype=np.float64) for both in zip(first, second, strict=True)]
    rng = np.random.default_rng(seed)
    means = np.empty((n, len(pairs), 2))
    for draw in means:
        for j, i in enumerate(rng.integers(len(pairs), size=len(pairs))):
            size = pairs[i].shape[1]
            draw[j] = pairs[i][:, rng.integers(size, size=size)].mean(1)
    above, below = means.mean(1).T
    low = high = estimate = float("nan")
    known = np.mean([pair.mean(1) for pair in pairs], axis=0)
    if known[1] > 0:
        estimate = float(known[0] / known[1])
        if (below > 0).all():
            tail = 50 * (1 - level)
            low, high = map(float, np.percentile(above / below, [tail, 100 - tail]))
    return Interval(estimate, low, high, sum(map(len, first)))


def _resampled_means(part: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    kinds, counts = np.unique(part, return_counts=True)
    if len(kinds) <= 16:
        return rng.multinomial(len(part), counts / len(part), size=draws) @ kinds / len(part)
    return np.array([part[rng.integers(len(part), size=len(part))].mean() for _ in range(draws)])

"""Estimates with an interval: of means and proportions over examples, of means over seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped
from scipy.stats import norm, t

from mechprobe.errors import InputError

_CELLS = 8_000_000


@dataclass(frozen=True)
class Interval:
    """An estimate from n values with the ends of its interval; NaN ends: nothing to infer from.

    >>> f"{Interval(0.8126, 0.79, 0.83, 1000):.1%}"
    '81.3% [79.0%, 83.0%]'
    """

    estimate: float
    low: float
    high: float
    n: int

    def __format__(self, spec: str) -> str:
        middle = format(self.estimate, spec)
        if np.isnan(self.low) or np.isnan(self.high):
            return middle
        return f"{middle} [{format(self.low, spec)}, {format(self.high, spec)}]"

    def __str__(self) -> str:
        return format(self, ".3g")


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Proportion of n examples with Wilson's score interval, also sound at 0 and at n.

    Source: Wilson 1927, J. Am. Stat. Assoc. 22.

    Raises:
        InputError: n below 1, or successes outside 0..n.
    """
    if n < 1 or not 0 <= successes <= n:
        raise InputError(f"{successes} successes of {n}: expected 0 <= successes <= n and n >= 1")
    z = float(norm.ppf(0.5 + _level(level) / 2))
    p = successes / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)))
    return Interval(p, min(p, middle - half), max(p, middle + half), n)


def t_interval(values: Float[np.ndarray, "seed"], level: float = 0.95) -> Interval:
    """Mean over independent seeds with Student's interval; a single seed has NaN ends.

    Raises:
        InputError: no values, or NaN among them.
    """
    values = _numbers(values)
    n, mean = len(values), float(np.mean(values))
    if n == 1:
        return Interval(mean, float("nan"), float("nan"), 1)
    half = float(t.ppf(0.5 + _level(level) / 2, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)


def bootstrap_mean(
    values: Shaped[np.ndarray, "example"], seed: int = 0, n: int = 2_000, level: float = 0.95
) -> Interval:
    """Mean over examples with a percentile bootstrap interval from n resamples.

    Values that are few and discrete (right or wrong) are resampled by their counts, which is the
    same distribution. For a proportion near 0 or 1 ``wilson`` is sounder: a bootstrap of equal
    values has width 0.

    Raises:
        InputError: no values, or NaN among them.
    """
    values = _numbers(values)
    size = len(values)
    rng = np.random.default_rng(seed)
    kinds, counts = np.unique(values, return_counts=True)
    if len(kinds) <= 16:
        means = rng.multinomial(size, counts / size, size=n) @ kinds / size
    else:
        chunk = max(1, _CELLS // size)
        means = np.concatenate([
            values[rng.integers(size, size=(min(chunk, n - start), size))].mean(1)
            for start in range(0, n, chunk)
        ])
    return _percentiles(float(values.mean()), means, size, level)


def bootstrap_statistic(
    values: Shaped[np.ndarray, "example *rest"],
    statistic: Callable[[np.ndarray], float],
    seed: int = 0,
    n: int = 2_000,
    level: float = 0.95,
    *,
    strata: Shaped[np.ndarray, "example"] | None = None,
) -> Interval:
    """Any statistic of examples (rows) with a percentile bootstrap interval from n resamples.

    With ``strata`` (a sub-case per row) rows are resampled within their stratum; rows keep their
    places, so that row i of a resample is of the stratum of row i.

    Raises:
        InputError: no rows.
    """
    size = len(values)
    if size == 0:
        raise InputError("a bootstrap needs at least one example; got none")
    labels = np.zeros(size, int) if strata is None else np.unique(strata, return_inverse=True)[1]
    groups = [np.flatnonzero(labels == label) for label in range(labels.max() + 1)]
    rng = np.random.default_rng(seed)
    drawn = np.empty(n)
    rows = np.empty(size, int)
    for i in range(n):
        for group in groups:
            rows[group] = rng.choice(group, len(group))
        drawn[i] = statistic(values[rows])
    return _percentiles(float(statistic(values)), drawn, size, level)


def _percentiles(estimate: float, drawn: np.ndarray, n: int, level: float) -> Interval:
    tail = 50 * (1 - _level(level))
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return Interval(estimate, float(low), float(high), n)


def _numbers(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if len(values) == 0 or np.isnan(values).any():
        raise InputError(
            f"a mean needs numbers; got {len(values)} values, {np.isnan(values).sum()} of them NaN"
        )
    return values


def _level(level: float) -> float:
    if not 0 < level < 1:
        raise InputError(f"an interval's level lies inside (0, 1), e.g. 0.95; got {level}")
    return level

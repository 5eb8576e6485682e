"""Do members differ in accuracy by more than the finite number of evaluation examples explains?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.stats import chi2, studentized_range

from mechprobe.errors import InputError
from mechprobe.stats.permutation import empirical_p


@dataclass(frozen=True)
class Spread:
    """Accuracies of k members against what evaluation sampling alone would give.

    ``mean``, ``low``, ``high``: of the members; ``observed_sd`` between members, ``sampling_sd``
    what sampling gives when all are equally good, ``excess_sd`` what is left of it (root of the
    difference of squares, at least 0). ``p`` tests the variance, ``range_p`` the range high - low;
    ``sampling_range`` is the 95 % point of the range under sampling alone. Units of the input.
    """

    k: int
    mean: float
    low: float
    high: float
    observed_sd: float
    sampling_sd: float
    excess_sd: float
    statistic: float
    degrees: float
    p: float
    range_p: float
    sampling_range: float


def excess_spread_separate(
    accuracy: Float[np.ndarray, "k"], n_examples: int | Int[np.ndarray, "k"]
) -> Spread:
    """Chi-square test of equal accuracy for members scored on *separate* examples.

    With the examples shared, members' errors usually agree, sampling noise in their differences is
    then smaller, and this test errs on the cautious side; ``excess_spread`` is exact about
    it. The range uses the studentised range distribution, with the smallest n_examples.

    Args:
        accuracy: share right per member, in [0, 1].
        n_examples: examples each was scored on.

    Raises:
        InputError: fewer than two members, accuracies outside [0, 1], no examples.
    """
    n = np.broadcast_to(np.asarray(n_examples), accuracy.shape)
    if len(accuracy) < 2 or (n < 1).any() or not ((accuracy >= 0) & (accuracy <= 1)).all():
        raise InputError(
            f"spread compares two or more accuracies in [0, 1] on at least one example each; got "
            f"{accuracy.tolist()} on {n.tolist()} examples"
        )
    k = len(accuracy)
    pooled = float((accuracy * n).sum() / n.sum())
    variance = pooled * (1 - pooled)
    if variance == 0:
        return _spread(accuracy, 0.0, 0.0, k - 1.0, 1.0, 1.0, 0.0)
    statistic = float((n * (accuracy - pooled) ** 2).sum() / variance)
    noise = float(np.sqrt(variance * np.mean(1 / n)))
    widest = float(np.sqrt(variance / n.min()))
    return _spread(
        accuracy, noise, statistic, k - 1.0, float(chi2.sf(statistic, k - 1)),
        float(studentized_range.sf(np.ptp(accuracy) / widest, k, np.inf)),
        float(studentized_range.ppf(0.95, k, np.inf)) * widest,
    )


def excess_spread(
    correct: Shaped[np.ndarray, "k example"],
    strata: Shaped[np.ndarray, "example"] | None = None,
    *,
    seed: int = 0,
    n: int = 4_000,
) -> Spread:
    """Test of equal accuracy for members scored on the *same* examples.

    A member's accuracy is the mean over strata (sub-cases) of its accuracy in each. The examples'
    covariance between members gives the distribution of the variance under sampling alone, a sum
    of weighted chi-squares, by matching two moments (Satterthwaite 1946); when all pairs of
    members agree equally this is Cochran's Q. The range is compared with n normal draws of the
    same covariance. Meant for hundreds of examples or more.

    Args:
        correct: 1 where a member is right, 0 where wrong (or any score per example).
        strata: label of each example; every stratum needs at least two examples.

    Raises:
        InputError: fewer than two members, or a stratum of one example.
    """
    k, size = correct.shape
    labels = np.zeros(size, int) if strata is None else np.unique(strata, return_inverse=True)[1]
    counts = np.bincount(labels)
    if k < 2 or size == 0 or counts.min() < 2:
        raise InputError(
            f"spread compares two or more members on strata of two or more examples; got {k} "
            f"members and strata of {counts.tolist()}"
        )
    parts = [correct[:, labels == label].astype(float) for label in range(len(counts))]
    accuracy = np.mean([part.mean(1) for part in parts], axis=0)
    covariance = np.sum([np.cov(part) / part.shape[1] for part in parts], axis=0)
    covariance = covariance / len(parts) ** 2
    centre = np.eye(k) - 1 / k
    weights, axes = np.linalg.eigh(centre @ covariance @ centre)
    weights = np.clip(weights, 0, None)
    if weights.sum() < 1e-15:  # every example says the same about every pair of members
        if np.ptp(accuracy) < 1e-9:
            return _spread(accuracy, 0.0, 0.0, k - 1.0, 1.0, 1.0, 0.0)
        return _spread(accuracy, 0.0, np.inf, k - 1.0, 0.0, 0.0, 0.0)
    scale = float((weights**2).sum() / weights.sum())
    degrees = float(weights.sum() ** 2 / (weights**2).sum())
    statistic = float(((accuracy - accuracy.mean()) ** 2).sum()) / scale
    normal = np.random.default_rng(seed).standard_normal((n, k))
    ranges = np.ptp(normal * np.sqrt(weights) @ axes.T, axis=1)
    noise = float(np.sqrt(weights.sum() / (k - 1)))
    return _spread(
        accuracy, noise, statistic, degrees, float(chi2.sf(statistic, degrees)),
        empirical_p(float(np.ptp(accuracy)), ranges), float(np.quantile(ranges, 0.95)),
    )


def _spread(
    accuracy: np.ndarray, noise: float, statistic: float, degrees: float, p: float,
    range_p: float, sampling_range: float,
) -> Spread:
    observed = float(np.std(accuracy, ddof=1))
    return Spread(
        k=len(accuracy), mean=float(accuracy.mean()), low=float(accuracy.min()),
        high=float(accuracy.max()), observed_sd=observed, sampling_sd=noise,
        excess_sd=float(np.sqrt(max(0.0, observed**2 - noise**2))), statistic=statistic,
        degrees=degrees, p=p, range_p=range_p, sampling_range=sampling_range,
    )

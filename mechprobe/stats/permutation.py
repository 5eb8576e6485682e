"""p-values by counting: how often does chance alone give something at least as extreme?"""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
from jaxtyping import Float

from mechprobe.errors import InputError


def empirical_p(observed: float, null: Float[np.ndarray, "draw"], tail: str = "greater") -> float:
    """(1 + draws at least as extreme) / (1 + draws), never 0 (Phipson and Smyth 2010, eq. 2).

    "two-sided" doubles the smaller tail, at most 1. Draws that differ from the observed value by
    rounding only count as equal.

    Raises:
        InputError: no draws, or an unknown tail.
    """
    if len(null) == 0:
        raise InputError("a p-value needs at least one draw of the null; got none")
    upper, lower = _tails(observed, null)
    n = 1 + len(null)
    return _choose((1 + upper) / n, (1 + lower) / n, tail)


def permutation_p(
    first: Float[np.ndarray, "a"],
    second: Float[np.ndarray, "b"],
    *,
    seed: int = 0,
    n: int = 10_000,
    tail: str = "two-sided",
) -> float:
    """Whether two groups' means differ more than their labels, shuffled, make them differ.

    Exact over all relabellings when there are at most ``n``, else n random ones. "greater": the
    first group's mean is larger.

    Raises:
        InputError: an empty group, or an unknown tail.
    """
    if min(len(first), len(second)) == 0:
        raise InputError(f"two groups are compared; got {len(first)} and {len(second)} values")
    values = np.concatenate([first, second]).astype(float)
    total, size = values.sum(), len(first)
    observed = float(np.mean(first) - np.mean(second))

    def difference(sums: np.ndarray) -> np.ndarray:
        return sums / size - (total - sums) / len(second)

    if comb(len(values), size) <= n:
        sums = [values[list(chosen)].sum() for chosen in combinations(range(len(values)), size)]
        null = difference(np.array(sums))
        upper, lower = _tails(observed, null)
        return _choose(upper / len(null), lower / len(null), tail)
    rng = np.random.default_rng(seed)
    chunk = max(1, 2_000_000 // len(values))
    sums = np.concatenate([
        rng.permuted(np.tile(values, (min(chunk, n - start), 1)), axis=1)[:, :size].sum(1)
        for start in range(0, n, chunk)
    ])
    return empirical_p(observed, difference(sums), tail)


def _tails(observed: float, null: np.ndarray) -> tuple[int, int]:
    slack = 1e-9 * max(1.0, abs(observed))
    return int((null >= observed - slack).sum()), int((null <= observed + slack).sum())


def _choose(greater: float, less: float, tail: str) -> float:
    match tail:
        case "greater":
            return greater
        case "less":
            return less
        case "two-sided":
            return min(1.0, 2 * min(greater, less))
    raise InputError(f"unknown tail {tail!r}; expected 'greater', 'less' or 'two-sided'")

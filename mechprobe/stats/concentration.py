"""How few components hold most of an effect: Gini index, half of the mass, and a null."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from mechprobe.errors import InputError


def gini(values: Float[np.ndarray, "site"]) -> float:
    """Gini index of the positive parts: 0 where all are equal, near 1 where one has all.

    NaN where nothing is positive.
    """
    positive = np.sort(np.clip(values, 0, None))
    total = positive.sum()
    if not total > 0:
        return float("nan")
    n = len(positive)
    return float((2 * np.arange(1, n + 1) - n - 1) @ positive / (n * total))


def sites_with_share(values: Float[np.ndarray, "site"], share: float = 0.5) -> int:
    """The fewest sites whose positive values add up to a share of all positive ones; 0 for none.

    Raises:
        InputError: a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise InputError(f"share {share}; give a share above 0, at most 1")
    positive = np.sort(np.clip(values, 0, None))[::-1]
    if not positive.sum() > 0:
        return 0
    reached = np.cumsum(positive) >= share * positive.sum() - 1e-12
    return int(np.argmax(reached)) + 1


def gini_null(
    first: Float[np.ndarray, "site a"], second: Float[np.ndarray, "site b"], n: int = 1_000,
    seed: int = 0,
) -> Float[np.ndarray, "draw"]:
    """Gini of mean(first) - mean(second) where sites are exchangeable within every example.

    In each draw the effects of each example are dealt out to the sites anew.
    """
    rng = np.random.default_rng(seed)
    out = np.empty(n)
    for i in range(n):
        parts = [rng.permuted(part, axis=0).mean(1) for part in (first, second)]
        out[i] = gini(parts[0] - parts[1])
    return out

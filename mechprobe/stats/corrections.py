"""p-values of many tests, corrected; NaN (a test that could not be made) stays NaN, uncounted."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from mechprobe.errors import InputError


def holm(p: Float[np.ndarray, "test"]) -> Float[np.ndarray, "test"]:
    """Corrected p-values that bound the chance of any false rejection (Holm 1979).

    Raises:
        InputError: a p outside [0, 1].
    """
    order, ranked = _ranked(p)
    stepped = np.maximum.accumulate(ranked * np.arange(len(ranked), 0, -1))
    return _in_place(p, order, stepped)


def benjamini_hochberg(p: Float[np.ndarray, "test"]) -> Float[np.ndarray, "test"]:
    """Corrected p-values that bound the share of false rejections (Benjamini and Hochberg 1995).

    Raises:
        InputError: a p outside [0, 1].
    """
    order, ranked = _ranked(p)
    n = len(ranked)
    scaled = ranked * n / np.arange(1, n + 1)
    return _in_place(p, order, np.minimum.accumulate(scaled[::-1])[::-1])


def _ranked(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    known = np.flatnonzero(~np.isnan(p))
    if ((p[known] < 0) | (p[known] > 1)).any():
        raise InputError(f"p-values lie in [0, 1]; got {p[known].min():g} to {p[known].max():g}")
    order = known[np.argsort(p[known], kind="stable")]
    return order, p[order]


def _in_place(p: np.ndarray, order: np.ndarray, corrected: np.ndarray) -> np.ndarray:
    result = np.full(p.shape, np.nan)
    result[order] = np.minimum(corrected, 1.0)
    return result

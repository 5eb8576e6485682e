"""Are two matrices over the same items alike? Mantel tests: items are permuted, not cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import rankdata

from mechprobe.errors import InputError
from mechprobe.stats.permutation import empirical_p

METHODS = ("spearman", "pearson")


@dataclass(frozen=True)
class MantelTest:
    """A correlation of the off-diagonal cells, its p over permuted items, and how many of both."""

    r: float
    p: float
    items: int
    permutations: int


def mantel(
    first: Float[np.ndarray, "item item"],
    second: Float[np.ndarray, "item item"],
    *,
    method: str = "spearman",
    given: Float[np.ndarray, "item item"] | None = None,
    n: int = 2_000,
    seed: int = 0,
    tail: str = "greater",
) -> MantelTest:
    """Correlation of two matrices' off-diagonal cells, tested by permuting the items of one.

    Matrices need not be symmetric; rows and columns are permuted together (Mantel 1967, Cancer
    Research 27). With ``given`` the partial correlation: both are freed of a linear dependence on
    that matrix (on its ranks for "spearman"), and the first one's residuals are permuted (Smouse,
    Long and Sokal 1986, Systematic Zoology 35, method of residuals).

    Args:
        tail: "greater", "less" or "two-sided".

    Raises:
        InputError: matrices of different or too small size, cells that are not finite, a matrix
            that is constant off its diagonal, or an unknown method or tail.
    """
    if method not in METHODS:
        raise InputError(f"unknown method {method!r}; one of {', '.join(METHODS)}")
    matrices = [first, second] if given is None else [first, second, given]
    cells = [_cells(m, len(first), method) for m in matrices]
    a, b = cells[:2]
    if given is not None:
        a, b = _residuals(a, cells[2]), _residuals(b, cells[2])
    size = len(first)
    whole = np.zeros((size, size))
    off = ~np.eye(size, dtype=bool)
    whole[off] = a
    b = b / np.linalg.norm(b)
    observed = float(a @ b / np.linalg.norm(a))
    rng = np.random.default_rng(seed)
    drawn = np.empty(n)
    for i in range(n):
        order = rng.permutation(size)
        drawn[i] = whole[np.ix_(order, order)][off] @ b
    p = empirical_p(observed, drawn / np.linalg.norm(a), tail)
    return MantelTest(observed, p, size, n)


def off_diagonal_correlation(
    first: Float[np.ndarray, "item item"],
    second: Float[np.ndarray, "item item"],
    method: str = "spearman",
) -> float:
    """The correlation that ``mantel`` tests."""
    a, b = (_cells(m, len(first), method) for m in (first, second))
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@dataclass(frozen=True)
class GroupContrast:
    """Means of the off-diagonal cells inside groups and between them, and p of the difference."""

    within: float
    across: float
    p: float

    @property
    def difference(self) -> float:
        """Within minus across."""
        return self.within - self.across


def within_across(
    values: Float[np.ndarray, "item item"],
    groups: Sequence[str],
    *,
    n: int = 2_000,
    seed: int = 0,
) -> GroupContrast:
    """Mean cell of items in one group against that of items in two; p over shuffled groups.

    Raises:
        InputError: no two items share a group, or all do.
    """
    labels = np.unique(list(groups), return_inverse=True)[1]
    if len(labels) != len(values):
        raise InputError(f"{len(values)} items and {len(labels)} groups; give one of each item")
    off = ~np.eye(len(values), dtype=bool)
    if not (_same(labels) & off).any() or _same(labels).all():
        raise InputError("items within and between groups are compared; give two groups or more, "
                         "one of them with two items")
    within, across = _means(values, labels, off)
    rng = np.random.default_rng(seed)
    null = np.empty(n)
    for i in range(n):
        inside, outside = _means(values, rng.permutation(labels), off)
        null[i] = inside - outside
    return GroupContrast(within, across, empirical_p(within - across, null, "greater"))


def _same(labels: Int[np.ndarray, " item"]) -> np.ndarray:
    return labels[:, None] == labels[None, :]


def _means(values: np.ndarray, labels: np.ndarray, off: np.ndarray) -> tuple[float, float]:
    same = _same(labels)
    return float(values[same & off].mean()), float(values[~same].mean())


def _cells(matrix: np.ndarray, size: int, method: str) -> np.ndarray:
    """Centred off-diagonal cells, as ranks for Spearman."""
    if matrix.shape != (size, size) or size < 3:
        raise InputError(
            f"a matrix of shape {list(matrix.shape)} beside {size} items; give square ones over "
            "the same 3 items or more"
        )
    values = matrix[~np.eye(size, dtype=bool)].astype(float)
    if not np.isfinite(values).all():
        raise InputError("a cell off the diagonal is not finite; leave such items out")
    values = rankdata(values) if method == "spearman" else values
    centred = values - values.mean()
    if not np.linalg.norm(centred) > 1e-12 * max(1.0, np.abs(values).max()):
        raise InputError("a matrix is constant off its diagonal, so nothing correlates with it")
    return centred


def _residuals(values: np.ndarray, given: np.ndarray) -> np.ndarray:
    out = values - given * (values @ given) / (given @ given)
    if np.linalg.norm(out) < 1e-9 * np.linalg.norm(values):
        raise InputError("a matrix is a function of the one given, so nothing is left to test")
    return out

"""Items from their distances: a map in the plane, clusters, and how well they fit known groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
from scipy.spatial.distance import squareform

from mechprobe.errors import InputError
from mechprobe.stats.permutation import empirical_p

MAPS = ("mds", "pca", "umap")


def row_distance(values: Float[np.ndarray, "item feature"]) -> Float[np.ndarray, "item item"]:
    """1 minus the Pearson correlation of every two rows, 0 on the diagonal."""
    centred = values - values.mean(1, keepdims=True)
    size = np.linalg.norm(centred, axis=1)
    out = 1 - centred @ centred.T / np.maximum(np.outer(size, size), 1e-300)
    np.fill_diagonal(out, 0.0)
    return np.clip((out + out.T) / 2, 0.0, 2.0)


def similarity_distance(
    similarity: Float[np.ndarray, "item item"]
) -> Float[np.ndarray, "item item"]:
    """Distance from a similarity: its largest off-diagonal value minus it, made symmetric."""
    both = (similarity + similarity.T) / 2
    off = ~np.eye(len(both), dtype=bool)
    out = both[off].max() - both
    np.fill_diagonal(out, 0.0)
    return np.maximum(out, 0.0)


def task_map(
    distance: Float[np.ndarray, "item item"], method: str = "mds", seed: int = 0
) -> Float[np.ndarray, "item 2"]:
    """Items as points of a plane.

    Args:
        method: "mds": classical scaling (Torgerson 1952); "pca": the first two principal components
            of the rows of distances; "umap": needs the package umap-learn.

    Raises:
        InputError: an unknown method, or umap-learn is not installed.
    """
    n = len(distance)
    if method == "umap":
        try:
            from umap import UMAP  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise InputError("umap-learn is not installed; install it, or take 'mds'") from None
        return np.asarray(UMAP(metric="precomputed", random_state=seed).fit_transform(distance))
    centre = np.eye(n) - 1 / n
    if method == "mds":
        values, vectors = np.linalg.eigh(-0.5 * centre @ distance**2 @ centre)
        return _signed(vectors[:, ::-1][:, :2] * np.sqrt(np.maximum(values[::-1][:2], 0)))
    if method == "pca":
        left, size, _ = np.linalg.svd(centre @ distance, full_matrices=False)
        return _signed(left[:, :2] * size[:2])
    raise InputError(f"unknown map {method!r}; one of {', '.join(MAPS)}")


@dataclass(frozen=True)
class Clustering:
    """Average-linkage clusters of items.

    Attributes:
        label: cluster of each item, from 1.
        tree: the merges, as SciPy's ``linkage`` writes them.
        order: items in the order of the tree's leaves.
        rand: adjusted Rand index with the known groups (Hubert and Arabie 1985), 0 by chance.
        neighbours: share of the items whose nearest neighbour is of their group, among items that
            have another one in their group.
        p_rand, p_neighbours: over shuffled groups, upper tail.
    """

    label: Int[np.ndarray, " item"]
    tree: Float[np.ndarray, "merge 4"]
    order: Int[np.ndarray, " item"]
    rand: float
    neighbours: float
    p_rand: float
    p_neighbours: float


def cluster_items(
    distance: Float[np.ndarray, "item item"],
    groups: Sequence[str],
    *,
    n: int = 2_000,
    seed: int = 0,
) -> Clustering:
    """Cut the average-linkage tree into as many clusters as there are groups, and compare.

    Raises:
        InputError: fewer than two groups, or not one group an item.
    """
    known = np.unique(list(groups), return_inverse=True)[1]
    if len(known) != len(distance) or known.max() < 1:
        raise InputError(
            f"{len(distance)} items in {known.max() + 1} groups; give one group an item, two or "
            "more in all"
        )
    tree = linkage(squareform(distance, checks=False), "average")
    label = fcluster(tree, int(known.max()) + 1, "maxclust").astype(np.int64)
    nearest = np.where(np.eye(len(distance), dtype=bool), np.inf, distance).argmin(1)
    rng = np.random.default_rng(seed)
    shuffled = [rng.permutation(known) for _ in range(n)]
    rand, close = adjusted_rand(label, known), _neighbours(nearest, known)
    return Clustering(
        label, tree, leaves_list(tree).astype(np.int64), rand, close,
        empirical_p(rand, np.array([adjusted_rand(label, s) for s in shuffled])),
        empirical_p(close, np.array([_neighbours(nearest, s) for s in shuffled])),
    )


def adjusted_rand(a: Int[np.ndarray, " item"], b: Int[np.ndarray, " item"]) -> float:
    """Agreement of two groupings of the same items, 1 when equal, 0 expected by chance."""
    table = np.zeros((int(a.max()) + 1, int(b.max()) + 1))
    np.add.at(table, (a, b), 1)
    both, rows, columns = (_pairs(x).sum() for x in (table, table.sum(1), table.sum(0)))
    expected = rows * columns / (len(a) * (len(a) - 1) / 2)
    most = (rows + columns) / 2
    return 1.0 if most == expected else float((both - expected) / (most - expected))


def _pairs(counts: np.ndarray) -> np.ndarray:
    return counts * (counts - 1) / 2


def _neighbours(nearest: np.ndarray, known: np.ndarray) -> float:
    able = np.bincount(known)[known] > 1
    return float((known[nearest] == known)[able].mean()) if able.any() else float("nan")


def _signed(points: np.ndarray) -> np.ndarray:
    """Each axis turned so that its largest coordinate is positive: no sign is left to chance."""
    largest = points[np.abs(points).argmax(0), np.arange(points.shape[1])]
    return points * np.where(largest < 0, -1.0, 1.0)

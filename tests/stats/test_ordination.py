import numpy as np
import pytest
from scipy.spatial.distance import cdist

from mechprobe.errors import InputError
from mechprobe.stats.ordination import (
    adjusted_rand,
    cluster_items,
    row_distance,
    similarity_distance,
    task_map,
)

POINTS = np.array([[0, 0], [0, 1], [5, 5], [5, 6.5], [9, 0], [9, 1.2]])
GROUPS = list("aabbcc")


def test_scaling_finds_points_of_the_plane_again():
    distance = cdist(POINTS, POINTS)
    found = task_map(distance)
    np.testing.assert_allclose(cdist(found, found), distance, atol=1e-8)
    assert task_map(distance, "pca").shape == (6, 2)


def test_clusters_of_clear_groups_are_those_groups():
    found = cluster_items(cdist(POINTS, POINTS), GROUPS, n=300)
    assert (found.rand, found.neighbours) == (1.0, 1.0)
    assert found.p_rand < 0.1
    assert found.p_neighbours < 0.1  # 1 in 15 groupings is this one
    assert sorted(found.order.tolist()) == list(range(6))
    mixed = cluster_items(cdist(POINTS, POINTS), list("abcabc"), n=300)
    assert mixed.neighbours == 0.0
    assert mixed.p_neighbours == 1.0


def test_the_rand_index_counts_pairs():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 3, 12), rng.integers(0, 4, 12)
    same_a, same_b = a[:, None] == a[None], b[:, None] == b[None]
    upper = np.triu_indices(12, 1)
    n, both = len(upper[0]), (same_a & same_b)[upper].sum()
    in_a, in_b = same_a[upper].sum(), same_b[upper].sum()
    expected = in_a * in_b / n
    assert adjusted_rand(a, b) == pytest.approx(
        (both - expected) / ((in_a + in_b) / 2 - expected)
    )
    drawn = [adjusted_rand(rng.permutation(a), b) for _ in range(400)]
    assert abs(np.mean(drawn)) < 0.04
    assert adjusted_rand(a, a) == 1.0


def test_distances():
    rows = np.array([[1.0, 2, 3], [2, 4, 6], [3, 2, 1]])
    np.testing.assert_allclose(
        row_distance(rows), 1 - np.corrcoef(rows), atol=1e-12
    )
    similarity = np.array([[9.0, 1, 3], [2, 9, 0], [1, 2, 9]])
    np.testing.assert_allclose(
        similarity_distance(similarity), [[0, 0.5, 0], [0.5, 0, 1], [0, 1, 0]]
    )


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(InputError, match="unknown map"):
        task_map(cdist(POINTS, POINTS), "tsne")
    with pytest.raises(InputError, match="in 1 groups"):
        cluster_items(cdist(POINTS, POINTS), list("aaaaaa"))

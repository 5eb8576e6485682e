"""Labels against enumeration of all depth profiles, of all trees, and a plain greedy loop."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.probes.pseudo_labels import depth_histogram, flat_share, pseudo_labels
from mechprobe.tasks.treebank import reaches_root, tree_depths


def all_profiles(n: int) -> set[tuple[int, ...]]:
    """Depth profiles (root 1) of every rooted tree over n words, by going through all trees."""
    found = set()
    for heads in product(range(-1, n), repeat=n):
        if heads.count(-1) == 1 and reaches_root(heads).all():
            found.add(tuple((tree_depths(heads) + 1).tolist()))
    return found


def plain_greedy(nu: list[float]) -> list[int]:
    order = sorted(range(len(nu)), key=lambda i: nu[i])
    level, out = 1, [0] * len(nu)
    for rank, i in enumerate(order):
        if rank == 1:
            level = 2
        elif rank > 1 and not abs(nu[i] - level) < abs(level + 1 - nu[i]):
            level += 1
        out[i] = level
    return out


def draw(rng: np.random.Generator, n: int) -> np.ndarray:
    """Numbers with ties, far outliers, or neither."""
    kind = rng.integers(3)
    if kind == 0:
        return rng.integers(0, 5, n) / 2
    return rng.random(n) * (4 if kind == 1 else 12)


@pytest.mark.parametrize("n", range(1, 7))
def test_exact_is_the_nearest_profile_of_all_trees(n):
    valid = {
        p for p in product(range(1, n + 1), repeat=n)
        if p.count(1) == 1 and set(p) == set(range(1, max(p) + 1))
    }  # fmt: skip
    assert n == 6 or valid == all_profiles(n)  # 46,656 drafts of trees would take seconds
    profiles = np.array(sorted(valid))
    rng = np.random.default_rng(n)
    nu = np.stack([draw(rng, n) for _ in range(150)])
    labels = pseudo_labels(torch.from_numpy(nu), torch.ones(150, n, dtype=torch.bool)).numpy()
    errors = ((nu[:, None] - profiles) ** 2).sum(-1)
    np.testing.assert_allclose(((nu - labels) ** 2).sum(-1), errors.min(1), atol=1e-12)
    assert set(map(tuple, labels.tolist())) <= valid


def test_greedy_is_the_plain_loop_ties_included():
    rng = np.random.default_rng(0)
    for n in (1, 2, 3, 5, 9, 30):
        nu = np.stack([draw(rng, n) for _ in range(60)])
        labels = pseudo_labels(
            torch.from_numpy(nu), torch.ones(60, n, dtype=torch.bool), "greedy"
        )
        assert labels.tolist() == [plain_greedy(row.tolist()) for row in nu]


@pytest.mark.parametrize("how", ["greedy", "exact"])
def test_masked_places_change_nothing_wherever_they_are(how):
    rng = np.random.default_rng(1)
    real = torch.from_numpy(rng.random((2, 40, 12)) < 0.6)
    nu = torch.from_numpy(rng.random((2, 40, 12)) * 6)
    together = pseudo_labels(nu, real, how)
    backward = pseudo_labels(nu, real, how, reverse=True)
    assert together.shape == nu.shape
    for place in product(range(2), range(40)):
        mask = real[place]
        alone = pseudo_labels(nu[place][mask], torch.ones(int(mask.sum()), dtype=torch.bool), how)
        assert together[place][mask].tolist() == alone.tolist()
        assert backward[place][mask].tolist() == alone.flip(0).tolist()
        assert not together[place][~mask].any()
        assert not backward[place][~mask].any()


def test_exact_is_never_worse_than_greedy_or_gold_and_often_better():
    rng = np.random.default_rng(2)
    better = 0
    for _ in range(100):
        n = int(rng.integers(2, 25))
        nu = torch.from_numpy(draw(rng, n))
        heads = [-1, *(int(rng.integers(i)) for i in range(1, n))]
        every = torch.ones(n, dtype=torch.bool)
        exact = ((nu - pseudo_labels(nu, every, "exact")) ** 2).sum()
        greedy = ((nu - pseudo_labels(nu, every, "greedy")) ** 2).sum()
        gold = ((nu - torch.from_numpy(tree_depths(heads) + 1)) ** 2).sum()
        assert exact <= greedy + 1e-12
        assert exact <= gold + 1e-12
        better += bool(exact < greedy - 1e-9)
    assert better >= 10


def test_a_long_sentence_in_float32_is_labelled_as_in_float64():
    nu = torch.rand(4, 150, generator=torch.Generator().manual_seed(0)) * 30
    every = torch.ones(4, 150, dtype=torch.bool)
    assert torch.equal(pseudo_labels(nu, every), pseudo_labels(nu.double(), every))


def test_histogram_and_share_of_flat_profiles():
    levels = torch.tensor([[1, 2, 2, 0], [2, 1, 3, 3], [2, 1, 0, 0], [0, 2, 1, 2]])
    assert depth_histogram(levels).tolist() == [4, 6, 2]
    assert depth_histogram(levels, 5).tolist() == [4, 6, 2, 0, 0]
    assert depth_histogram(levels, 2).tolist() == [4, 6]
    assert flat_share(levels) == pytest.approx(2 / 3)
    assert np.isnan(flat_share(levels[2:3]))


def test_an_unknown_way_is_refused():
    with pytest.raises(InputError, match="'greedy' or 'exact'"):
        pseudo_labels(torch.ones(1, 2), torch.ones(1, 2, dtype=torch.bool), "best")

"""Every score against scipy, networkx or a plain loop; planted trees; chance."""

from __future__ import annotations

from collections import defaultdict

import networkx
import numpy as np
import pytest
import torch
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.stats import spearmanr

from mechprobe.probes.structural_scores import (
    depth_scores,
    distance_scores,
    spanning_trees,
    spearman,
)
from mechprobe.tasks.treebank import Sentence, read_conllu, tree_depths, tree_distances


def random_distances(rng: np.random.Generator, *shape: int) -> np.ndarray:
    found = rng.random((*shape, shape[-1])) + 0.01
    return found + found.swapaxes(-1, -2)


@pytest.mark.parametrize("n", [1, 2, 3, 8, 25])
def test_spanning_trees_are_networkxs_and_scipys(n):
    rng = np.random.default_rng(n)
    distances = random_distances(rng, 3, 5, n)
    words = rng.random((5, n)) < 0.7
    found = spanning_trees(torch.from_numpy(distances), torch.from_numpy(words)).numpy()
    for site in range(3):
        for row in range(5):
            kept = np.flatnonzero(words[row])
            ours = {frozenset((i, int(j))) for i, j in enumerate(found[site, row]) if i != j}
            graph = networkx.Graph()
            graph.add_weighted_edges_from(
                (i, j, distances[site, row, i, j]) for i in kept for j in kept if i < j
            )
            tree = networkx.minimum_spanning_tree(graph)
            assert ours == {frozenset(edge) for edge in tree.edges}
            weights = minimum_spanning_tree(distances[site, row][np.ix_(kept, kept)])
            total = sum(distances[site, row][tuple(edge)] for edge in ours)
            assert total == pytest.approx(weights.sum())


def test_spearman_is_scipys_with_ties_and_constants():
    rng = np.random.default_rng(0)
    for n in (2, 3, 10):
        predicted = rng.integers(0, 4, (3, 20, n)).astype(float)
        predicted[1] = rng.random((20, n))
        gold = rng.integers(0, 3, (20, n)).astype(float)
        found = spearman(torch.from_numpy(predicted), torch.from_numpy(gold)).numpy()
        for site in range(3):
            for row in range(20):
                a, b = predicted[site, row], gold[row]
                constant = len(set(a)) == 1 or len(set(b)) == 1
                expected = 0.0 if constant else spearmanr(a, b).statistic
                assert found[site, row] == pytest.approx(expected, abs=1e-12)


def naive_distance_scores(sentences, predictions):
    """UUAS with networkx and DSpr with scipy, one sentence at a time."""
    hits = total = 0
    by_length = defaultdict(list)
    for sentence, distances in zip(sentences, predictions, strict=True):
        words = [i for i, tag in enumerate(sentence.upos) if tag != "PUNCT"]
        graph = networkx.Graph()
        graph.add_weighted_edges_from(
            (i, j, distances[i, j]) for i in words for j in words if i < j
        )
        tree = {frozenset(edge) for edge in networkx.minimum_spanning_tree(graph).edges}
        gold = {
            frozenset((i, head)) for i, head in enumerate(sentence.heads)
            if head >= 0 and i in words and head in words
        }  # fmt: skip
        hits, total = hits + len(tree & gold), total + len(gold)
        if 5 <= len(sentence) <= 50:
            rows = zip(distances, tree_distances(sentence.heads), strict=True)
            by_length[len(sentence)] += [spearmanr(a, b).statistic for a, b in rows]
    return hits / total, np.mean([np.mean(found) for found in by_length.values()])


def test_distance_scores_are_the_plain_loop(treebank):
    rng = np.random.default_rng(1)
    sentences = treebank[:40]
    found = [random_distances(rng, 2, len(sentence)) for sentence in sentences]
    for own in found:
        own[:, np.arange(own.shape[1]), np.arange(own.shape[1])] = 0
    scores = distance_scores(
        sentences, ["a", "b"],
        lambda rows: torch.from_numpy(np.stack([found[r] for r in rows], axis=1)),
    )  # fmt: skip
    for site in range(2):
        uuas, dspr = naive_distance_scores(sentences, [own[site] for own in found])
        assert scores.scores["uuas"][site] == pytest.approx(uuas)
        assert scores.scores["dspr"][site] == pytest.approx(dspr)
    total = scores.hits["uuas"].sum(1) / scores.n_edges.sum()
    np.testing.assert_allclose(total, scores.scores["uuas"])
    assert list(scores.table().columns) == ["site", "uuas", "dspr"]


def test_depth_scores_are_the_plain_loop(treebank):
    rng = np.random.default_rng(2)
    sentences = treebank[:60]
    found = [rng.random((2, len(sentence))) for sentence in sentences]
    scores = depth_scores(
        sentences, ["a", "b"],
        lambda rows: torch.from_numpy(np.stack([found[r] for r in rows], axis=1)),
    )  # fmt: skip
    for site in range(2):
        by_length, right = defaultdict(list), []
        for sentence, own in zip(sentences, found, strict=True):
            words = [i for i, tag in enumerate(sentence.upos) if tag != "PUNCT"]
            right.append(min(words, key=lambda i, own=own: own[site, i]) == sentence.root)
            if 5 <= len(sentence) <= 50:
                gold = tree_depths(sentence.heads)
                by_length[len(sentence)].append(spearmanr(own[site], gold).statistic)
        expected = np.mean([np.mean(r) for r in by_length.values()])
        assert scores.scores["nspr"][site] == pytest.approx(expected)
        assert scores.scores["root"][site] == pytest.approx(np.mean(right))


def test_true_distances_and_depths_score_one_also_on_real_trees(data_dir):
    path = data_dir / "treebank" / "en_ewt-ud-dev.conllu.xz"
    if not path.is_file():
        pytest.skip(f"no treebank at {path}")
    sentences = read_conllu(path, limit=100)

    def distances(rows):
        return torch.from_numpy(np.stack([tree_distances(sentences[r].heads) for r in rows]))[None]

    def depths(rows):
        return torch.from_numpy(np.stack([tree_depths(sentences[r].heads) for r in rows]))[None]

    found = distance_scores(sentences, ["gold"], lambda rows: distances(rows).double())
    assert found.scores["dspr"][0] == pytest.approx(1)
    assert found.scores["uuas"][0] > 0.99  # below 1 only where punctuation has dependents
    found = depth_scores(sentences, ["gold"], lambda rows: depths(rows).double())
    assert (found.scores["nspr"][0], found.scores["root"][0]) == (pytest.approx(1), 1)


def test_punctuation_is_no_part_of_the_tree():
    sentence = Sentence(("a", ",", "b"), (-1, 0, 0), ("root", "punct", "dep"), ("X", "PUNCT", "X"))
    near_comma = torch.tensor([[0.0, 1, 9], [1, 0, 1], [9, 1, 0]])
    found = distance_scores([sentence], ["a"], lambda rows: near_comma[None, None])
    assert found.scores["uuas"][0] == 1
    assert found.n_edges.tolist() == [1]
    assert np.isnan(found.scores["dspr"][0])  # no sentence of 5 to 50 words
    least_comma = depth_scores([sentence], ["a"], lambda rows: torch.tensor([[[1.0, 0, 2]]]))
    assert least_comma.scores["root"][0] == 1
    dots = Sentence((".", "."), (1, -1), ("punct", "root"), ("PUNCT", "PUNCT"))
    only = depth_scores([dots], ["a"], lambda rows: torch.tensor([[[1.0, 0]]]))
    assert only.scores["root"][0] == 1
    assert np.isnan(distance_scores([dots], ["a"], lambda r: torch.ones(1, 1, 2, 2)).scores["uuas"])

"""What trees score that know nothing of the sentence: the chain and random trees.

The third baseline, an untrained model of the same shape, is ``mechprobe.models.untrained``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from mechprobe.probes.structural_scores import TreeScores, depth_scores, distance_scores
from mechprobe.tasks.treebank import ROOT, Sentence, tree_depths, tree_distances


def chain_distance_scores(sentences: Sequence[Sentence]) -> TreeScores:
    """UUAS and DSpr. of the chain that joins each word to the next (Hewitt and Manning 2019)."""

    def predict(rows: np.ndarray) -> torch.Tensor:
        n = len(sentences[rows[0]])
        place = torch.arange(n, dtype=torch.float64)
        return (place[:, None] - place).abs().expand(1, len(rows), n, n)

    return distance_scores(sentences, ["chain"], predict)


def chain_depth_scores(sentences: Sequence[Sentence]) -> TreeScores:
    """NSpr. and root accuracy of the depth that grows by one a word, from the first word on."""

    def predict(rows: np.ndarray) -> torch.Tensor:
        n = len(sentences[rows[0]])
        return torch.arange(n, dtype=torch.float64).expand(1, len(rows), n)

    return depth_scores(sentences, ["chain"], predict)


def random_distance_scores(
    sentences: Sequence[Sentence], *, draws: int = 10, seed: int = 0
) -> TreeScores:
    """UUAS and DSpr. of trees drawn uniformly from all trees over the words, one site a draw."""
    heads = _draws(sentences, draws, seed)

    def predict(rows: np.ndarray) -> torch.Tensor:
        found = [[tree_distances(own[row]) for row in rows] for own in heads]
        return torch.from_numpy(np.array(found, dtype=np.float64))

    return distance_scores(sentences, [f"random {i}" for i in range(draws)], predict)


def random_depth_scores(
    sentences: Sequence[Sentence], *, draws: int = 10, seed: int = 0
) -> TreeScores:
    """NSpr. and root accuracy of uniformly drawn rooted trees, one site a draw."""
    heads = _draws(sentences, draws, seed)

    def predict(rows: np.ndarray) -> torch.Tensor:
        found = [[tree_depths(own[row]) for row in rows] for own in heads]
        return torch.from_numpy(np.array(found, dtype=np.float64))

    return depth_scores(sentences, [f"random {i}" for i in range(draws)], predict)


def random_heads(n: int, rng: np.random.Generator) -> list[int]:
    """Heads of a tree drawn uniformly from all n^(n-1) rooted trees over n words.

    A uniform random walk on the complete graph; the first step into each word is its arc (Aldous
    1990, Broder 1989).
    """
    at = int(rng.integers(n))
    heads: list[int | None] = [None] * n
    heads[at] = ROOT
    left = n - 1
    while left:
        to = int(rng.integers(n))  # a step to itself changes nothing
        if heads[to] is None:
            heads[to] = at
            left -= 1
        at = to
    return [ROOT if head is None else head for head in heads]


def _draws(sentences: Sequence[Sentence], draws: int, seed: int) -> list[list[list[int]]]:
    rng = np.random.default_rng(seed)
    return [[random_heads(len(sentence), rng) for sentence in sentences] for _ in range(draws)]

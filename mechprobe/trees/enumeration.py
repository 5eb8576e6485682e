"""Exact answers on small trees by listing every tree, straight from the generative definition.

Slow and obvious on purpose: what the fast sampler and belief propagation are checked against.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from mechprobe.errors import InputError
from mechprobe.trees.grammar import Grammar

_MOST_TREES = 2_000_000


@dataclass(frozen=True)
class AllTrees:
    """Every tree that has positive weight.

    Attributes:
        levels: symbols [tree, node] of level 0 and of levels k .. depth.
        weight: probability of the tree times the evidence of its leaves, [tree].
        q: number of symbols.
    """

    levels: Mapping[int, Int64[np.ndarray, "tree _"]]
    weight: Float64[np.ndarray, " tree"]
    q: int

    @property
    def evidence(self) -> float:
        """Summed weight: P(evidence)."""
        return float(self.weight.sum())

    def marginals(self, level: int) -> Float64[np.ndarray, "node q"]:
        """P(node = b | evidence) of every node of a level, [node, b]."""
        symbols = self.levels[level]
        totals = [
            np.bincount(column, weights=self.weight, minlength=self.q) for column in symbols.T
        ]
        return np.stack(totals) / self.evidence


def enumerate_trees(
    grammar: Grammar, k: int = 0, evidence: Float64[np.ndarray, "leaf q"] | None = None
) -> AllTrees:
    """All trees of a grammar filtered at ``k``, weighted by the evidence on their leaves.

    ``evidence`` [leaf, symbol] is one-hot for an observed leaf and ones for a masked one; None
    masks all. Trees of weight 0 are left out.

    Raises:
        InputError: k is outside 0 .. depth, or there are more than two million trees.
    """
    grammar.check_level(k)
    rules = grammar.transition.detach().cpu().numpy()
    q, depth = grammar.q, grammar.depth
    if evidence is None:
        evidence = np.ones((grammar.n_leaves, q))
    n_trees = _count(rules, depth, k, evidence)
    if n_trees > _MOST_TREES:
        raise InputError(
            f"{n_trees:.3g} trees are too many to list; take a smaller q or depth, or fewer masked "
            "leaves"
        )
    levels = {0: np.arange(q)[:, None]}
    weight = np.full(q, 1 / q)
    if k > 0:
        for node in range(grammar.arity**k):
            given_root = _path_marginal(rules, node, k)
            if k == depth:
                given_root = given_root * evidence[node]
            levels, weight = _extend(levels, weight, 0, 0, given_root, k)
    for level in range(k, depth):
        for node in range(grammar.arity**level):
            table = rules
            if level + 1 == depth:
                first = node * grammar.arity
                for child in range(grammar.arity):
                    axes = [1] * grammar.arity
                    axes[child] = q
                    table = table * evidence[first + child].reshape(1, *axes)
            levels, weight = _extend(levels, weight, level, node, table, level + 1)
    return AllTrees(levels, weight, q)


def _count(rules: np.ndarray, depth: int, k: int, evidence: np.ndarray) -> float:
    """How many trees have positive weight, counted from the leaves up."""
    arity = rules.ndim - 1
    counts = (evidence > 0).astype(float)
    for level in range(depth - 1, k - 1, -1):
        above = []
        for node in range(arity**level):
            ways = (rules > 0).astype(float)
            for child in reversed(range(arity)):
                ways = ways @ counts[node * arity + child]
            above.append(ways)
        counts = np.stack(above)
    roots = [(_path_marginal(rules, node, k) > 0) @ counts[node] for node in range(len(counts))]
    return float(np.prod(roots, axis=0).sum())


def _path_marginal(rules: np.ndarray, node: int, level: int) -> np.ndarray:
    """P(node = b | root = a) as [a, b], by walking from the root down."""
    arity = rules.ndim - 1
    marginal = np.eye(len(rules))
    for step in range(level - 1, -1, -1):
        child = node // arity**step % arity
        others = tuple(1 + d for d in range(arity) if d != child)
        marginal = marginal @ rules.sum(axis=others)
    return marginal


def _extend(
    levels: Mapping[int, np.ndarray],
    weight: np.ndarray,
    level: int,
    node: int,
    table: np.ndarray,
    target: int,
) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """Each tree with every way to add the children of one node to level ``target``."""
    parent = levels[level][:, node]
    grown: list[dict[int, np.ndarray]] = []
    weights: list[np.ndarray] = []
    for children in itertools.product(range(len(table)), repeat=table.ndim - 1):
        factor = table[(parent, *children)]
        kept = factor > 0
        added = np.broadcast_to(np.array(children), (int(kept.sum()), len(children)))
        before = levels.get(target, np.empty((len(parent), 0), dtype=np.int64))
        part = {name: symbols[kept] for name, symbols in levels.items()}
        part[target] = np.concatenate([before[kept], added], axis=1)
        grown.append(part)
        weights.append(weight[kept] * factor[kept])
    together = {name: np.concatenate([part[name] for part in grown]) for name in grown[0]}
    return together, np.concatenate(weights)

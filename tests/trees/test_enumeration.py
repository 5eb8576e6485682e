"""The list of all trees against a triple loop written for one small case."""

import itertools

import numpy as np
import pytest

from mechprobe.errors import InputError
from mechprobe.trees import Grammar, enumerate_trees
from mechprobe.trees.enumeration import _count


def test_the_list_is_every_tree_once_with_its_probability():
    grammar = Grammar.random(2, 2, seed=3)
    rules = grammar.transition.numpy()
    weight_of = {}
    for root, left, right, *leaves in itertools.product(range(2), repeat=7):
        weight = rules[root, left, right] / 2
        weight *= rules[(left, *leaves[:2])] * rules[(right, *leaves[2:])]
        if weight > 0:
            weight_of[(root, left, right, *leaves)] = weight
    trees = enumerate_trees(grammar)
    rows = np.concatenate([trees.levels[level] for level in range(3)], axis=1)
    assert len(rows) == len(weight_of) == _count(rules, 2, 0, np.ones((4, 2)))
    for row, weight in zip(rows, trees.weight):
        assert weight == pytest.approx(weight_of[tuple(row)], abs=1e-15)
    assert trees.evidence == pytest.approx(1)


def test_filtered_trees_draw_the_nodes_of_level_k_independently():
    grammar = Grammar.random(2, 2, seed=3)
    left, right = grammar.left.numpy(), grammar.right.numpy()
    rules = grammar.transition.numpy()
    for k in (1, 2):
        trees = enumerate_trees(grammar, k)
        assert sorted(trees.levels) == [0, *range(k, 3)]
        assert len(trees.weight) == _count(rules, 2, k, np.ones((4, 2)))
        for i, weight in enumerate(trees.weight):
            root, leaves = trees.levels[0][i, 0], trees.levels[2][i]
            if k == 1:
                b, c = trees.levels[1][i]
                exact = left[root, b] * right[root, c]
                exact *= rules[b, leaves[0], leaves[1]] * rules[c, leaves[2], leaves[3]]
            else:
                paths = (left @ left, left @ right, right @ left, right @ right)
                exact = np.prod([path[root, leaf] for path, leaf in zip(paths, leaves)])
            assert weight == pytest.approx(exact / 2, abs=1e-15)
        assert trees.evidence == pytest.approx(1)


def test_too_many_trees_are_refused():
    with pytest.raises(InputError, match="too many to list"):
        enumerate_trees(Grammar.random(4, 4))
    with pytest.raises(InputError, match="filter level k=3"):
        enumerate_trees(Grammar.random(2, 2), 3)

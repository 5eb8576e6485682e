"""Exact parts of a run: on which small trees they are listed, and that they see what is wrong."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from mechprobe.studies.hierarchy import exact
from mechprobe.studies.hierarchy.exact import exact_unit, oracle_unit, small_grammar
from mechprobe.studies.hierarchy.settings import PRESETS
from mechprobe.trees import Grammar, TreeSamples, belief_propagation, enumerate_trees

LAPTOP = PRESETS["laptop"]


def test_small_trees_are_of_the_runs_own_arity_and_rules(tmp_path):
    binary = small_grammar(LAPTOP)
    assert torch.equal(binary.transition, Grammar.random(3, 2, seed=0).transition)
    for arity, q, depth in ((3, 2, 2), (4, 3, 1), (9, 2, 1)):
        found = small_grammar(replace(LAPTOP, arity=arity, depth=1))
        assert (found.arity, found.q, found.depth) == (arity, q, depth)
    rules = Grammar.random(4, 2, seed=9).transition
    (tmp_path / "rules.json").write_text(json.dumps(rules.tolist()))
    own = small_grammar(replace(LAPTOP, rules=str(tmp_path / "rules.json")))
    assert torch.equal(own.transition, rules)
    assert own.depth == 2


def test_ternary_trees_are_exact():
    found = exact_unit(replace(LAPTOP, arity=3, depth=2))
    assert found["enumeration"] < 1e-10
    assert found["sampler"] < 0.02
    assert found["construction"] is None


def test_the_table_of_observers_is_that_of_a_loop_over_trees(monkeypatch):
    """With every tree drawn as often as it weighs, nothing is left to chance."""
    grammar = Grammar.random(2, 2, seed=3)
    n = 1_000_000

    def all_trees(grammar: Grammar, many: int, k: int, generator: object) -> TreeSamples:
        trees = enumerate_trees(grammar, k)
        times = torch.from_numpy((trees.weight * n).round().astype(int))
        root, leaves = (torch.from_numpy(trees.levels[level]).repeat_interleave(times, 0)
                        for level in (0, grammar.depth))
        return TreeSamples(leaves, root[:, 0], k, {})

    monkeypatch.setattr(exact, "small_grammar", lambda settings: grammar)
    monkeypatch.setattr(exact, "sample", all_trees)
    assert oracle_unit(LAPTOP)["oracle"] < 1e-4


def test_a_wrong_sampler_or_wrong_inference_is_seen(monkeypatch):
    settings = replace(LAPTOP, q=3)
    assert oracle_unit(settings)["oracle"] < 0.01
    with monkeypatch.context() as patch:
        right = exact.sample
        patch.setattr(exact, "sample", lambda grammar, n, k, generator: right(
            grammar, n, max(0, k - 1), generator
        ))
        assert oracle_unit(settings)["oracle"] > 0.02
    monkeypatch.setattr(exact, "belief_propagation", lambda grammar, strings, k, **more: (
        belief_propagation(grammar, strings, min(k + 1, 2), **more)
    ))
    assert oracle_unit(settings)["oracle"] > 0.02


@pytest.mark.parametrize("sigma", [0.0, 1.0])
def test_equal_firsts_are_broken_alike(sigma):
    assert oracle_unit(replace(LAPTOP, sigma=sigma))["oracle"] < 0.01

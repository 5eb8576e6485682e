"""Chains and random trees against plain counts, enumeration, and a published figure's kin."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest
from scipy.stats import chisquare, spearmanr

from mechprobe.probes.tree_baselines import (
    chain_depth_scores,
    chain_distance_scores,
    random_depth_scores,
    random_distance_scores,
    random_heads,
)
from mechprobe.tasks.treebank import reaches_root, read_conllu, tree_depths


def test_random_trees_are_uniform():
    rng = np.random.default_rng(0)
    drafts = (h for h in product(range(-1, 4), repeat=4) if h.count(-1) == 1)
    every = {heads for heads in drafts if reaches_root(heads).all()}
    assert len(every) == 4**3
    drawn = Counter(tuple(random_heads(4, rng)) for _ in range(6400))
    assert set(drawn) == every
    assert chisquare(list(drawn.values())).pvalue > 1e-3


def test_the_chains_uuas_is_the_share_of_adjacent_arcs(treebank):
    arcs = [
        abs(i - head) == 1
        for s in treebank
        for i, head in enumerate(s.heads)
        if head >= 0 and "PUNCT" not in (s.upos[i], s.upos[head])
    ]
    # a comma between two words leaves them neighbours of the chain without punctuation
    scores = chain_distance_scores(treebank).scores
    assert np.mean(arcs) <= scores["uuas"][0] <= np.mean(arcs) + 0.01


def test_the_chains_depth_is_the_words_place(treebank):
    fives = [s for s in treebank if len(s) == 5]
    expected = np.mean([spearmanr(range(5), tree_depths(s.heads)).statistic for s in fives])
    assert chain_depth_scores(fives).scores["nspr"][0] == pytest.approx(expected)
    assert chain_depth_scores(fives).scores["root"][0] == np.mean([s.root == 0 for s in fives])


def test_random_trees_score_chance(treebank):
    fives = [s for s in treebank if len(s) == 5 and s.upos.count("PUNCT") == 1]
    scores = random_distance_scores(fives, draws=200)
    assert scores.scores["uuas"].shape == (200,)
    # the tree of distances joins 4 words by 3 arcs, no pair more often than another: 3 of 6
    assert scores.scores["uuas"].mean() == pytest.approx(0.5, abs=0.05)
    found = random_depth_scores(fives, draws=200).scores
    assert found["nspr"].mean() == pytest.approx(0, abs=0.05)
    assert found["root"].mean() == pytest.approx(0.25, abs=0.1)
    again = random_depth_scores(fives, draws=200).scores
    np.testing.assert_array_equal(found["root"], again["root"])


def test_the_chain_on_ewt(data_dir):
    path = data_dir / "treebank" / "en_ewt-ud-dev.conllu.xz"
    if not path.is_file():
        pytest.skip(f"no treebank at {path}")
    scores = chain_distance_scores(read_conllu(path, limit=600)).scores
    # 48.9 / .58 on the Penn Treebank in Hewitt and Manning 2019
    assert 0.38 < scores["uuas"][0] < 0.50
    assert 0.53 < scores["dspr"][0] < 0.61
    print(scores)

"""Where heads look, against patterns made by hand and loops over tokens."""

from __future__ import annotations

import copy
from itertools import combinations

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.models import attention_patterns
from mechprobe.sites import Site, SiteGrid
from mechprobe.studies.heuristic_core.attention import (
    KINDS,
    AttentionSums,
    attention_sums,
    core_attention,
    smallest_p,
    targets,
)
from mechprobe.tasks.batches import Batch

CLS, SEP = 2, 3


def small_batch():
    """[CLS] a b [SEP] b c b [SEP], and [CLS] a [SEP] a [SEP] with padding; a b c = 7 8 9."""
    tokens = torch.tensor([[2, 7, 8, 3, 8, 9, 8, 3], [2, 7, 3, 7, 3, 0, 0, 0]])
    segments = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 1, 0, 0, 0]])
    return Batch(
        tokens=tokens, segments=segments, attention_mask=(tokens != 0).long(),
        labels=torch.zeros(2, dtype=torch.long), index=torch.arange(2),
    )  # fmt: skip


def test_targets_of_a_batch_read_by_eye():
    query, kinds = targets(small_batch(), CLS, SEP)
    assert query.int().tolist() == [[0, 1, 1, 0, 1, 1, 1, 0], [0, 1, 0, 1, 0, 0, 0, 0]]
    assert tuple(kinds) == KINDS

    def keys(kind, row, at):
        return torch.nonzero(kinds[kind][row, at]).flatten().tolist()

    assert keys("overlap", 0, 1) == []  # a is not in the second sentence
    assert keys("overlap", 0, 2) == [4, 6]
    assert keys("overlap", 0, 4) == [2]  # not the b in its own sentence
    assert keys("overlap", 0, 5) == []
    assert keys("overlap", 0, 3) == []  # [SEP] is no word
    assert keys("overlap", 1, 1) == [3]
    assert keys("separator", 0, 5) == [3, 7]
    assert keys("separator", 1, 1) == [2, 4]
    assert keys("first", 0, 6) == [0]
    assert keys("previous", 0, 4) == [3]
    assert keys("next", 0, 4) == [5]
    assert keys("next", 1, 4) == []  # only padding follows
    assert keys("itself", 1, 3) == [3]


def by_loops(opened, split):
    """Mean share per kind over query words, one attention weight at a time."""
    total = {kind: np.zeros(4) for kind in KINDS}
    queries = 0
    for batch in split.batches:
        patterns = torch.cat(list(attention_patterns(opened.model, batch).values()), 1)
        for row in range(len(batch)):
            tokens, segments = batch.tokens[row].tolist(), batch.segments[row].tolist()
            length = int(batch.attention_mask[row].sum())
            for q in range(length):
                if tokens[q] in (CLS, SEP):
                    continue
                queries += 1
                for k in range(length):
                    weight = patterns[row, :, q, k].numpy()
                    same_word = tokens[k] == tokens[q] and segments[k] != segments[q]
                    total["overlap"] += weight * same_word
                    total["separator"] += weight * (tokens[k] == SEP)
                    total["first"] += weight * (tokens[k] == CLS)
                    total["previous"] += weight * (k == q - 1)
                    total["next"] += weight * (k == q + 1)
                    total["itself"] += weight * (k == q)
    return {kind: value / queries for kind, value in total.items()}


def test_shares_equal_loops_over_every_weight(opened):
    split = opened.data.dev
    shares = attention_sums(opened, split).shares()
    assert tuple(shares) == KINDS
    for kind, expected in by_loops(opened, split).items():
        assert shares[kind].dtype == np.float64
        np.testing.assert_allclose(shares[kind], expected, atol=1e-5)


def test_heads_that_look_everywhere_share_by_counting(opened):
    """Without queries attention is uniform: each kind's share is its keys over the real tokens."""
    even = copy.copy(opened)
    even.model = copy.deepcopy(opened.model)
    with torch.no_grad():
        for block in even.model.blocks:
            block.attn.W_Q.zero_()
            block.attn.b_Q.zero_()
    shares = attention_sums(even, opened.data.dev).shares()
    ratios = {kind: [] for kind in KINDS}
    for batch in opened.data.dev.batches:
        query, kinds = targets(batch, CLS, SEP)
        for row, at in torch.nonzero(query).tolist():
            for kind, keys in kinds.items():
                real = int(batch.attention_mask[row].sum())
                ratios[kind].append(int(keys[row, at].sum()) / real)
    for kind, values in ratios.items():
        np.testing.assert_allclose(shares[kind], np.mean(values), atol=1e-6)


def each_alike(values, n=5):
    """The same attention on each of n examples of three queries."""
    return AttentionSums(
        {kind: np.tile(3 * np.asarray(v, float), (n, 1)) for kind, v in values.items()},
        np.full(n, 3),
    )


HEADS = [s for s in SiteGrid(2, 4) if s.kind == "head"]


def test_the_core_is_compared_with_every_other_choice_of_heads():
    values = np.array([0.1, 0.5, 0.2, 0.15, 0.6, 0.05, 0.1, 0.3])
    core = [Site("head", 0, 1), Site("head", 1, 0)]
    table = core_attention(
        each_alike({"overlap": values, "first": values[::-1]}), HEADS, core, 500, 0
    )
    row = table.set_index("attention").loc["overlap"]
    assert row.core == pytest.approx(0.55)
    assert row.rest == pytest.approx(values[[0, 2, 3, 5, 6, 7]].mean())
    assert row.difference == pytest.approx(row.core - row.rest)
    null = []
    for chosen in combinations(range(8), 2):
        rest = [i for i in range(8) if i not in chosen]
        null.append(values[list(chosen)].mean() - values[rest].mean())
    upper = np.mean([d >= row.difference - 1e-12 for d in null])
    assert row.p == pytest.approx(2 * upper) == pytest.approx(2 / 28)
    assert smallest_p(8, 2, 500) == pytest.approx(2 / 28)
    assert smallest_p(144, 9, 500) == pytest.approx(2 / 501)
    assert smallest_p(8, 8, 500) == 1.0


def test_many_heads_are_permuted_at_random_from_the_seed():
    heads = [s for s in SiteGrid(6, 6) if s.kind == "head"]
    rng = np.random.default_rng(0)
    values = {"overlap": rng.random(36), "next": np.r_[np.ones(6), rng.random(30) / 2]}
    table = core_attention(each_alike(values), heads, heads[:6], 300, 1)
    again = core_attention(each_alike(values), heads, heads[:6], 300, 1)
    assert table.equals(again)
    p = dict(zip(table.attention, table.p, strict=True))
    assert p["next"] == pytest.approx(2 / 301)
    assert p["overlap"] > 0.05


def test_a_core_of_all_heads_has_no_rest():
    for core in (HEADS, []):
        with pytest.raises(InputError, match="two groups are compared"):
            core_attention(each_alike({"overlap": np.arange(8.0)}), HEADS, core, 10, 0)


def test_the_interval_of_the_difference_is_over_examples():
    rng = np.random.default_rng(3)
    queries = rng.integers(2, 9, size=200)
    sums = rng.random((200, 8)) * queries[:, None]
    sums[:, 1] += 0.5 * queries
    found = AttentionSums({"overlap": sums}, queries)
    row = core_attention(found, HEADS, [HEADS[1]], 2_000, 0).iloc[0]
    assert row.low < row.difference < row.high
    assert row.difference == pytest.approx(0.5, abs=0.05)
    contrast = (sums[:, 1] - np.delete(sums, 1, axis=1).mean(1)) / queries
    spread = np.sqrt(np.average((contrast - row.difference) ** 2, weights=queries) / 200)
    assert row.high - row.low == pytest.approx(2 * 1.96 * spread, rel=0.25)

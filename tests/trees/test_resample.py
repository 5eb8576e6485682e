"""Pairs that differ only beyond a height: what stays, what changes, and that both are samples."""

from __future__ import annotations

import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.trees import Grammar, belief_propagation, resample_beyond, sample

GRAMMAR = Grammar.random(3, 3, seed=2)


@pytest.mark.parametrize("height", [0, 1, 2, 3])
def test_the_own_block_stays_and_the_rest_is_a_tree_under_the_same_ancestor(height):
    drawn = sample(GRAMMAR, 300, 0, 1, ancestors=True)
    places = torch.arange(300) % 8
    other = resample_beyond(drawn, GRAMMAR, places, height, seed=3)
    own = torch.arange(8) // 2**height == (places // 2**height)[:, None]
    assert torch.equal(other[own], drawn.leaves[own])
    changed = (other != drawn.leaves)[~own]
    assert height == 3 or changed.float().mean() > 0.4
    seen = belief_propagation(GRAMMAR, other, levels={3 - height})
    assert torch.isfinite(seen.log_evidence).all()
    nodes = seen.nodes[3 - height][torch.arange(300), places // 2**height]
    truth = drawn.levels[3 - height][torch.arange(300), places // 2**height]
    assert (nodes.gather(1, truth[:, None]) > 0).all()


def test_resampled_sequences_have_the_grammars_own_statistics():
    drawn = sample(GRAMMAR, 20_000, 0, 1, ancestors=True)
    other = resample_beyond(drawn, GRAMMAR, torch.zeros(20_000, dtype=torch.long), 1, pool=4_096)
    for place in (1, 4, 7):
        ours = torch.bincount(other[:, place], minlength=3) / 20_000
        theirs = torch.bincount(drawn.leaves[:, place], minlength=3) / 20_000
        assert (ours - theirs).abs().sum() < 0.08


@pytest.mark.parametrize("height", [0, 1, 2])
def test_a_rare_symbol_takes_more_trees(height):
    """Of two trees at a time most lack a symbol that is asked for."""
    drawn = sample(GRAMMAR, 50, 0, 1, ancestors=True)
    places = torch.arange(50) % 8
    other = resample_beyond(drawn, GRAMMAR, places, height, seed=3, pool=2)
    own = torch.arange(8) // 2**height == (places // 2**height)[:, None]
    assert torch.equal(other[own], drawn.leaves[own])
    seen = belief_propagation(GRAMMAR, other, levels={3 - height})
    assert torch.isfinite(seen.log_evidence).all()
    truth = drawn.levels[3 - height][torch.arange(50), places // 2**height]
    nodes = seen.nodes[3 - height][torch.arange(50), places // 2**height]
    assert (nodes.gather(1, truth[:, None]) > 0).all()


def test_what_cannot_be_resampled():
    drawn = sample(GRAMMAR, 4, 0, 1, ancestors=True)
    places = torch.zeros(4, dtype=torch.long)
    with pytest.raises(InputError, match="height 4"):
        resample_beyond(drawn, GRAMMAR, places, 4)
    with pytest.raises(InputError, match="ancestors=True"):
        resample_beyond(sample(GRAMMAR, 4, 0, 1), GRAMMAR, places, 1)
    with pytest.raises(InputError, match="larger pool"):
        resample_beyond(drawn, GRAMMAR, places, 3, pool=0)
    for wrong in (places[:3], places + 8, places - 1):
        with pytest.raises(InputError, match="places for 4 sequences; give each a leaf, 0 to 7"):
            resample_beyond(drawn, GRAMMAR, wrong, 1)

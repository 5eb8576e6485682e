"""Tree grammars, hierarchical filtering, exact inference, and the network that computes it."""

from mechprobe.trees.belief_propagation import Beliefs, belief_propagation
from mechprobe.trees.construction import (
    Construction,
    attention_scores,
    construct,
    sibling_attention,
    split_state,
)
from mechprobe.trees.enumeration import AllTrees, enumerate_trees
from mechprobe.trees.grammar import Grammar
from mechprobe.trees.ladder import (
    BlockBeliefs,
    Closest,
    FilterLadder,
    block_beliefs,
    block_ladder,
    bp_ladder,
    closest_rung,
)
from mechprobe.trees.sampling import Sampler, TreeSamples, make_sampler, sample

__all__ = [
    "AllTrees",
    "Beliefs",
    "BlockBeliefs",
    "Closest",
    "Construction",
    "FilterLadder",
    "Grammar",
    "Sampler",
    "TreeSamples",
    "attention_scores",
    "belief_propagation",
    "block_beliefs",
    "block_ladder",
    "bp_ladder",
    "closest_rung",
    "construct",
    "enumerate_trees",
    "make_sampler",
    "sample",
    "sibling_attention",
    "split_state",
]

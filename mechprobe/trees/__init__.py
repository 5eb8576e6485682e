"""Tree grammars, hierarchical filtering, exact inference, and the network that computes it."""

from mechprobe.trees.belief_propagation import Beliefs, belief_propagation
from mechprobe.trees.construction import (
    Construction,
    attention_scores,
    construct,
    sibling_attention,
    split_state,
)
from mechprobe.trees.divergence import (
    agreement,
    change_points,
    closest_shares,
    divergences,
    inversions,
    level_parts,
)
from mechprobe.trees.enumeration import AllTrees, enumerate_trees
from mechprobe.trees.grammar import Grammar
from mechprobe.trees.heights import (
    AttentionByHeight,
    attention_by_height,
    common_heights,
    mass_by_height,
    uniform_mass,
)
from mechprobe.trees.ladder import (
    BlockBeliefs,
    Closest,
    FilterLadder,
    block_beliefs,
    block_ladder,
    bp_ladder,
    closest_rung,
)
from mechprobe.trees.resample import resample_beyond
from mechprobe.trees.sampling import Sampler, TreeSamples, make_sampler, sample

__all__ = [
    "AllTrees",
    "AttentionByHeight",
    "Beliefs",
    "BlockBeliefs",
    "Closest",
    "Construction",
    "FilterLadder",
    "Grammar",
    "Sampler",
    "TreeSamples",
    "agreement",
    "attention_by_height",
    "attention_scores",
    "belief_propagation",
    "block_beliefs",
    "block_ladder",
    "bp_ladder",
    "change_points",
    "closest_rung",
    "closest_shares",
    "common_heights",
    "construct",
    "divergences",
    "enumerate_trees",
    "inversions",
    "level_parts",
    "make_sampler",
    "mass_by_height",
    "resample_beyond",
    "sample",
    "sibling_attention",
    "split_state",
    "uniform_mass",
]

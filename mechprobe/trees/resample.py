"""Pairs of sequences that agree up to a height and differ beyond it, both from the grammar."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.trees.grammar import Grammar
from mechprobe.trees.sampling import TreeSamples, make_sampler


def resample_beyond(
    samples: TreeSamples,
    grammar: Grammar,
    places: Int[Tensor, " n"],
    height: int,
    *,
    seed: int = 0,
    pool: int = 4_096,
) -> Int[Tensor, "n leaf"]:
    """Each sequence with all but the block of a leaf drawn anew, given the block's ancestor.

    The block of ``arity ** height`` leaves around ``places[i]`` stays. The rest is the rest of
    another tree whose node above that block has the same symbol, so that the whole has the
    probability of a sample (given the block). Height 0 keeps the leaf alone, depth everything.

    Args:
        samples: with ancestors, of the same grammar, at filter level at most depth - height.
        places: the leaf of each sequence whose block stays.
        pool: trees drawn to choose from.

    Raises:
        InputError: no ancestors of that height, a height outside 0 .. depth, or a pool without any
            tree of a symbol that is asked for.
    """
    level = grammar.depth - height
    if not 0 <= height <= grammar.depth or level not in samples.levels:
        raise InputError(
            f"no nodes of height {height} in these samples (levels {sorted(samples.levels)}); "
            f"give a height of 0 to {grammar.depth} and samples drawn with ancestors=True"
        )
    generator = torch.Generator().manual_seed(seed)
    others = make_sampler(grammar, samples.k).draw(pool, generator, ancestors=True)
    width = grammar.arity**height
    blocks = places // width
    symbols = samples.levels[level].gather(1, blocks[:, None]).squeeze(1)
    there = others.levels[level][:, blocks].T == symbols[:, None]
    if not bool(there.any(1).all()):
        raise InputError(
            f"none of {pool} trees has symbol {int(symbols[~there.any(1)][0])} there; give a "
            "larger pool"
        )
    weights = torch.rand(there.shape, generator=generator) * there
    chosen = others.leaves[weights.argmax(1)].clone()
    own = torch.arange(grammar.n_leaves) // width == blocks[:, None]
    return torch.where(own, samples.leaves, chosen)

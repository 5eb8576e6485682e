"""Pairs of sequences that agree up to a height and differ beyond it, both from the grammar."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.trees.grammar import Grammar
from mechprobe.trees.sampling import Sampler, TreeSamples, make_sampler

_MOST_POOLS = 64


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
        pool: trees drawn to choose from; up to 64 times as many where a symbol is rare.

    Raises:
        InputError: no ancestors of that height, a height outside 0 .. depth, places that are none
            of the sequences' leaves, or no tree of a symbol that is asked for.
    """
    level = grammar.depth - height
    if not 0 <= height <= grammar.depth or level not in samples.levels:
        raise InputError(
            f"no nodes of height {height} in these samples (levels {sorted(samples.levels)}); "
            f"give a height of 0 to {grammar.depth} and samples drawn with ancestors=True"
        )
    if len(places) != len(samples) or not bool(((places >= 0) & (places < grammar.n_leaves)).all()):
        raise InputError(
            f"{len(places)} places for {len(samples)} sequences; give each a leaf, 0 to "
            f"{grammar.n_leaves - 1}"
        )
    generator = torch.Generator().manual_seed(seed)
    width = grammar.arity**height
    blocks = places // width
    symbols = samples.levels[level].gather(1, blocks[:, None]).squeeze(1)
    nodes, leaves = _trees_with(
        make_sampler(grammar, samples.k), level, blocks, symbols, pool, generator
    )
    there = nodes[:, blocks].T == symbols[:, None]
    weights = torch.rand(there.shape, generator=generator) * there
    chosen = leaves[weights.argmax(1)].clone()
    own = torch.arange(grammar.n_leaves) // width == blocks[:, None]
    return torch.where(own, samples.leaves, chosen)


def _trees_with(
    sampler: Sampler, level: int, blocks: Tensor, symbols: Tensor, pool: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Nodes [tree, node] of a level and leaves of trees that have every symbol at its node.

    One pool of them, or as many pools as a rare symbol takes.
    """
    wanted = torch.stack([blocks, symbols], dim=1).unique(dim=0)
    nodes, leaves = [], []
    for _ in range(_MOST_POOLS):
        drawn = sampler.draw(pool, generator, ancestors=True)
        nodes.append(drawn.levels[level])
        leaves.append(drawn.leaves)
        found = (drawn.levels[level][:, wanted[:, 0]] == wanted[:, 1]).any(0)
        wanted = wanted[~found]
        if len(wanted) == 0:
            return torch.cat(nodes), torch.cat(leaves)
    raise InputError(
        f"none of {_MOST_POOLS * pool} trees has symbol {int(wanted[0, 1])} there; give a larger "
        "pool"
    )

"""Ideal observers by how much of the hierarchy they use, and the one a model is closest to.

Two ladders. BP_k, exact inference under the grammar filtered at k, ignores correlations above level
k (Garnier-Brun et al. 2024, arXiv 2408.15138). B_s, ours, is exact inference under the
full grammar that sees only a leaf's own block of arity ** s leaves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.trees.belief_propagation import belief_propagation, check_leaves
from mechprobe.trees.grammar import Grammar


@dataclass(frozen=True, eq=False)
class FilterLadder:
    """Predictions of BP_k on the same sequences.

    Attributes:
        ks: the filter levels, in the order of the first axis.
        root: P(root | leaves), [k, n, q].
        masked: posteriors of the masked leaves in the order of ``mask.nonzero()``,
            [k, masked, q]; None without a mask.
    """

    ks: tuple[int, ...]
    root: Float[Tensor, "k n q"]
    masked: Float[Tensor, "k masked q"] | None


@dataclass(frozen=True, eq=False)
class BlockBeliefs:
    """What an observer of one block of leaves knows, block by block.

    Attributes:
        height: s; a block is the arity ** s leaves below one node of level depth - s.
        top: P(the node above the block | the block's leaves), [n, block, q].
        leaf_marginals: P(leaf | the other leaves of its block), [n, leaf, q].
    """

    height: int
    top: Float[Tensor, "n block q"]
    leaf_marginals: Float[Tensor, "n leaf q"]


@dataclass(frozen=True)
class Closest:
    """The rung a model is closest to.

    Attributes:
        rung: its name, k or s.
        divergence: its divergence from the model.
        runner_up: divergence of the second closest.
        ratio: runner_up / divergence; how clear the choice is.
    """

    rung: int
    divergence: float
    runner_up: float
    ratio: float


def bp_ladder(
    grammar: Grammar,
    leaves: Integer[Tensor, "n leaf"],
    mask: Bool[Tensor, "n leaf"] | None = None,
    ks: Sequence[int] | None = None,
    *,
    dtype: torch.dtype = torch.float64,
) -> FilterLadder:
    """Root and masked-leaf posteriors of BP_k for each k; all of 0 .. depth unless ``ks`` is given.

    Raises:
        InputError: a k is outside 0 .. depth, or the leaves or the mask do not fit.
    """
    ks = tuple(range(grammar.depth + 1)) if ks is None else tuple(ks)
    if not ks:
        raise InputError("an empty ladder; give at least one filter level")
    rungs = [
        belief_propagation(
            grammar, leaves, k, mask=mask, levels=(), leaf_marginals=mask is not None, dtype=dtype
        )
        for k in ks
    ]
    masked = None if mask is None else torch.stack([rung.masked for rung in rungs])
    return FilterLadder(ks, torch.stack([rung.root for rung in rungs]), masked)


def block_beliefs(
    grammar: Grammar,
    leaves: Integer[Tensor, "n leaf"],
    height: int,
    *,
    mask: Bool[Tensor, "n leaf"] | None = None,
    dtype: torch.dtype = torch.float64,
) -> BlockBeliefs:
    """Posteriors under the full grammar of observers that each see one block of leaves.

    ``top`` is the ceiling of any probe for ancestors that reads a representation of the block only;
    ``leaf_marginals`` is B_s.

    Raises:
        InputError: ``height`` is outside 0 .. depth, or the leaves or the mask do not fit.
    """
    mask = check_leaves(grammar, leaves, mask)
    _check_height(grammar, height)
    n, width = len(leaves), grammar.arity**height
    n_blocks = grammar.n_leaves // width
    places = torch.arange(n_blocks, device=leaves.device).repeat(n)
    top, leaf = _observe(
        grammar,
        leaves.reshape(-1, width),
        places,
        height,
        None if mask is None else mask.reshape(-1, width),
        dtype,
    )
    return BlockBeliefs(
        height, top.view(n, n_blocks, -1), leaf.reshape(n, grammar.n_leaves, grammar.q)
    )


def block_ladder(
    grammar: Grammar,
    leaves: Integer[Tensor, "n leaf"],
    mask: Bool[Tensor, "n leaf"],
    heights: Sequence[int] | None = None,
    *,
    dtype: torch.dtype = torch.float64,
) -> Float[Tensor, "height masked q"]:
    """Posteriors of masked leaves under B_s for each s; all of 0 .. depth unless given.

    In the order of ``mask.nonzero()``. B_0 sees nothing, B_depth is BP_0.

    Raises:
        InputError: a height is outside 0 .. depth, or the leaves or the mask do not fit.
    """
    masked = check_leaves(grammar, leaves, mask)
    assert masked is not None
    rungs = []
    for height in range(grammar.depth + 1) if heights is None else heights:
        _check_height(grammar, height)
        width = grammar.arity**height
        hidden = masked.reshape(-1, width)
        rows = hidden.any(1).nonzero().squeeze(1)
        places = rows % (grammar.n_leaves // width)
        blocks = leaves.reshape(-1, width)[rows]
        _, leaf = _observe(grammar, blocks, places, height, hidden[rows], dtype)
        rungs.append(leaf[hidden[rows]])
    if not rungs:
        raise InputError("an empty ladder; give at least one height")
    return torch.stack(rungs)


def closest_rung(divergences: Sequence[float], rungs: Sequence[int] | None = None) -> Closest:
    """The rung of least divergence, and by what ratio it is ahead of the next.

    ``rungs`` names them; 0, 1, 2, ... unless given. Of equal ones the first is taken.

    Raises:
        InputError: fewer than two divergences, one is NaN, or their names are not as many.
    """
    values = [float(value) for value in divergences]
    names = list(range(len(values))) if rungs is None else list(rungs)
    if len(values) < 2 or len(names) != len(values) or any(map(math.isnan, values)):
        raise InputError(
            f"divergences {values} of rungs {names}; expected two or more numbers, one a rung"
        )
    best = min(range(len(values)), key=values.__getitem__)
    second = min(values[:best] + values[best + 1 :])
    ratio = second / values[best] if values[best] > 0 else math.inf
    return Closest(names[best], values[best], second, ratio)


def _observe(
    grammar: Grammar,
    blocks: Tensor,
    places: Tensor,
    height: int,
    mask: Tensor | None,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Posterior of the top node [block, q] and leaf marginals [block, leaf, q] of given blocks."""
    marginals = grammar.node_marginals(grammar.depth - height).mean(1)
    prior = marginals.to(blocks.device)[places]
    if height > 0:
        below = Grammar(grammar.transition, height)
        seen = belief_propagation(below, blocks, mask=mask, prior=prior, levels=(), dtype=dtype)
        assert seen.leaf_marginals is not None
        return seen.root, seen.leaf_marginals
    prior = prior.to(dtype)
    likelihood = torch.nn.functional.one_hot(blocks[:, 0].long(), grammar.q).to(dtype)
    if mask is not None:
        likelihood = torch.where(mask, 1, likelihood)
    weight = prior * likelihood
    total = weight.sum(-1, keepdim=True)
    return weight / (total + (total == 0)), prior[:, None]


def _check_height(grammar: Grammar, height: int) -> None:
    if not 0 <= height <= grammar.depth:
        raise InputError(f"block height {height} is not possible; give 0..{grammar.depth}")

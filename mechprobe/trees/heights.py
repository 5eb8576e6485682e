"""Attention by the height at which query and key meet: which length scale does a head look at?

The lowest common ancestor of two leaves has height 0 (the same leaf) to depth (the root). Uniform
attention puts (arity ** h - arity ** (h - 1)) / n_leaves on height h.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechprobe.errors import InputError

_DRAWS_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class AttentionByHeight:
    """How much of each head's attention goes to each height, beside chance.

    Attributes:
        heads: names "layer.head", in the order of the first axis.
        mass: mean share of attention on keys at each height 0 .. depth; a row sums to one.
        low, high: 95 % bootstrap interval of ``mass`` over sequences.
        uniform: share under uniform attention.
        null: mean share when positions are relabelled at random.
        p: share of relabellings with at least that much mass on the height, never 0.
        p_strongest: at each height, share of relabellings in which some head has at least the mass
            that the strongest head has: p of "some head", corrected for the choice among heads.
        n_null: relabellings drawn.
    """

    heads: tuple[str, ...]
    mass: Float[np.ndarray, "head height"]
    low: Float[np.ndarray, "head height"]
    high: Float[np.ndarray, "head height"]
    uniform: Float[np.ndarray, " height"]
    null: Float[np.ndarray, "head height"]
    p: Float[np.ndarray, "head height"]
    p_strongest: Float[np.ndarray, " height"]
    n_null: int

    @property
    def enrichment(self) -> Float[np.ndarray, "head height"]:
        """Mass over uniform mass; 1 is chance."""
        return self.mass / self.uniform

    @property
    def mean_height(self) -> Float[np.ndarray, " head"]:
        """Mean height that each head looks at."""
        return self.mass @ np.arange(self.mass.shape[1])

    def table(self) -> pd.DataFrame:
        """One row a head and height."""
        rows = []
        for i, head in enumerate(self.heads):
            for h in range(self.mass.shape[1]):
                rows.append({
                    "head": head, "height": h, "mass": self.mass[i, h], "low": self.low[i, h],
                    "high": self.high[i, h], "uniform": self.uniform[h],
                    "enrichment": self.enrichment[i, h], "null": self.null[i, h],
                    "p": self.p[i, h], "p_strongest": self.p_strongest[h],
                })
        return pd.DataFrame(rows)


def common_heights(depth: int, arity: int = 2) -> Int[Tensor, "pos pos"]:
    """Height of the lowest common ancestor of every two leaves.

    Raises:
        InputError: depth below 1 or arity below 2.
    """
    if depth < 1 or arity < 2:
        raise InputError(f"no trees of depth {depth} and arity {arity}; give 1 and 2 or more")
    places = torch.arange(arity**depth)
    above = torch.stack([places // arity**h for h in range(depth + 1)])
    return (above[:, :, None] != above[:, None, :]).sum(0)


def uniform_mass(depth: int, arity: int = 2) -> Float[Tensor, " height"]:
    """Share of the keys at each height 0 .. depth, the same for every query."""
    blocks = torch.tensor([arity**h for h in range(depth + 1)], dtype=torch.float64)
    return torch.cat([blocks[:1], blocks.diff()]) / blocks[-1]


def mass_by_height(
    patterns: Float[Tensor, "*lead query key"], depth: int, arity: int = 2
) -> Float[Tensor, "*lead query height"]:
    """Attention of each query summed over the keys at each height 0 .. depth.

    Raises:
        InputError: patterns of another length than the trees' leaves.
    """
    heights = _fitting_heights(patterns.shape, depth, arity).to(patterns.device)
    at = torch.nn.functional.one_hot(heights, depth + 1).to(patterns.dtype)
    return torch.einsum("...qk,qkh->...qh", patterns, at)


def attention_by_height(
    patterns: Mapping[int, Float[Tensor, "n head query key"]],
    depth: int,
    arity: int = 2,
    *,
    queries: Bool[Tensor, "n query"] | None = None,
    n_null: int = 1_000,
    seed: int = 0,
) -> AttentionByHeight:
    """Mass by height of every head, with bootstrap intervals and a permutation null.

    The null relabels the positions of the mean attention map, queries and keys alike, which keeps
    the map's own shape (its sharpness, its diagonal) and breaks its relation to the tree. Height 0,
    the diagonal, is therefore never told from chance, and on few leaves some relabellings are the
    tree itself: at depth 3 a head that looks at height 3 alone has p = .33, at depth 4 p = .02.

    Args:
        patterns: attention weights by layer, as ``models.attention_patterns`` gives them.
        queries: true for the queries that count (masked leaves, say); None: all.
        n_null: relabellings.

    Raises:
        InputError: patterns that do not fit the trees, or a sequence without a query.
    """
    if not patterns:
        raise InputError("no attention patterns; give at least one layer")
    names = tuple(f"{layer}.{i}" for layer, p in patterns.items() for i in range(p.shape[1]))
    maps = torch.cat([p.detach().double().cpu() for p in patterns.values()], dim=1)
    heights = _fitting_heights(maps.shape, depth, arity)
    weight = torch.ones(maps.shape[0], maps.shape[2], dtype=torch.float64)
    if queries is not None:
        weight = queries.cpu().double()
    if bool((weight.sum(1) == 0).any()):
        raise InputError("a sequence has no query that counts; mark at least one in each")
    weight = weight / weight.sum(1, keepdim=True)
    each = torch.einsum("nq,nhqk->nhqk", weight, maps)
    at = torch.nn.functional.one_hot(heights, depth + 1).double()
    by_sequence = torch.einsum("nhqk,qks->nhs", each, at).numpy()
    mass = by_sequence.mean(0)
    low, high = _bootstrap(by_sequence, seed)
    null = _relabelled(each.mean(0), at, n_null, seed)
    p = (1 + (null >= mass - 1e-12).sum(0)) / (1 + n_null)
    best = (1 + (null.max(1) >= mass.max(0) - 1e-12).sum(0)) / (1 + n_null)
    return AttentionByHeight(
        names, mass, low, high, uniform_mass(depth, arity).numpy(), null.mean(0), p, best, n_null
    )


def _relabelled(
    mean_map: Float[Tensor, "head query key"], at: Float[Tensor, "query key height"], n: int,
    seed: int,
) -> Float[np.ndarray, "draw head height"]:
    """Mass by height of the mean map under random relabellings of the positions."""
    rng = np.random.default_rng([seed, 11])
    pos = at.shape[0]
    out = []
    for start in range(0, n, _DRAWS_AT_ONCE):
        draws = min(_DRAWS_AT_ONCE, n - start)
        orders = torch.from_numpy(np.stack([rng.permutation(pos) for _ in range(draws)]))
        moved = at[orders[:, :, None], orders[:, None, :]]
        out.append(torch.einsum("hqk,dqks->dhs", mean_map, moved))
    return torch.cat(out).numpy()


def _bootstrap(
    by_sequence: Float[np.ndarray, "n head height"], seed: int, draws: int = 1_000
) -> tuple[Float[np.ndarray, "head height"], Float[np.ndarray, "head height"]]:
    rng = np.random.default_rng([seed, 12])
    n = len(by_sequence)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=draws) / n
    means = np.einsum("dn,nhs->dhs", counts, by_sequence)
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    return low, high


def _fitting_heights(shape: torch.Size, depth: int, arity: int) -> Int[Tensor, "pos pos"]:
    heights = common_heights(depth, arity)
    if tuple(shape[-2:]) != tuple(heights.shape):
        raise InputError(
            f"attention over {shape[-2]} queries and {shape[-1]} keys; trees of depth {depth} and "
            f"arity {arity} have {len(heights)} leaves"
        )
    return heights

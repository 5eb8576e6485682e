"""Belief propagation written out as one attention and one update a layer: planted truth.

An encoder of as many layers as the tree has levels computes exact inference, after the existence
argument of Garnier-Brun et al. 2024, arXiv 2408.15138.
Layer h attends, by position alone, to the sibling block: the leaves whose lowest common ancestor
with the query has height h. Every leaf of a block carries the same upward message, so a uniform
mean over the sibling block fetches the sibling's message; the update then combines it with the own
one, bilinearly. The state of a leaf is a vector of q^2 + 2q + depth numbers:

- u [q]: upward message of its ancestor at the layer's height (the leaf's evidence at first);
- s [q]: the attention slot, the sibling's upward message;
- R [q, q]: P(the block's other leaves, this leaf = b | ancestor = a) as [a, b], identity at first;
- bits [depth]: its position, +1 or -1, the root's split first.

u and R are scaled to sum one. Under filter k the layers above height depth - k carry messages to
the root, so their update multiplies them. Binary trees only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.trees.belief_propagation import check_leaves
from mechprobe.trees.grammar import Grammar
from mechprobe.trees.heights import common_heights
from mechprobe.trees.messages import nonzero

SHARPNESS = 25.0
"""Scale of the attention scores: other keys get exp(-2 * 25) of a sibling's weight."""


class State(NamedTuple):
    """The named parts of a state, each a view of it."""

    u: Float[Tensor, "*lead q"]
    s: Float[Tensor, "*lead q"]
    r: Float[Tensor, "*lead q q"]
    bits: Float[Tensor, "*lead depth"]


@dataclass(frozen=True, eq=False)
class Construction:
    """Everything the constructed network computes on some sequences.

    Attributes:
        attention: weights of each layer, [layer, query, key]; the same for all sequences.
        states: state before the first layer and after each, [layer + 1, n, pos, width].
        root: P(root | leaves), [n, q].
        leaf_marginals: P(leaf | all other leaves), [n, pos, q].
    """

    attention: Float[Tensor, "layer pos pos"]
    states: Float[Tensor, "state n pos width"]
    root: Float[Tensor, "n q"]
    leaf_marginals: Float[Tensor, "n pos q"]


def construct(
    grammar: Grammar,
    leaves: Integer[Tensor, "n pos"],
    k: int = 0,
    *,
    mask: Bool[Tensor, "n pos"] | None = None,
    dtype: torch.dtype = torch.float64,
) -> Construction:
    """Run the construction: equal to belief propagation filtered at ``k``, layer by layer.

    Raises:
        InputError: the grammar is not binary, k is outside 0 .. depth, or leaves do not fit.
    """
    grammar.check_level(k)
    state = initial_state(grammar, leaves, mask=mask, dtype=dtype)
    states, maps = [state], []
    for height in range(1, grammar.depth + 1):
        state, weights = layer(grammar, state, height, k)
        states.append(state)
        maps.append(weights)
    return Construction(
        attention=torch.stack(maps),
        states=torch.stack(states),
        root=read_root(grammar, state),
        leaf_marginals=read_leaves(grammar, state),
    )


def position_bits(depth: int) -> Float[Tensor, "pos depth"]:
    """+1 or -1 for right or left at each split from the root to each leaf, [pos, split]."""
    places = torch.arange(2**depth)[:, None]
    splits = torch.arange(depth - 1, -1, -1)
    return (places >> splits & 1).double() * 2 - 1


def attention_scores(
    bits: Float[Tensor, "pos depth"], height: int, sharpness: float = SHARPNESS
) -> Float[Tensor, "pos pos"]:
    """Scores [query, key] that are largest, and equal, on the sibling block at a height.

    A bilinear form of the position bits: agreement on the splits above the common ancestor minus
    agreement on its own split.
    """
    sign = torch.zeros(bits.shape[1], dtype=bits.dtype, device=bits.device)
    split = bits.shape[1] - height
    sign[:split], sign[split] = sharpness, -sharpness
    return (bits * sign) @ bits.T


def sibling_attention(depth: int, arity: int = 2) -> Float[Tensor, "layer pos pos"]:
    """The ideal maps: layer h - 1 is uniform over the leaves whose common ancestor has height h."""
    heights = common_heights(depth, arity)
    siblings = torch.stack([(heights == h).double() for h in range(1, depth + 1)])
    return siblings / siblings.sum(-1, keepdim=True)


def state_width(q: int, depth: int) -> int:
    """Numbers in a state: q^2 + 2q + depth."""
    return q * q + 2 * q + depth


def split_state(state: Float[Tensor, "*lead width"], q: int) -> State:
    """The parts u, s, R and position bits of states."""
    u, s, r, bits = state.split([q, q, q * q, state.shape[-1] - state_width(q, 0)], dim=-1)
    return State(u, s, r.unflatten(-1, (q, q)), bits)


def initial_state(
    grammar: Grammar,
    leaves: Integer[Tensor, "n pos"],
    *,
    mask: Bool[Tensor, "n pos"] | None = None,
    dtype: torch.dtype = torch.float64,
) -> Float[Tensor, "n pos width"]:
    """The embedding: evidence in u (uniform where masked), an empty slot, R = identity, bits.

    Raises:
        InputError: the grammar is not binary, or the leaves or the mask do not fit.
    """
    if grammar.arity != 2:
        raise InputError(f"the construction is for binary trees; these have arity {grammar.arity}")
    mask = check_leaves(grammar, leaves, mask)
    q, (n, pos) = grammar.q, leaves.shape
    u = torch.nn.functional.one_hot(leaves.long(), q).to(dtype)
    if mask is not None:
        u = torch.where(mask[..., None], 1 / q, u)
    r = torch.eye(q, dtype=dtype, device=leaves.device).expand(n, pos, q, q) / q
    bits = position_bits(grammar.depth).to(u).expand(n, -1, -1)
    return torch.cat([u, torch.zeros_like(u), r.flatten(2), bits], dim=-1)


def layer(
    grammar: Grammar, state: Float[Tensor, "n pos width"], height: int, k: int
) -> tuple[Float[Tensor, "n pos width"], Float[Tensor, "pos pos"]]:
    """State after the layer of one height, and its attention weights [query, key]."""
    u, _, r, bits = split_state(state, grammar.q)
    weights = attention_scores(bits[0], height).softmax(dim=-1)
    s = torch.einsum("ij,njq->niq", weights, u)
    new_u, new_r = update(grammar, State(u, s, r, bits), height, k)
    return torch.cat([new_u, s, new_r.flatten(2), bits], dim=-1), weights


def update(
    grammar: Grammar, state: State, height: int, k: int
) -> tuple[Float[Tensor, "n pos q"], Float[Tensor, "n pos q q"]]:
    """New u and R of the layer of one height, once the slot s holds the sibling's message."""
    u, s, r, bits = state
    if height <= grammar.depth - k:
        new_u, new_r = _combine(grammar.transition.to(u), u, s, r, bits[..., -height])
    else:
        seen, sent, path = u, s, r
        if height == grammar.depth - k + 1:
            seen, sent, path = _to_root(grammar, k, u, s, r, bits)
        new_u, new_r = seen * sent, sent[..., None] * path
    new_u = new_u / nonzero(new_u.sum(-1, keepdim=True))
    return new_u, new_r / nonzero(new_r.sum((-2, -1), keepdim=True))


def read_root(grammar: Grammar, state: Float[Tensor, "n pos width"]) -> Float[Tensor, "n q"]:
    """P(root | leaves) from the last state: the upward message, under a uniform prior."""
    return split_state(state, grammar.q).u[:, 0]


def read_leaves(grammar: Grammar, state: Float[Tensor, "n pos width"]) -> Float[Tensor, "n pos q"]:
    """P(leaf = b | other leaves) from the last state: sum over a of P(root = a) R[a, b]."""
    return split_state(state, grammar.q).r.sum(-2)


def _combine(
    rules: Tensor, u: Tensor, s: Tensor, r: Tensor, bit: Tensor
) -> tuple[Tensor, Tensor]:
    """One step up the tree: own and sibling message under the rules, in the order of the bit."""
    left = torch.einsum("abc,nic->niab", rules, s)
    right = torch.einsum("acb,nic->niab", rules, s)
    step = torch.where(rearrange(bit, "n i -> n i 1 1") < 0, left, right)
    return torch.einsum("niab,nib->nia", step, u), step @ r


def _to_root(
    grammar: Grammar, k: int, u: Tensor, s: Tensor, r: Tensor, bits: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Messages of level-k nodes as messages to the root, for own node and sibling."""
    marginals = grammar.node_marginals(k).to(u)
    place = (bits[0, :, :k] > 0).long() @ 2 ** torch.arange(k - 1, -1, -1, device=u.device)
    own, other = marginals[place], marginals[place ^ 1]
    seen = torch.einsum("iab,nib->nia", own, u)
    sent = torch.einsum("iab,nib->nia", other, s)
    return seen, sent, own @ r

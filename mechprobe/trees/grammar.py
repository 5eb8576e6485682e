"""Random tree grammars: one table of rules for every node of a complete tree of fixed depth.

Garnier-Brun, Mezard, Moscato, Saglietti 2024, "How transformers learn structured data: insights
from hierarchical filtering", arXiv 2408.15138. A node with symbol a gets the symbols of
its children from P(children | a); the root is uniform. Children are ordered, node j of a level has
the children arity * j .. arity * j + arity - 1 of the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from mechprobe.errors import InputError

_SUM_TOLERANCE = 1e-5


@dataclass(frozen=True, eq=False)
class Grammar:
    """The rules and the depth of a tree; make one with ``Grammar.random`` or ``from_tensor``.

    Attributes:
        transition: P(children | parent), float64 [parent, first child, ..., last child]; each
            parent's entries sum to one. Gradients flow through it.
        depth: levels below the root; the leaves are level ``depth``.

    Raises:
        InputError: the tensor is no table of rules (axes, signs, sums), or the depth is below 1.
    """

    transition: Float64[Tensor, "q first *others"]
    depth: int

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise InputError(f"depth={self.depth} is not possible; give a tree of depth 1 or more")
        _check_rules(self.transition.detach())

    @property
    def q(self) -> int:
        """How many symbols there are; they are 0 .. q - 1."""
        return self.transition.shape[0]

    @property
    def arity(self) -> int:
        """Children of a node; 2 for the published trees."""
        return self.transition.ndim - 1

    @property
    def n_leaves(self) -> int:
        """Length of a sequence: arity ** depth."""
        return self.arity**self.depth

    @classmethod
    def random(
        cls, q: int, depth: int, sigma: float = 1.0, seed: int = 0, arity: int = 2
    ) -> Grammar:
        """An unambiguous random grammar; the same arguments give the same rules.

        The q ** arity ordered child tuples are shuffled and split into q equal groups, one a
        parent, so that children determine their parent; within a group the probabilities are
        softmax(sigma * N(0, 1)) (Garnier-Brun et al. 2024). ``sigma`` 0 makes a
        parent's rules equally likely, a large one makes a single rule certain.

        >>> Grammar.random(q=4, depth=4).transition.shape
        torch.Size([4, 4, 4])

        Raises:
            InputError: q or arity below 2, depth below 1, sigma or seed negative.
        """
        if q < 2 or arity < 2 or not 0 <= sigma < float("inf") or seed < 0:
            raise InputError(
                f"no grammar of q={q}, arity={arity}, sigma={sigma}, seed={seed}; expected q and "
                "arity of 2 or more, sigma and seed of 0 or more"
            )
        rng = np.random.default_rng(seed)
        groups = rng.permutation(q**arity).reshape(q, q ** (arity - 1))
        weights = torch.from_numpy(sigma * rng.standard_normal(groups.shape)).softmax(dim=-1)
        table = torch.zeros(q, q**arity, dtype=torch.float64)
        table.scatter_(1, torch.from_numpy(groups), weights)
        return cls(table.reshape([q] * (arity + 1)), depth)

    @classmethod
    def from_tensor(
        cls,
        transition: Float[Tensor, "..."] | Float[np.ndarray, "..."],
        depth: int,
        *,
        unambiguous: bool = False,
    ) -> Grammar:
        """A grammar of the user's own rules, [parent, first child, ..., last child].

        Three axes make binary trees, four ternary ones. The rules are kept in float64 as they are,
        with their autograd graph.

        Raises:
            InputError: the axes differ in length or are fewer than three, an entry is negative or
                not finite, a parent's entries do not sum to one, or ``unambiguous`` is asked for
                and some children have two possible parents.
        """
        table = torch.as_tensor(transition).to(torch.float64)
        _check_rules(table.detach())
        grammar = cls(table, depth)
        if unambiguous and not grammar.unambiguous:
            parents = (table.detach() > 0).sum(0)
            children = tuple(int(i) for i in (parents > 1).nonzero()[0])
            raise InputError(
                f"the rules are ambiguous: children {children} have {int(parents[children])} "
                "possible parents; give each child tuple one parent, or do not ask for unambiguous "
                "rules"
            )
        return grammar

    @cached_property
    def unambiguous(self) -> bool:
        """Whether every child tuple has at most one possible parent."""
        return bool(((self.transition.detach() > 0).sum(0) <= 1).all())

    @property
    def child_marginals(self) -> tuple[Float64[Tensor, "q q"], ...]:
        """P(child i = b | parent = a) as [a, b], one matrix for each child."""
        axes = range(1, self.arity + 1)
        return tuple(self.transition.sum([d for d in axes if d != kept]) for kept in axes)

    @property
    def left(self) -> Float64[Tensor, "q q"]:
        """P(first child = b | parent = a) as [a, b]."""
        return self.child_marginals[0]

    @property
    def right(self) -> Float64[Tensor, "q q"]:
        """P(last child = b | parent = a) as [a, b]."""
        return self.child_marginals[-1]

    def node_marginals(self, level: int) -> Float64[Tensor, "node q q"]:
        """P(node j of ``level`` = b | root = a) as [j, a, b]: child marginals along j's path.

        Raises:
            InputError: the tree has no such level.
        """
        if not 0 <= level <= self.depth:
            raise InputError(f"no level {level} in a tree of depth {self.depth}")
        marginals = torch.eye(self.q, dtype=torch.float64, device=self.transition.device)[None]
        steps = torch.stack(self.child_marginals)
        for _ in range(level):
            marginals = torch.einsum("jab,ibc->jiac", marginals, steps).flatten(0, 1)
        return marginals

    def check_level(self, k: int) -> None:
        """Refuse a filter level outside 0 .. depth.

        Raises:
            InputError: k is outside 0 .. depth.
        """
        if not 0 <= k <= self.depth:
            raise InputError(
                f"filter level k={k} is not possible for depth {self.depth}; give k in "
                f"0..{self.depth} (0: full hierarchy, {self.depth}: leaves independent given root)"
            )


def _check_rules(table: Tensor) -> None:
    shape = tuple(table.shape)
    if len(shape) < 3 or len(set(shape)) != 1 or shape[0] < 2:
        raise InputError(
            f"rules of shape {shape}; expected [q, q, q] for binary trees (parent, left, right), "
            "or one more axis of length q for each further child, q at least 2"
        )
    if not bool(torch.isfinite(table).all()) or bool((table < 0).any()):
        raise InputError("rules are probabilities; some entry is negative, infinite or NaN")
    off = (table.flatten(1).sum(1) - 1).abs()
    if float(off.max()) > _SUM_TOLERANCE:
        worst = int(off.argmax())
        raise InputError(
            f"the rules of parent {worst} sum to {float(table[worst].sum()):.6g}; expected 1; "
            "divide each parent's entries by their sum"
        )

"""The three sweeps of belief propagation on one chunk of sequences.

Messages are [symbol, node, sequence], so that every operation runs over a long last axis. Nodes are
stored with the digits of their path reversed (``stored_order``): the first children of a level's
nodes come first, all of them together, and are a contiguous slice. Messages are scaled to sum one
where they are not zero; scales are constants to autograd, which leaves every derivative exact.
Cavities come from products over siblings, never from a division, so that zeros are harmless.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

_HIGHEST = 80.0  # exponent given to a root symbol of weight zero, whose derivative may be large


def stored_order(arity: int, level: int, device: torch.device) -> Tensor:
    """Which node of a level each stored place holds; the order is its own inverse."""
    places = torch.arange(arity**level, device=device)
    nodes = torch.zeros_like(places)
    for _ in range(level):
        nodes = nodes * arity + places % arity
        places = places // arity
    return nodes


@dataclass(frozen=True, eq=False)
class Rules:
    """A grammar's tables in the dtype, device and order of the sweeps.

    Attributes:
        table: rules [parent, child tuple].
        top: P(node of level k = b | root = a) as [node, a, b], or None for k = 0.
        arity: children of a node.
        depth: level of the leaves.
        k: filter level.
    """

    table: Tensor
    top: Tensor | None
    arity: int
    depth: int
    k: int


@dataclass(frozen=True, eq=False)
class Root:
    """What meets at the root.

    Attributes:
        weight: unnormalised posterior [q, sequence], relative to ``log_scale``.
        log_scale: [sequence], float64.
        cavity: messages down to the nodes of level k, [q, node, sequence].
    """

    weight: Tensor
    log_scale: Tensor
    cavity: Tensor


def upward(rules: Rules, evidence: Tensor) -> tuple[dict[int, Tensor], Tensor]:
    """Messages by level k .. depth from leaf evidence [q, leaf, sequence], and their log scale.

    u(a) = sum over children of P(children | a) times the children's messages.
    """
    q, _, n = evidence.shape
    messages = {rules.depth: evidence}
    log_scale = evidence.new_zeros(n, dtype=torch.float64)
    for level in range(rules.depth - 1, rules.k - 1, -1):
        children = _children(messages[level + 1], rules.arity)
        sums = rules.table @ _outer(children)
        message, scale = _scaled(sums)
        messages[level] = message.view(q, rules.arity**level, n)
        log_scale = log_scale + scale.log().view(rules.arity**level, n).sum(0, dtype=torch.float64)
    return messages, log_scale


def meet(rules: Rules, message: Tensor, prior: Tensor) -> Root:
    """Posterior of the root from the messages of level k, and what it sends back to each.

    ``prior`` is [q, sequence].

    Products over up to thousands of nodes are taken in pairs (or triples) up a tree, each factor as
    a mantissa times an exponent of its own, so that none can underflow; on the way down each node
    gets the product of all others.
    """
    q, arity = len(prior), rules.arity
    seen = message if rules.top is None else torch.einsum("jab,bjn->ajn", rules.top, message)
    scale = nonzero(seen.detach())
    mantissas, exponents = [seen / scale], [scale.double().log()]
    for level in range(rules.k - 1, -1, -1):
        shape = (q, arity, arity**level, message.shape[-1])
        mantissas.append(_product(mantissas[-1].view(shape).unbind(1)))
        exponents.append(exponents[-1].view(shape).sum(1))
    weight, log_scale = _values(prior * mantissas[-1].squeeze(1), exponents[-1].squeeze(1))
    mantissa, exponent = prior[:, None].expand_as(mantissas[-1]), torch.zeros_like(exponents[-1])
    for level in range(rules.k):
        below = rules.k - 1 - level
        shape = (q, arity, arity**level, message.shape[-1])
        factors = mantissas[below].view(shape).unbind(1)
        powers = exponents[below].view(shape)
        mantissa = torch.cat(
            [mantissa * _product(others) for others in _without_each(factors)], dim=1
        )
        exponent = (exponent[:, None] + powers.sum(1, keepdim=True) - powers).flatten(1, 2)
    cavity, _ = _scaled(_values(mantissa, exponent)[0])
    if rules.top is not None:
        cavity = torch.einsum("jab,ajn->bjn", rules.top, cavity)
    return Root(weight, log_scale, cavity)


def downward(
    rules: Rules, messages: dict[int, Tensor], cavity: Tensor, last: int
) -> Iterator[tuple[int, Tensor]]:
    """Levels k .. ``last`` with each node's cavity message [q, node, sequence].

    It is P(node = b and all evidence that is not below the node), up to a scale.
    """
    q, _, n = cavity.shape
    arity = rules.arity
    yield rules.k, cavity
    for level in range(rules.k, last):
        joint = (rules.table.T @ cavity.flatten(1)).view(*[q] * arity, arity**level * n)
        children = _children(messages[level + 1], arity)
        sent = torch.stack([_to_child(joint, children, child) for child in range(arity)], dim=1)
        cavity = _scaled(sent.flatten(1))[0].view(q, arity ** (level + 1), n)
        yield level + 1, cavity


def normalised(weight: Tensor) -> Tensor:
    """Weights [q, ...] divided by their sum over symbols; all zero where the sum is zero."""
    return weight / nonzero(weight.sum(0))


def nonzero(total: Tensor) -> Tensor:
    """Sums of weights, with one in the place of zero, to divide by."""
    return total + (total == 0)


def _scaled(message: Tensor) -> tuple[Tensor, Tensor]:
    """A message divided by its sum, held constant, and that sum; zero messages stay as they are."""
    total = nonzero(message.sum(0).detach())
    return message / total, total


def _values(mantissa: Tensor, exponent: Tensor) -> tuple[Tensor, Tensor]:
    """mantissa * exp(exponent) [q, ...] relative to the largest exponent, and that exponent."""
    possible = exponent.masked_fill(mantissa <= 0, -torch.inf).amax(0)
    highest = torch.where(possible.isfinite(), possible, 0)
    relative = (exponent - highest).clamp(max=_HIGHEST)
    return mantissa * relative.exp().to(mantissa.dtype), highest


def _children(message: Tensor, arity: int) -> tuple[Tensor, ...]:
    """Messages of all first children, of all second ones, and so on: each [q, parent * n]."""
    q, nodes, n = message.shape
    return message.reshape(q, arity, nodes // arity * n).unbind(1)


def _outer(children: tuple[Tensor, ...]) -> Tensor:
    """Products over child tuples, [child tuple, parent * n]."""
    product = children[0]
    for child in children[1:]:
        product = (product[:, None] * child).flatten(0, 1)
    return product


def _to_child(joint: Tensor, children: tuple[Tensor, ...], child: int) -> Tensor:
    """Sum of joint [child axes, parent * n] over all children but one, with their messages."""
    for axis in reversed(range(len(children))):
        if axis != child:
            ones = [1] * (joint.ndim - 1)
            ones[axis] = len(children[axis])
            joint = (joint * children[axis].view(*ones, joint.shape[-1])).sum(axis)
    return joint


def _product(factors: tuple[Tensor, ...]) -> Tensor:
    product = factors[0]
    for factor in factors[1:]:
        product = product * factor
    return product


def _without_each(factors: tuple[Tensor, ...]) -> list[tuple[Tensor, ...]]:
    return [factors[:i] + factors[i + 1 :] for i in range(len(factors))]

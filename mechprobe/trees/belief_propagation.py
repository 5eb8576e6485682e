"""Exact inference on filtered trees: the posterior of every node from any observed leaves.

Belief propagation on the trees of Garnier-Brun, Mezard, Moscato, Saglietti 2024, arXiv 2408.15138,
for any filter level k on data from any other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.trees.grammar import Grammar
from mechprobe.trees.messages import (
    Rules,
    downward,
    meet,
    nonzero,
    normalised,
    stored_order,
    upward,
)

_CELLS_CPU = 1 << 18  # cells of the largest temporary tensor of a chunk
_CELLS_GPU = 1 << 26
_PRIOR_TOLERANCE = 1e-4  # what the rules may be off by, once a level


@dataclass(frozen=True, eq=False)
class Beliefs:
    """Exact posteriors; probabilities, in the dtype asked for, on the device of the leaves.

    A sequence whose evidence has probability zero has ``log_evidence`` -inf and zeros in ``root``
    and ``nodes``: no distribution, and never NaN. A row of ``leaf_marginals`` is zero only where
    the *other* leaves are impossible.

    Attributes:
        k: filter level of the model.
        root: P(root | leaves), [n, q].
        log_evidence: log P(observed leaves), nats, [n].
        nodes: P(node | leaves) by level, [n, arity ** level, q], of the levels asked for; the
            filtered model has level 0 and levels k .. depth. An observed leaf is one-hot, a
            masked one has its posterior.
        leaf_marginals: P(leaf | all other leaves), [n, leaf, q]; None where not asked for.
        mask: true where a leaf was masked, [n, leaf]; None where none was.
    """

    k: int
    root: Float[Tensor, "n q"]
    log_evidence: Float[Tensor, " n"]
    nodes: Mapping[int, Float[Tensor, "n _ q"]]
    leaf_marginals: Float[Tensor, "n leaf q"] | None
    mask: Bool[Tensor, "n leaf"] | None

    @property
    def masked(self) -> Float[Tensor, "masked q"]:
        """Posteriors of the masked leaves, in the order of ``mask.nonzero()``.

        Raises:
            InputError: nothing was masked, or leaf marginals were not asked for.
        """
        if self.mask is None or self.leaf_marginals is None:
            raise InputError("no masked leaves here; call belief_propagation with a mask")
        return self.leaf_marginals[self.mask]


def belief_propagation(
    grammar: Grammar,
    leaves: Integer[Tensor, "n leaf"] | Float[Tensor, "n leaf q"],
    k: int = 0,
    *,
    mask: Bool[Tensor, "n leaf"] | Bool[Tensor, " leaf"] | None = None,
    prior: Float[Tensor, " q"] | Float[Tensor, "n q"] | None = None,
    levels: Collection[int] | None = None,
    leaf_marginals: bool = True,
    dtype: torch.dtype = torch.float64,
    chunk: int | None = None,
) -> Beliefs:
    """Posteriors under the grammar filtered at ``k``, whatever the leaves were drawn from.

    Differentiable with respect to the rules, soft leaves and the prior. Sequences are streamed in
    chunks, so that memory is that of the result; ask for few ``levels`` where nodes are many.
    Messages are scaled at each node; relative to a node's likeliest symbol, weights below the
    smallest number of the dtype count as zero.

    Args:
        grammar: the rules; moved to the device of the leaves.
        leaves: symbols 0 .. q - 1, or soft evidence: the likelihood of each symbol at each leaf,
            0 or more.
        k: filter level of the model, 0 .. depth.
        mask: true where a leaf is not observed; one row stands for all sequences.
        prior: P(root), one for all or one a sequence; uniform unless given.
        levels: levels whose node posteriors are wanted, out of 0 and k .. depth; None: all these.
        leaf_marginals: whether each leaf's marginal given all others is wanted; without it and
            with ``levels=()`` only the upward sweep runs.
        dtype: float32 or float64, of the computation and the result.
        chunk: sequences at once; chosen by the size of a core's cache unless given.

    Raises:
        InputError: k, a level, the length, a symbol, the mask or the prior does not fit.
    """
    wanted = _levels(grammar, k, levels)
    mask = check_leaves(grammar, leaves, mask)
    if not dtype.is_floating_point or dtype.itemsize < 4:
        raise InputError(f"dtype {dtype} is not precise enough; give float32 or float64")
    if chunk is None:
        cells = _CELLS_CPU if leaves.device.type == "cpu" else _CELLS_GPU
        chunk = max(1, cells * grammar.arity // (grammar.n_leaves * grammar.q**grammar.arity))
    elif chunk < 1:
        raise InputError(f"chunk={chunk} is not possible; give 1 or more sequences")
    rules = _rules(grammar, k, dtype, leaves.device)
    prior = _prior(grammar, prior, len(leaves)).to(rules.table)
    found: dict[str | int, Any] = {}
    for start in range(0, max(len(leaves), 1), chunk):
        rows = slice(start, start + chunk)
        evidence, log_scale = _evidence(leaves[rows], mask if mask is None else mask[rows], rules)
        part = _one_chunk(rules, evidence, log_scale, prior[rows].T, wanted, leaf_marginals)
        _collect(found, part, rows, len(leaves))
    joined = {name: torch.cat(v) if isinstance(v, list) else v for name, v in found.items()}
    return Beliefs(
        k=k,
        root=joined["root"],
        log_evidence=joined["log_evidence"],
        nodes={level: joined[level] for level in sorted(wanted)},
        leaf_marginals=joined.get("leaf"),
        mask=mask,
    )


def check_leaves(
    grammar: Grammar, leaves: Tensor, mask: Tensor | None = None
) -> Bool[Tensor, "n leaf"] | None:
    """Refuse sequences and masks that do not fit a grammar; the mask, one row a sequence.

    Raises:
        InputError: no tensors, wrong axes, length, symbols, negative evidence, or another shape of
            mask.
    """
    for name, given in (("leaves", leaves), ("mask", mask)):
        if given is not None and not isinstance(given, Tensor):
            raise InputError(
                f"{name} is a {type(given).__name__}; give a torch tensor: torch.as_tensor({name})"
            )
    soft = leaves.is_floating_point()
    if leaves.ndim != 2 + soft or leaves.shape[1] != grammar.n_leaves:
        raise InputError(
            f"leaves of shape {tuple(leaves.shape)}; expected [n, {grammar.n_leaves}] symbols, or "
            f"[n, {grammar.n_leaves}, {grammar.q}] likelihoods, for depth {grammar.depth}"
        )
    if soft:
        values = leaves.detach()
        if leaves.shape[2] != grammar.q or not bool(((values >= 0) & values.isfinite()).all()):
            raise InputError(
                f"soft leaves of shape {tuple(leaves.shape)}; expected {grammar.q} finite "
                "likelihoods of 0 or more for each leaf"
            )
    elif leaves.numel() and not (0 <= int(leaves.min()) and int(leaves.max()) < grammar.q):
        raise InputError(
            f"symbols from {int(leaves.min())} to {int(leaves.max())}; this grammar has 0 to "
            f"{grammar.q - 1}; mark leaves that are not observed with mask"
        )
    if mask is None:
        return None
    if mask.dtype != torch.bool or mask.shape not in (leaves.shape[:2], leaves.shape[1:2]):
        raise InputError(
            f"mask of shape {tuple(mask.shape)} and {mask.dtype}; expected bool "
            f"{list(leaves.shape[:2])} or [{grammar.n_leaves}], true where a leaf is masked"
        )
    return mask.to(leaves.device).expand(leaves.shape[:2])


def _levels(grammar: Grammar, k: int, levels: Collection[int] | None) -> set[int]:
    grammar.check_level(k)
    there = {0, *range(k, grammar.depth + 1)}
    wanted = there if levels is None else set(levels)
    if wanted - there:
        raise InputError(
            f"levels {sorted(wanted - there)} are no nodes of the model filtered at k={k}; choose "
            f"from {sorted(there)}"
        )
    return wanted


def _prior(grammar: Grammar, prior: Tensor | None, n: int) -> Tensor:
    """P(root) of each sequence, [n, q]."""
    if prior is None:
        return torch.full((n, grammar.q), 1 / grammar.q, dtype=torch.float64)
    values = prior.detach()
    fits = prior.shape in ((grammar.q,), (n, grammar.q)) and bool((values >= 0).all())
    if not fits or not bool(((values.sum(-1) - 1).abs() <= _PRIOR_TOLERANCE).all()):
        raise InputError(
            f"prior of shape {tuple(prior.shape)}, rows summing to {float(values.sum(-1).min()):g} "
            f"to {float(values.sum(-1).max()):g}; expected {grammar.q} probabilities that sum to "
            f"1, or {n} such rows"
        )
    return prior.expand(n, -1)


def _rules(grammar: Grammar, k: int, dtype: torch.dtype, device: torch.device) -> Rules:
    top = None
    if k > 0:
        order = stored_order(grammar.arity, k, grammar.transition.device)
        top = grammar.node_marginals(k)[order].to(device, dtype)
    table = grammar.transition.flatten(1).to(device, dtype)
    return Rules(table, top, grammar.arity, grammar.depth, k)


def _evidence(leaves: Tensor, mask: Tensor | None, rules: Rules) -> tuple[Tensor, Tensor]:
    """Likelihoods [q, leaf, sequence] in stored order, scaled if soft, and their log scale."""
    q, order = len(rules.table), stored_order(rules.arity, rules.depth, leaves.device)
    log_scale = torch.zeros(len(leaves), dtype=torch.float64, device=leaves.device)
    if leaves.is_floating_point():
        evidence = leaves.permute(2, 1, 0)[:, order].to(rules.table.dtype)
        if mask is not None:
            evidence = torch.where(mask.T[order], 1, evidence)
        total = nonzero(evidence.sum(0).detach())
        return evidence / total, log_scale + total.double().log().sum(0)
    symbols = leaves.T[order]
    seen = symbols == torch.arange(q, dtype=symbols.dtype, device=leaves.device)[:, None, None]
    if mask is not None:
        seen |= mask.T[order]
    return seen.to(rules.table.dtype), log_scale


def _one_chunk(
    rules: Rules,
    evidence: Tensor,
    log_scale: Tensor,
    prior: Tensor,
    wanted: set[int],
    leaf_marginals: bool,
) -> dict[str | int, Tensor]:
    """Results for some sequences: by name, and node posteriors by level."""
    messages, scale = upward(rules, evidence)
    root = meet(rules, messages[rules.k], prior)
    posterior = normalised(root.weight).T
    total = root.weight.sum(0)
    log_total = torch.where(total > 0, nonzero(total).log(), -torch.inf)
    log_evidence = (log_total + root.log_scale + scale + log_scale).to(prior.dtype)
    part: dict[str | int, Tensor] = {"root": posterior, "log_evidence": log_evidence}
    if 0 in wanted:
        part[0] = posterior[:, None]
    below = wanted - {0}
    last = rules.depth if leaf_marginals else max(below, default=-1)
    for level, cavity in downward(rules, messages, root.cavity, last) if last >= 0 else ():
        if level in below:
            part[level] = _in_order(normalised(cavity * messages[level]), rules, level)
        if level == rules.depth and leaf_marginals:
            part["leaf"] = _in_order(normalised(cavity), rules, level)
    return part


def _in_order(values: Tensor, rules: Rules, level: int) -> Tensor:
    """[q, stored node, sequence] as [sequence, node, q]."""
    return values[:, stored_order(rules.arity, level, values.device)].permute(2, 1, 0)


def _collect(
    found: dict[str | int, Any], part: Mapping[str | int, Tensor], rows: slice, n: int
) -> None:
    """Put a chunk's results in their rows; results with a graph are listed, to be joined later."""
    for name, value in part.items():
        if value.requires_grad:
            found.setdefault(name, []).append(value)
        else:
            whole = found.setdefault(name, value.new_empty((n, *value.shape[1:])))
            whole[rows] = value

"""Sequences from a tree grammar, filtered at any level; millions a second on one core at depth 4.

Filtering at k (Garnier-Brun et al. 2024, arXiv 2408.15138): given the root, the nodes of level k
are drawn independently from their exact marginals; below level k the rules are used unchanged.
k = 0 is the full hierarchy, k = depth leaves independent given the root. Every node's marginal
given the root is the same for all k.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.trees.grammar import Grammar

_NODES = 1 << 18  # nodes drawn at once: what fits a core's cache


@dataclass(frozen=True)
class TreeSamples:
    """Sequences and the trees they come from; symbols are int64.

    Attributes:
        leaves: the sequences, [n, arity ** depth].
        root: class of each sequence, [n].
        k: filter level they were drawn at.
        levels: symbols [n, arity ** level] of level 0 and of levels k .. depth, where asked for;
            the levels between the root and k do not exist in a filtered tree.
    """

    leaves: Int64[Tensor, "n leaf"]
    root: Int64[Tensor, " n"]
    k: int
    levels: Mapping[int, Int64[Tensor, "n _"]]

    def __len__(self) -> int:
        return len(self.root)


@dataclass(frozen=True, eq=False)
class AliasTable:
    """Rows of discrete distributions, each drawn from in constant time whatever its length.

    Walker 1977, ACM Transactions on Mathematical Software 3. Entry i of row r is kept with
    probability ``keep[r, i]`` and else replaced by its alias.

    Attributes:
        keep: [row * outcome].
        symbols: what a draw stands for, [2 * row * outcome, child]: first all kept, then aliases.
        n_outcomes: outcomes of a row.
    """

    keep: Float64[Tensor, " entry"]
    symbols: Int64[Tensor, "twice child"]
    n_outcomes: int

    def draw(
        self, rows: Int64[Tensor, " draw"], generator: torch.Generator
    ) -> Int64[Tensor, "draw child"]:
        """One outcome's symbols for each row index given."""
        place = torch.rand(
            rows.shape, dtype=torch.float64, generator=generator, device=rows.device
        ).mul_(self.n_outcomes)
        column = place.long()
        entry = rows * self.n_outcomes + column
        replaced = place.sub_(column) >= self.keep.index_select(0, entry)
        return self.symbols.index_select(0, entry.add_(replaced, alpha=len(self.keep)))


def alias_table(
    rows: Float64[Tensor, "row outcome"], symbols: Int64[Tensor, "outcome child"]
) -> AliasTable:
    """The alias table of distributions in rows; all rows are built at once."""
    n_rows, n_outcomes = rows.shape
    left = rows / rows.sum(1, keepdim=True) * n_outcomes
    open_ = torch.ones_like(left, dtype=torch.bool)
    keep = torch.ones_like(left)
    alias = torch.arange(n_outcomes, device=rows.device).repeat(n_rows, 1)
    each = torch.arange(n_rows, device=rows.device)
    for _ in range(n_outcomes - 1):
        small = left.masked_fill(~open_, torch.inf).argmin(1)
        open_[each, small] = False
        large = left.masked_fill(~open_, -torch.inf).argmax(1)
        keep[each, small] = left[each, small]
        alias[each, small] = large
        left[each, large] -= 1 - left[each, small]
    kept = symbols.repeat(n_rows, 1)
    return AliasTable(keep.flatten(), torch.cat([kept, symbols[alias.flatten()]]), n_outcomes)


@dataclass(frozen=True, eq=False)
class Sampler:
    """Tables for drawing many batches at one filter level; make one with ``make_sampler``."""

    grammar: Grammar
    k: int
    rules: AliasTable
    top: AliasTable | None

    def draw(self, n: int, generator: torch.Generator, *, ancestors: bool = False) -> TreeSamples:
        """``n`` trees, the next ones of the generator.

        Raises:
            InputError: n is negative, or the generator is on another device than the tables.
        """
        device = self.rules.keep.device
        if n < 0 or generator.device.type != device.type:
            raise InputError(
                f"cannot draw n={n} sequences on {device} with a generator on {generator.device}; "
                "give n of 0 or more and a generator of the sampler's device"
            )
        grammar = self.grammar
        wanted = {0, grammar.depth, *(range(self.k, grammar.depth) if ancestors else ())}
        levels = {
            level: torch.empty((n, grammar.arity**level), dtype=torch.int64, device=device)
            for level in sorted(wanted)
        }
        size = max(1, _NODES // grammar.n_leaves)
        for start in range(0, n, size):
            stop = min(n, start + size)
            for level, nodes in self._trees(stop - start, generator):
                if level in wanted:
                    levels[level][start:stop] = nodes
        root, leaves = levels[0].squeeze(1), levels[grammar.depth]
        return TreeSamples(leaves, root, self.k, levels if ancestors else {})

    def _trees(self, n: int, generator: torch.Generator) -> Iterator[tuple[int, Tensor]]:
        """Each level with its symbols [n, node], of n trees drawn together."""
        device, q = self.rules.keep.device, self.grammar.q
        nodes = torch.randint(q, (n, 1), generator=generator, device=device)
        yield 0, nodes
        if self.top is not None:
            n_top = self.grammar.arity**self.k
            rows = nodes + q * torch.arange(n_top, device=device)
            nodes = self.top.draw(rows.flatten(), generator).view(n, n_top)
            yield self.k, nodes
        for level in range(self.k, self.grammar.depth):
            nodes = self.rules.draw(nodes.flatten(), generator).view(n, -1)
            yield level + 1, nodes


def make_sampler(grammar: Grammar, k: int = 0, *, device: str | torch.device = "cpu") -> Sampler:
    """Tables to draw sequences filtered at ``k`` from, batch after batch, on a device.

    Raises:
        InputError: k is outside 0 .. depth.
    """
    grammar.check_level(k)
    q, arity = grammar.q, grammar.arity
    symbols = torch.cartesian_prod(*[torch.arange(q)] * arity)
    rules = alias_table(grammar.transition.detach().cpu().flatten(1), symbols)
    top = None
    if k > 0:
        marginals = grammar.node_marginals(k).detach().cpu()
        top = alias_table(marginals.flatten(0, 1), torch.arange(q)[:, None])
    return Sampler(grammar, k, _on(rules, device), None if top is None else _on(top, device))


def sample(
    grammar: Grammar,
    n: int,
    k: int = 0,
    seed: int | torch.Generator = 0,
    *,
    ancestors: bool = False,
    device: str | torch.device = "cpu",
) -> TreeSamples:
    """``n`` sequences filtered at level ``k``, with their roots and, if asked, all ancestors.

    A seed gives the same sequences each time on a device kind; a generator goes on where it is.
    For many small batches ``make_sampler`` saves rebuilding the tables.

    >>> sample(Grammar.random(q=4, depth=4), n=3, k=1, seed=0).leaves.shape
    torch.Size([3, 16])

    Raises:
        InputError: k is outside 0 .. depth, or n is negative.
    """
    sampler = make_sampler(grammar, k, device=device)
    if not isinstance(seed, torch.Generator):
        seed = torch.Generator(device).manual_seed(seed)
    return sampler.draw(n, seed, ancestors=ancestors)


def _on(table: AliasTable, device: str | torch.device) -> AliasTable:
    return AliasTable(table.keep.to(device), table.symbols.to(device), table.n_outcomes)

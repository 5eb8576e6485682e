"""Which heads each gate vector runs, and products between the stream and exactly those heads.

A pair is one head of one gate vector. Heads that a vector has closed are no pair, so nothing is
computed for them, whatever other vectors of the same stack have open.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mechprobe.gates.kernels.product import product


@dataclass(frozen=True)
class Pairs:
    """The open heads of ``n`` gate vectors, vector after vector.

    Attributes:
        members, heads: of each pair; members never decrease.
    """

    n: int
    members: tuple[int, ...]
    heads: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.members)

    @cached_property
    def shared(self) -> tuple[int, ...] | None:
        """The heads of every vector where all have the same; else None."""
        if self.n == 1:
            return self.heads
        first = self.heads[: len(self.heads) // self.n]
        each = tuple(m for m in range(self.n) for _ in first)
        return first if (self.members, self.heads) == (each, first * self.n) else None

    def spans(self) -> Iterator[tuple[int, slice, tuple[int, ...]]]:
        """Each vector that has any: its number, where its pairs stand, its heads."""
        start = 0
        for member in range(self.n):
            stop = start + self.members.count(member)
            if stop > start:
                yield member, slice(start, stop), self.heads[start:stop]
            start = stop

    def within(self, larger: Pairs) -> list[int] | None:
        """Where each pair stands among those of ``larger``, one vector of which may stand for all.

        None where the two are alike.
        """
        if self == larger:
            return None
        place = {pair: i for i, pair in enumerate(zip(larger.members, larger.heads, strict=True))}
        one = larger.n == 1
        pairs = zip(self.members, self.heads, strict=True)
        return [place[(0 if one else member, head)] for member, head in pairs]


def pairs_of(open_: Bool[np.ndarray, "n head"]) -> Pairs:
    """The pairs that are marked."""
    members, heads = np.nonzero(open_)
    return Pairs(len(open_), tuple(members.tolist()), tuple(heads.tolist()))


def rows_of_heads(
    weight: Float[Tensor, "head width *d_model"], heads: tuple[int, ...]
) -> Float[Tensor, "rows *d_model"]:
    """Some heads' rows, one under the other."""
    if len(heads) == len(weight):
        return weight.flatten(0, 1)
    return weight.index_select(0, index_of(heads, weight.device)).flatten(0, 1)


def index_of(units: tuple[int, ...] | list[int], device: torch.device) -> Tensor:
    """Units as an index on the device."""
    return torch.tensor(units, dtype=torch.long, device=device)


def into_heads(
    x: Float[Tensor, "block pos d_model"],
    weight: Float[Tensor, "head width d_model"],
    bias: Float[Tensor, "head width"] | None,
    pairs: Pairs,
    letters: int = 1,
) -> Float[Tensor, "letter pair batch pos d_head"]:
    """x W_h^T + b_h of every pair's head; ``width`` holds ``letters`` results of d_head.

    Args:
        x: the batch's examples for each gate vector, n x batch blocks.
    """
    batch, pos, d = len(x) // pairs.n, x.shape[1], weight.shape[1] // letters

    def heads_of(rows: Tensor, heads: tuple[int, ...]) -> Tensor:
        b = None if bias is None else rows_of_heads(bias, heads)
        out = product(rows.reshape(-1, x.shape[-1]), rows_of_heads(weight, heads), b)
        shape = (-1, batch, pos, len(heads), letters, d)
        return out.view(shape).permute(4, 0, 3, 1, 2, 5)

    if pairs.shared and letters == 1 == len(pairs):
        return heads_of(x, pairs.shared).flatten(1, 2)
    out = x.new_empty(letters, len(pairs), batch, pos, d)
    if pairs.shared:
        out.unflatten(1, (pairs.n, -1)).copy_(heads_of(x, pairs.shared))
        return out
    blocks = x.view(pairs.n, batch, pos, -1)
    for member, span, heads in pairs.spans():
        out[:, span].copy_(heads_of(blocks[member], heads)[:, 0])
    return out


def from_heads(
    values: Float[Tensor, "letter pair batch pos d_head"],
    weight: Float[Tensor, "head width d_model"],
    pairs: Pairs,
    add: Float[Tensor, "n d_model"] | None = None,
    gates: Float[Tensor, " pair"] | None = None,
) -> Float[Tensor, "block pos d_model"]:
    """For each gate vector the sum over its pairs of value times W_h, plus ``add``.

    Args:
        gates: what each pair's values are multiplied with; None: nothing.
    """
    letters, _, batch, pos, d = values.shape

    def sums(part: Tensor, g: Tensor | None, heads: tuple[int, ...], n: int, b: Tensor | None
             ) -> Tensor:  # fmt: skip
        rows = values.new_empty(n, batch, pos, len(heads), letters, d)
        by_row = part.unflatten(1, (n, -1)).permute(1, 3, 4, 2, 0, 5)
        if g is None:
            rows.copy_(by_row)
        else:
            torch.mul(by_row, g.view(n, 1, 1, -1, 1, 1), out=rows)
        out = rows.view(n * batch * pos, -1)
        return product(out, rows_of_heads(weight, heads).t(), b)

    alike = add is None or pairs.n == 1
    if pairs.shared and alike:
        bias = None if add is None else add[0].to(values.dtype)
        out = sums(values, gates, pairs.shared, pairs.n, bias)
        return out.view(-1, pos, out.shape[-1])
    out = values.new_zeros(pairs.n, batch * pos, weight.shape[-1])
    if add is not None:
        out += add.to(out)[:, None]
    if pairs.shared:
        out += sums(values, gates, pairs.shared, pairs.n, None).view(out.shape)
        return out.view(-1, pos, out.shape[-1])
    for member, span, heads in pairs.spans():
        g = None if gates is None else gates[span]
        out[member] += sums(values[:, span], g, heads, 1, None)
    return out.view(-1, pos, out.shape[-1])

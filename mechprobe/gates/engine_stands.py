"""What closed gates put in place, as the engine adds it: written through W_O or W_out once.

A stand-in never goes through attention. Where a head's is the same at every position, its share of
the layer's output is a constant; otherwise all heads' shares together are computed once a batch,
and a gate scales the head's difference from its stand-in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mechprobe.gates.engine_rows import Rows
from mechprobe.gates.kernels.pairs import Pairs, index_of
from mechprobe.gates.kernels.product import product


@dataclass(frozen=True)
class HeadStand:
    """Stand-ins of an attention layer's heads; all None: zero.

    Attributes:
        closed: [head, d_model], what each writes, where it is the same everywhere.
        value: [head, batch or 1, pos or 1, d_head], otherwise.
        total: [batch or 1, pos or 1, d_model], what all of those write together.
    """

    closed: Tensor | None = None
    value: Tensor | None = None
    total: Tensor | None = None

    def of(self, pairs: Pairs) -> Tensor:
        """Stand-ins of the pairs' heads, [pair, batch or 1, pos or 1, d_head]."""
        assert self.value is not None
        every = tuple(range(len(self.value)))
        return self.value if pairs.heads == every else self.value[list(pairs.heads)]

    def at(self, read: Tensor | None) -> HeadStand:
        """The same at one position of each example."""
        if read is None or self.value is None or self.total is None:
            return self
        total = _at_position(self.total[None], read)[0]
        return HeadStand(None, _at_position(self.value, read), total)


@dataclass(frozen=True)
class Stand:
    """Stand-ins of an MLP's output or of its neurons.

    Attributes:
        value: [unit, batch or 1, pos or 1, width]; None stands for zero. Units are neurons (width
            1) or one MLP (width d_model).
        into: [neuron, d_model], what neurons' values go through; None for an MLP.
    """

    value: Tensor | None = None
    into: Tensor | None = None

    def at(self, read: Tensor | None) -> Stand:
        """The same at one position of each example."""
        if read is None or self.value is None:
            return self
        return Stand(_at_position(self.value, read), self.into)

    def write(self, gates: Rows) -> Tensor | None:
        """What neurons' stand-ins add for gates [n, neuron]: [n, batch or 1, pos or 1, d_model].

        None: nothing.
        """
        if self.value is None or self.into is None or gates.open:
            return None
        closed = 1 - gates.values
        units = index_of(np.flatnonzero((gates.host != 1).any(0)).tolist(), closed.device)
        share = closed[:, None, None, units] * self.value[units, ..., 0].permute(1, 2, 0)
        into = self.into[units]
        return product(share.flatten(0, 2), into.t()).view(*share.shape[:3], -1)


def head_stand(value: Tensor, w_o: Tensor) -> HeadStand:
    """Of heads: [batch or 1, pos or 1, head or 1, d_head or 1], through W_O [head x d_head, m]."""
    if not bool(value.any()):
        return HeadStand()
    b, p, n_heads = value.shape[:3]
    rows = value.expand(b, p, n_heads, len(w_o) // n_heads)
    if b == p == 1:
        by_head = w_o.view(n_heads, -1, w_o.shape[1])
        return HeadStand(torch.einsum("hd,hdm->hm", rows[0, 0], by_head))
    total = product(rows.reshape(-1, len(w_o)), w_o.t()).view(b, p, -1)
    return HeadStand(None, rows.permute(2, 0, 1, 3), total)


def neuron_stand(value: Tensor, w_out: Tensor) -> Stand:
    """Of neurons: [batch or 1, pos or 1, neuron], through W_out [neuron, d_model]."""
    return Stand(value.permute(2, 0, 1).unsqueeze(-1) if bool(value.any()) else None, w_out)


def mlp_stand(value: Tensor) -> Stand:
    """Of an MLP layer: [batch or 1, pos or 1, d_model]."""
    return Stand(value.unsqueeze(0) if bool(value.any()) else None)


def _at_position(value: Tensor, read: Tensor) -> Tensor:
    """[unit, batch or 1, pos or 1, width] at one position of each example."""
    if value.shape[2] == 1:
        return value
    rows = torch.arange(len(read), device=read.device)
    return value.expand(-1, len(read), -1, -1)[:, rows, read].unsqueeze(2)

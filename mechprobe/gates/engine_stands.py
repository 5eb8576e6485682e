"""What closed gates put in place, as the engine adds it: written through W_O or W_out once.

A head's stand-in never goes through attention, so where it is the same for every example its
share of the layer's output, stand-in times W_O, is a constant; only (1 - g) times it is added.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mechprobe.gates.engine_rows import Rows, index_of
from mechprobe.gates.kernels.product import product

MOST = 2**24  # numbers a layer's written constants may take; beyond it they are not kept


@dataclass(frozen=True)
class Stand:
    """Stand-ins of a layer's units.

    Attributes:
        value: [unit or 1, batch or 1, pos or 1, width or 1]; None stands for zero. Units are heads
            (width d_head), neurons (width 1), or one MLP (width d_model).
        into: [unit x width, d_model], what the units' values go through; None for an MLP.
        written: value through ``into``, [batch or 1, pos or 1, unit, d_model], where it is small.
    """

    value: Tensor | None
    into: Tensor | None
    written: Tensor | None = None

    def at(self, read: Tensor | None) -> Stand:
        """The same at one position of each example."""
        if read is None or self.value is None or self.value.shape[2] == 1:
            return self
        rows = torch.arange(len(read), device=read.device)
        value = self.value.expand(-1, len(read), -1, -1)[:, rows, read].unsqueeze(2)
        written = self.written
        if written is not None:
            written = written.expand(len(read), -1, -1, -1)[rows, read].unsqueeze(1)
        return Stand(value, self.into, written)

    def write(self, gates: Rows) -> Tensor | None:
        """What is added for gates [n, unit]: [n, batch or 1, pos or 1, d_model]; None: nothing."""
        if self.value is None or gates.open:
            return None
        closed = 1 - gates.values
        if self.into is None:
            return closed[:, :, None, None] * self.value
        if self.written is not None:
            b, p, u, m = self.written.shape
            if b * p == 1:
                return (closed @ self.written.view(u, m)).view(-1, 1, 1, m)
            return torch.einsum("nu,bpum->nbpm", closed, self.written)
        units = index_of(np.flatnonzero((gates.host != 1).any(0)).tolist(), closed.device)
        share = closed[:, None, None, units, None] * self.value[units].permute(1, 2, 0, 3)
        width = len(self.into) // closed.shape[1]
        share = share.expand(*share.shape[:-1], width)
        into = self.into.unflatten(0, (-1, width))[units].flatten(0, 1)
        return product(share.flatten(3).flatten(0, 2), into.t()).view(*share.shape[:3], -1)


def head_stand(value: Tensor, w_o: Tensor) -> Stand:
    """Of heads: [batch or 1, pos or 1, head or 1, d_head or 1], through W_O [head x d_head, m]."""
    if not bool(value.any()):
        return Stand(None, w_o)
    n_heads = value.shape[2]
    d_head = len(w_o) // n_heads
    b, p = value.shape[:2]
    written = None
    if b == 1 and p * n_heads * w_o.shape[1] <= MOST:
        rows = value.expand(b, p, n_heads, d_head)
        by_head = w_o.view(n_heads, d_head, -1)
        written = torch.einsum("bphd,hdm->bphm", rows, by_head)
    return Stand(value.permute(2, 0, 1, 3), w_o, written)


def neuron_stand(value: Tensor, w_out: Tensor) -> Stand:
    """Of neurons: [batch or 1, pos or 1, neuron], through W_out [neuron, d_model]."""
    if not bool(value.any()):
        return Stand(None, w_out)
    return Stand(value.permute(2, 0, 1).unsqueeze(-1), w_out)


def mlp_stand(value: Tensor) -> Stand:
    """Of an MLP layer: [batch or 1, pos or 1, d_model]."""
    if not bool(value.any()):
        return Stand(None, None)
    return Stand(value.unsqueeze(0), None)

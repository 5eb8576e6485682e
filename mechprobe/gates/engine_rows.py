"""Gate vectors on the device, with a twin on the host that decides what is computed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """Gate vectors [n, unit] as a tensor, and as an array that costs nothing to look at."""

    values: Tensor
    host: np.ndarray

    def __len__(self) -> int:
        return len(self.host)

    def take(self, rows: list[int]) -> Rows:
        """Some of the vectors."""
        if rows == list(range(len(self.host))):
            return self
        return Rows(self.values[rows], self.host[rows])

    def part(self, columns: slice | None, width: int) -> Rows:
        """A layer's columns; where it is not gated, all open."""
        if columns is not None:
            return Rows(self.values[:, columns], self.host[:, columns])
        return Rows(self.values.new_ones(len(self.host), width), np.ones((len(self.host), width)))

    def repeat(self, n: int) -> Rows:
        """n rows where there is one."""
        if len(self.host) == n:
            return self
        return Rows(self.values.expand(n, -1), np.broadcast_to(self.host, (n, self.host.shape[1])))

    @property
    def open(self) -> bool:
        """Whether every gate is exactly 1."""
        return bool((self.host == 1).all())


def rows_of(gates: Tensor) -> Rows:
    """Gate vectors with their twin."""
    return Rows(gates, gates.detach().cpu().numpy())

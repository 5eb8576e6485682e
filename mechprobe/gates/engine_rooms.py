"""Room for open units, in few sizes: what a step of fixed shapes can run, whatever gates are drawn.

A recorded CUDA graph repeats the same shapes at the same addresses, but each draw of gates opens
other heads. So a recorded step has room for some heads of each vector in every attention layer and
for some vectors in every MLP; what is left of it is filled with units whose gate is 0. A room that
is there and not much too large is used before another is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from mechprobe.gates.engine_attention import AttentionLayer
from mechprobe.gates.engine_stage import GatedStage

Room = tuple[int, ...]
"""Of every layer in order: heads of a vector, or vectors that run the MLP."""


@dataclass(frozen=True)
class Units:
    """Which of a layer's units are run.

    Attributes:
        open: of an attention layer [vector, head]; of an MLP [1, vector].
    """

    open: Bool[np.ndarray, "row unit"]

    @property
    def need(self) -> int:
        """The most that any row runs."""
        return int(self.open.sum(1).max())

    @property
    def most(self) -> int:
        """All that there are."""
        return self.open.shape[1]

    def placed(self, room: int) -> tuple[Int[np.ndarray, "row room"], Bool[np.ndarray, "row room"]]:
        """Each row's units, those that are run first, and whether one is run or fills the room."""
        order = np.argsort(~self.open, axis=1, kind="stable")[:, :room]
        return order, np.take_along_axis(self.open, order, 1)


def units_of(stages: Sequence[GatedStage], active: Bool[np.ndarray, "k site"]) -> list[Units]:
    """Of every layer in order; where it is not gated, all."""
    out = []
    for stage in stages:
        for layer, (columns, _) in zip(stage.layers, stage.columns, strict=True):
            heads = isinstance(layer, AttentionLayer)
            every = np.ones((len(active), layer.n_heads if heads else 1), dtype=bool)
            open_ = every if columns is None else active[:, columns]
            out.append(Units(open_ if heads else open_.T))
    return out


@dataclass
class Rooms:
    """Rooms that are there, the last used at the end.

    Attributes:
        slack: how many times what is needed a room may hold (by share of each layer, summed).
        at_most: rooms kept; the one not used for longest goes.
        sizes: a new room holds a multiple of a layer's units over this.
    """

    slack: float = 1.25
    at_most: int = 8
    sizes: int = 4

    def __post_init__(self) -> None:
        self.there: list[Room] = []

    def choose(self, units: Sequence[Units]) -> Room:
        """A room for what is run, made where none fits well enough."""
        need, most = tuple(u.need for u in units), tuple(u.most for u in units)
        own = tuple(self._rounded(n, m) for n, m in zip(need, most, strict=True))
        fit = [r for r in self.there if all(a >= b for a, b in zip(r, need, strict=True))]
        best = min(fit, key=lambda room: _cost(room, most), default=own)
        if _cost(best, most) > self.slack * _cost(own, most):
            best = own
        if best in self.there:
            self.there.remove(best)
        self.there = [*self.there, best][-self.at_most :]
        return best

    def _rounded(self, need: int, most: int) -> int:
        step = -(-most // self.sizes)
        return min(most, -(-need // step) * step)


def _cost(room: Room, most: Room) -> float:
    """Layers' worth of work."""
    return sum(n / m for n, m in zip(room, most, strict=True))

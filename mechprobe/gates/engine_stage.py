"""One stage of a frozen model under gates: compute what is open, and write it to the stream.

What a stage computes from the stream does not depend on its own gates, only on which units are open
somewhere, so gate vectors that agree up to a stage share it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mechprobe.gates.engine_attention import AttentionLayer, Heads
from mechprobe.gates.engine_mlp import MLPLayer, Neurons, Way
from mechprobe.gates.engine_rows import Rows
from mechprobe.gates.engine_stands import HeadStand, Stand, head_stand, mlp_stand, neuron_stand
from mechprobe.gates.kernels.norms import Saved, norm_forward
from mechprobe.gates.kernels.pairs import Pairs, index_of, pairs_of
from mechprobe.models.frozen import Attention, Norm, Stage, Start
from mechprobe.sites import Site, SiteGrid

Stands = Mapping[Site, HeadStand | Stand]


@dataclass(frozen=True)
class State:
    """What goes from stage to stage: the stream [block, pos, d_model] and the encoder's output."""

    x: Tensor
    memory: Tensor | None = None


@dataclass(frozen=True)
class Computed:
    """What a stage computed for ``copies`` gate vectors, before its gates.

    Attributes:
        found: of each layer; None where an MLP is run by none of them.
        norms: of each layer's input, of the vectors that run it.
        cut: from here on only the read-out's position of each example goes on.
    """

    state: State
    found: tuple[Heads | Neurons | None, ...]
    norms: tuple[Saved | None, ...]
    copies: int
    cut: bool


@dataclass(frozen=True)
class Entry:
    """What going back through a stage needs.

    Attributes:
        gates: of n vectors, or of one that stands for all.
        active: [n or 1, site], what was run.
        norm: of the sum.
    """

    computed: Computed
    gates: Rows
    active: np.ndarray
    norm: Saved | None


@dataclass(frozen=True)
class Passed:
    """A stage that vectors have passed, from whose input its ``Entry`` can be made again.

    Attributes:
        ran: [copies, site], what was computed; ``gates`` and ``active`` as of the entry.
    """

    stage: GatedStage
    state: State
    ran: np.ndarray
    gates: Rows
    active: np.ndarray
    cut: bool

    def again(self, start: Start, stands: Stands, *, keep: bool) -> Entry:
        """What the first pass did not keep, by the same arithmetic."""
        computed = self.stage.compute(self.state, self.ran, start, self.cut, keep)
        if self.stage.stage.norm is None:
            return Entry(computed, self.gates, self.active, None)
        return self.stage.apply(computed, self.gates, self.active, start, stands)[1]


class GatedStage:
    """A stage's layers, and where their gates stand in a gate vector."""

    def __init__(self, stage: Stage, grid: SiteGrid, dtype: torch.dtype) -> None:
        self.stage = stage
        self.layers: list[AttentionLayer | MLPLayer] = []
        self.columns: list[tuple[slice | None, slice | None]] = []
        of = grid.layer_columns
        for part in stage.parts:
            if isinstance(part.layer, Attention):
                self.layers.append(AttentionLayer(part.layer, dtype))
                self.columns.append((of.get(part.layer.site), None))
            else:
                self.layers.append(MLPLayer(part.layer, dtype))
                self.columns.append((of.get(part.layer.site), of.get(part.layer.neurons)))
        self.own = [c for pair in self.columns for c in pair if c is not None]

    def compute(
        self, state: State, active: np.ndarray, start: Start, cut: bool, keep: bool
    ) -> Computed:
        """Every layer on the units that are ``active`` [copy, site] (open, or asked for).

        Args:
            cut: from here on only the read-out's position of each example goes on.
            keep: whether a gradient will go into the stream.
        """
        found: list[Heads | Neurons | None] = []
        norms: list[Saved | None] = []
        copies, at = len(active), start.read if cut else None
        for i, (part, layer) in enumerate(zip(self.stage.parts, self.layers, strict=True)):
            if isinstance(layer, AttentionLayer):
                got, saved = self._attend(i, layer, part.norm, state, active, start, cut, keep)
            else:
                x = state.x if at is None else at_read(state.x, at, copies)
                got, saved = self._think(i, layer, part.norm, x, active)
            found.append(got)
            norms.append(saved)
        return Computed(state, tuple(found), tuple(norms), copies, cut)

    def _attend(
        self, i: int, layer: AttentionLayer, norm: Norm | None, state: State, active: np.ndarray,
        start: Start, cut: bool, keep: bool,
    ) -> tuple[Heads, Saved | None]:
        pairs, copies = self.pairs(i, active), len(active)
        if not len(pairs):
            shape = (0, len(state.x) // copies, 1 if cut else state.x.shape[1], layer.d_head)
            return Heads(pairs, state.x.new_empty(shape, dtype=layer.dtype), None), None
        x, saved = normed(norm, state.x)
        read_x = at_read(x, start.read, copies) if cut else None
        memory = state.memory if layer.layer.memory else None
        return layer.compute(x, read_x, memory, pairs, start, keep), saved

    def _think(
        self, i: int, layer: MLPLayer, norm: Norm | None, x: Tensor, active: np.ndarray
    ) -> tuple[Neurons | None, Saved | None]:
        members, neurons = self.members(i, active), self.columns[i][1]
        if not members:
            return None, None
        units = None
        if neurons is not None and not active[:, neurons].all():
            open_ = np.flatnonzero(active[:, neurons].any(0))
            units = index_of(open_.tolist(), x.device)
        x, saved = normed(norm, blocks_of(x, members, len(active)))
        return layer.compute(x, len(members), units, neurons is None), saved

    def apply(
        self, computed: Computed, gates: Rows, active: np.ndarray, start: Start, stands: Stands
    ) -> tuple[State, Entry]:
        """The stream after the stage for gate vectors [n, site], which run what is ``active``."""
        n, copies, x = len(gates), computed.copies, computed.state.x
        x = at_read(x, start.read, copies) if computed.cut else x
        stream = x.view(copies, -1, *x.shape[1:])
        for i, (layer, found) in enumerate(zip(self.layers, computed.found, strict=True)):
            if isinstance(layer, AttentionLayer):
                assert isinstance(found, Heads)
                g, stand = gates.part(self.columns[i][0], layer.n_heads), self.head_stand(i, stands)
                out = layer.write(found, self.pairs(i, active), g, stand)
                stream = stream + out.view(n, *stream.shape[1:]).to(stream.dtype)
            else:
                assert not isinstance(found, Heads)
                stream = layer.write(found, self.way(i, gates, active, stands), stream)
        out, saved = normed(self.stage.norm, stream.flatten(0, 1))
        memory = computed.state.memory
        if memory is not None and n > copies:  # vectors that part here run stacked from now on
            memory = memory.repeat(n, 1, 1)
        return State(out, memory), Entry(computed, gates, active, saved)

    def pairs(self, i: int, active: np.ndarray) -> Pairs:
        """The open heads of layer i."""
        layer, columns = self.layers[i], self.columns[i][0]
        assert isinstance(layer, AttentionLayer)
        if columns is None:
            return pairs_of(np.ones((len(active), layer.n_heads), dtype=bool))
        return pairs_of(active[:, columns])

    def members(self, i: int, active: np.ndarray) -> tuple[int, ...]:
        """The vectors that run the MLP of layer i."""
        columns = self.columns[i][0]
        if columns is None:
            return tuple(range(len(active)))
        return tuple(np.flatnonzero(active[:, columns].any(1)).tolist())

    def way(self, i: int, gates: Rows, active: np.ndarray, stands: Stands) -> Way:
        """Gates and stand-ins of the MLP of layer i."""
        (own, neurons), layer = self.columns[i], self.layers[i]
        assert isinstance(layer, MLPLayer)
        of = None if neurons is None else gates.part(neurons, 0)
        stand, there = (stands.get(site, Stand()) for site in (layer.layer.site,
                                                               layer.layer.neurons))  # fmt: skip
        assert isinstance(stand, Stand)
        assert isinstance(there, Stand)
        return Way(gates.part(own, 1), of, self.members(i, active), stand, there)

    def head_stand(self, i: int, stands: Stands) -> HeadStand:
        """Stand-ins of the heads of layer i."""
        found = stands.get(self.layers[i].layer.site, HeadStand())
        assert isinstance(found, HeadStand)
        return found


def written_stands(stages: Iterable[GatedStage], values: Mapping[Site, Tensor]) -> Stands:
    """What a baseline's values put in closed gates' places, by layer and by a layer's neurons."""
    stands: dict[Site, HeadStand | Stand] = {}
    for layer in (part.layer for stage in stages for part in stage.stage.parts):
        value = values.get(layer.site)
        if isinstance(layer, Attention):
            if value is not None:
                stands[layer.site] = head_stand(value, layer.w_o)
            continue
        if value is not None:
            stands[layer.site] = mlp_stand(value)
        if (value := values.get(layer.neurons)) is not None:
            stands[layer.neurons] = neuron_stand(value, layer.w_out)
    return stands


def normed(norm: Norm | None, x: Tensor) -> tuple[Tensor, Saved | None]:
    """x through a norm, and what its way back needs; x itself where there is none."""
    return (x, None) if norm is None else norm_forward(norm, x)


def blocks_of(x: Tensor, members: tuple[int, ...], n: int) -> Tensor:
    """The blocks of some of n vectors."""
    if len(members) == n:
        return x
    return x.unflatten(0, (n, -1))[list(members)].flatten(0, 1)


def at_read(x: Tensor, read: Tensor | None, copies: int) -> Tensor:
    """One position of each block, [block, 1, d_model]."""
    assert read is not None
    rows = torch.arange(len(x), device=x.device)
    return x[rows, read.repeat(copies)].unsqueeze(1)

"""One stage of a frozen model under gates: compute what is open, write it, and go back through it.

What a stage computes from the stream does not depend on its own gates, only on which units are open
somewhere, so gate vectors that agree up to a stage share it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mechprobe.gates.engine_attention import AttentionLayer, Heads
from mechprobe.gates.engine_mlp import MLPLayer, Neurons
from mechprobe.gates.engine_rows import Rows, index_of
from mechprobe.gates.engine_stands import Stand
from mechprobe.gates.kernels.norms import Saved, norm_backward, norm_forward
from mechprobe.models.frozen import Attention, Norm, Stage, Start
from mechprobe.sites import Site, SiteGrid


@dataclass(frozen=True)
class State:
    """What goes from stage to stage: the stream [block, pos, d_model] and the encoder's output."""

    x: Tensor
    memory: Tensor | None = None


@dataclass(frozen=True)
class Computed:
    """What a stage computed for ``copies`` gate vectors, before its gates."""

    state: State
    found: tuple[Heads | Neurons | None, ...]
    norms: tuple[Saved | None, ...]
    copies: int
    cut: bool


@dataclass(frozen=True)
class Entry:
    """What going back through a stage needs: gates of n vectors, and the norm of the sum."""

    computed: Computed
    gates: Rows
    norm: Saved | None


class GatedStage:
    """A stage's layers, and where their gates stand in a gate vector."""

    def __init__(self, stage: Stage, grid: SiteGrid) -> None:
        self.stage = stage
        self.layers: list[AttentionLayer | MLPLayer] = []
        self.columns: list[tuple[slice | None, slice | None]] = []
        for part in stage.parts:
            if isinstance(part.layer, Attention):
                self.layers.append(AttentionLayer(part.layer))
                self.columns.append((grid.layer_columns.get(part.layer.site), None))
            else:
                self.layers.append(MLPLayer(part.layer))
                of = grid.layer_columns
                self.columns.append((of.get(part.layer.site), of.get(part.layer.neurons)))
        self.own = [c for pair in self.columns for c in pair if c is not None]

    def compute(
        self, state: State, active: np.ndarray, start: Start, copies: int, cut: bool, keep: bool
    ) -> Computed:
        """Every layer on the units that are ``active`` [site] (open, or their gradient wanted).

        Args:
            copies: gate vectors that the stream holds.
            cut: from here on only the read-out's position of each example goes on.
            keep: whether a gradient will go into the stream.
        """
        found: list[Heads | Neurons | None] = []
        norms: list[Saved | None] = []
        for part, layer, columns in zip(self.stage.parts, self.layers, self.columns, strict=True):
            if isinstance(layer, AttentionLayer):
                units = _open(active, columns[0], layer.n_heads)
                x, saved = normed(part.norm, state.x) if units else (state.x, None)
                read_x = _at(x, start.read, copies) if cut else None
                memory = state.memory if layer.layer.memory else None
                found.append(layer.compute(x, read_x, memory, units, start, keep)
                             if units else _no_heads(state.x, cut, layer))  # fmt: skip
            else:
                open_, units = _open_mlp(active, columns, state.x.device)
                x, saved = _at(state.x, start.read, copies) if cut else state.x, None
                if open_:
                    x, saved = normed(part.norm, x)
                found.append(layer.compute(x, units, columns[1] is None) if open_ else None)
            norms.append(saved)
        return Computed(state, tuple(found), tuple(norms), copies, cut)

    def apply(
        self, computed: Computed, gates: Rows, active: np.ndarray, start: Start,
        stands: Mapping[Site, Stand],
    ) -> tuple[State, Entry]:
        """The stream after the stage for gate vectors [n, site]."""
        n, copies = len(gates), computed.copies
        x = _at(computed.state.x, start.read, copies) if computed.cut else computed.state.x
        batch, pos = len(x) // copies, x.shape[1]
        total = x.view(copies, batch, *x.shape[1:])
        taken: list[Heads | Neurons | None] = []
        for layer, columns, found in zip(self.layers, self.columns, computed.found, strict=True):
            if isinstance(layer, AttentionLayer):
                assert isinstance(found, Heads)
                heads = found.take(_open(active, columns[0], layer.n_heads))
                taken.append(heads)
                g = gates.part(columns[0], layer.n_heads)
                stand = stands.get(layer.layer.site, NOTHING)
                out = layer.write(heads, g, stand, copies)
            else:
                assert not isinstance(found, Heads)
                neurons = None if columns[1] is None else gates.part(columns[1], 0)
                own = None if columns[1] is None else stands[layer.layer.neurons]
                stand = stands.get(layer.layer.site, NOTHING)
                g = gates.part(columns[0], 1)
                taken.append(found)
                out = layer.write(found, g, neurons, stand, own, copies, (batch, pos))
            total = total + out.view(-1, batch, *x.shape[1:])
        summed = total.flatten(0, 1)
        if len(summed) != n * batch:  # all layers wrote the same for all vectors
            summed = summed.repeat(n, 1, 1)
        out, saved = normed(self.stage.norm, summed)
        kept = Computed(computed.state, tuple(taken), computed.norms, copies, computed.cut)
        memory = computed.state.memory
        if memory is not None and n > copies:  # vectors that part here run stacked from now on
            memory = memory.repeat(n, 1, 1)
        return State(out, memory), Entry(kept, gates, saved)

    def backward(
        self, entry: Entry, wanted: np.ndarray, stands: Mapping[Site, Stand], start: Start,
        grad: Tensor, grad_memory: Tensor | None, into_stream: bool,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Gradients of gates [n, site], of the stream before the stage, and of the memory."""
        n = len(wanted)
        gates = entry.gates.repeat(n)
        times = n // entry.computed.copies
        if entry.norm is not None:
            assert self.stage.norm is not None
            saved = repeat_saved(entry.norm, n // len(entry.gates))
            grad = norm_backward(self.stage.norm, saved, grad)
        found_gates = gates.values.new_zeros(n, wanted.shape[1])
        cut = entry.computed.cut
        streams = [self._spread(grad, entry, n, start) if cut else grad] if into_stream else []
        for i, (layer, columns) in enumerate(zip(self.layers, self.columns, strict=True)):
            found = entry.computed.found[i]
            found = None if found is None else found.repeat(times)
            stand = stands.get(layer.layer.site, NOTHING)
            own = gates.part(columns[0], _width(layer))
            asked = (np.zeros((n, _width(layer)), bool) if columns[0] is None
                     else wanted[:, columns[0]])
            if isinstance(layer, AttentionLayer):
                assert isinstance(found, Heads)
                got, dx, dkeys = layer.backward(
                    found, own, asked, stand, grad, start, into_stream, cut
                )
                if layer.layer.memory and dkeys is not None:
                    grad_memory = dkeys if grad_memory is None else grad_memory + dkeys
                    dkeys = None
                if dkeys is not None:
                    assert dx is not None
                    dx = _add_at(dkeys, dx, start.read, n)
            else:
                assert not isinstance(found, Heads)
                neurons = None if columns[1] is None else gates.part(columns[1], 0)
                asked_too = columns[1] is not None and bool(wanted[:, columns[1]].any())
                there = stands.get(layer.layer.neurons, NOTHING)
                got, each, dx = layer.backward(
                    found, own, neurons, bool(asked.any()), asked_too, stand, there, grad,
                    into_stream,
                )
                if columns[1] is not None and each is not None:
                    found_gates[:, columns[1]] = each
                if cut and dx is not None:
                    dx = self._spread(dx, entry, n, start)
            if columns[0] is not None:
                found_gates[:, columns[0]] = got
            norm = self.stage.parts[i].norm
            saved = entry.computed.norms[i]
            if dx is not None and into_stream:
                streams.append(self._through_norm(norm, saved, dx, times, cut, layer, n, start))
        return found_gates, (_sum(streams) if into_stream else None), grad_memory

    def _through_norm(
        self, norm: Norm | None, saved: Saved | None, grad: Tensor, times: int, cut: bool,
        layer: AttentionLayer | MLPLayer, n: int, start: Start,
    ) -> Tensor:
        if norm is None or saved is None:
            return grad
        if cut and isinstance(layer, MLPLayer):
            at = _at(grad, start.read, n)
            back = norm_backward(norm, repeat_saved(saved, times), at)
            return _add_at(torch.zeros_like(grad), back, start.read, n)
        return norm_backward(norm, repeat_saved(saved, times), grad)

    def _spread(self, grad: Tensor, entry: Entry, n: int, start: Start) -> Tensor:
        """A gradient at the read-out's positions as one at all positions."""
        none = grad.new_zeros(len(grad), *entry.computed.state.x.shape[1:])
        return _add_at(none, grad, start.read, n)


NOTHING = Stand(None, None)


def _width(layer: AttentionLayer | MLPLayer) -> int:
    return layer.n_heads if isinstance(layer, AttentionLayer) else 1


def _open(active: np.ndarray, columns: slice | None, n: int) -> tuple[int, ...]:
    if columns is None:
        return tuple(range(n))
    return tuple(np.flatnonzero(active[columns]).tolist())


def _open_mlp(
    active: np.ndarray, columns: tuple[slice | None, slice | None], device: torch.device
) -> tuple[bool, Tensor | None]:
    """Whether an MLP runs, and which of its neurons (None: all)."""
    if columns[0] is not None and not active[columns[0]].any():
        return False, None
    if columns[1] is None or active[columns[1]].all():
        return True, None
    return True, index_of(np.flatnonzero(active[columns[1]]).tolist(), device)


def normed(norm: Norm | None, x: Tensor) -> tuple[Tensor, Saved | None]:
    return (x, None) if norm is None else norm_forward(norm, x)


def repeat_saved(saved: Saved, times: int) -> Saved:
    if times == 1:
        return saved
    x, mean, scale = saved
    mean = None if mean is None else mean.repeat(times, 1, 1)
    return x.repeat(times, 1, 1), mean, scale.repeat(times, 1, 1)


def _at(x: Tensor, read: Tensor | None, copies: int) -> Tensor:
    """One position of each block, [block, 1, d_model]."""
    assert read is not None
    rows = torch.arange(len(x), device=x.device)
    return x[rows, read.repeat(copies)].unsqueeze(1)


def _add_at(x: Tensor, part: Tensor, read: Tensor | None, copies: int) -> Tensor:
    """x with [block, 1, d_model] added at one position of each block, in place."""
    assert read is not None
    rows = torch.arange(len(x), device=x.device)
    x[rows, read.repeat(copies)] += part[:, 0]
    return x


def _no_heads(x: Tensor, cut: bool, layer: AttentionLayer) -> Heads:
    return Heads((), x.new_empty(0, len(x), 1 if cut else x.shape[1], layer.d_head), None)


def _sum(parts: list[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total

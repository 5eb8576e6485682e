"""The way back through a stage: gradients of its gates, of the stream before it, of the memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mechprobe.gates.engine_attention import AttentionLayer, Heads
from mechprobe.gates.engine_mlp import MLPLayer, Neurons
from mechprobe.gates.engine_rows import Rows
from mechprobe.gates.engine_stage import Entry, GatedStage, Stands
from mechprobe.gates.kernels.norms import Saved, norm_backward
from mechprobe.models.frozen import Norm, Start


@dataclass
class Return:
    """One stage's way back for n gate vectors.

    Attributes:
        wanted: [n, site], the gates whose gradient is asked for.
        grad: of the stream after the stage, [n x batch, pos, d_model].
        memory: of the encoder's output, so far.
        into_stream: whether an earlier stage has gates that are asked for.
        each: whether examples' gradients of gates are kept apart.
    """

    stage: GatedStage
    entry: Entry
    wanted: np.ndarray
    stands: Stands
    start: Start
    grad: Tensor
    memory: Tensor | None
    into_stream: bool
    each: bool

    def __post_init__(self) -> None:
        self.n = len(self.wanted)
        self.cut = self.entry.computed.cut
        self.gates: Rows = self.entry.gates.repeat(self.n)
        self.active = np.broadcast_to(self.entry.active, (self.n, self.wanted.shape[1]))
        rows = len(self.grad) // self.n if self.each else 1
        self.found = self.gates.values.new_zeros(self.n, rows, self.wanted.shape[1])

    def run(self) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Gradients of gates, of the stream before the stage, and of the memory.

        Those of gates [n, batch, site], or [n, 1, site] summed over examples.
        """
        if self.entry.norm is not None:
            assert self.stage.stage.norm is not None
            saved = repeated(self.entry.norm, self.n // len(self.entry.gates))
            self.grad = norm_backward(self.stage.stage.norm, saved, self.grad)
        stream = None
        if self.into_stream:
            stream = self._spread(self.grad) if self.cut else self.grad
        for i, layer in enumerate(self.stage.layers):
            if isinstance(layer, AttentionLayer):
                part = self._through_heads(i, layer)
            else:
                part = self._through_mlp(i, layer)
            if part is not None and stream is not None:
                stream = stream + part
        return self.found, stream, self.memory

    def _through_heads(self, i: int, layer: AttentionLayer) -> Tensor | None:
        heads, columns = self.entry.computed.found[i], self.stage.columns[i][0]
        assert isinstance(heads, Heads)
        asked = columns is not None and bool(self.wanted[:, columns].any())
        got, into, into_keys = layer.backward(
            heads, self.stage.pairs(i, self.active), self.gates.part(columns, layer.n_heads), asked,
            self.stage.head_stand(i, self.stands), self.grad, self.start, self.into_stream,
            self.cut,
        )
        self._put(columns, got)
        if into_keys is not None and layer.layer.memory:
            self.memory = into_keys if self.memory is None else self.memory + into_keys
        elif into_keys is not None:
            assert into is not None
            into = _add_at(into_keys, into, self.start, self.n)
        if into is None:
            return None
        return self._through_norm(i, into, self.entry.computed.copies)

    def _through_mlp(self, i: int, layer: MLPLayer) -> Tensor | None:
        neurons, (own, each) = self.entry.computed.found[i], self.stage.columns[i]
        assert not isinstance(neurons, Heads)
        way = self.stage.way(i, self.gates, self.active, self.stands)
        got, of_neurons, into = layer.backward(
            neurons, way, own is not None and bool(self.wanted[:, own].any()),
            each is not None and bool(self.wanted[:, each].any()),
            self.grad.unflatten(0, (self.n, -1)), self.into_stream,
        )
        self._put(own, got)
        self._put(each, of_neurons)
        if into is None:
            return None
        assert isinstance(neurons, Neurons)
        into = self._through_norm(i, into, neurons.copies)
        if len(way.members) < self.n:
            some, into = into, torch.zeros_like(self.grad)
            into.unflatten(0, (self.n, -1))[list(way.members)] = some.unflatten(
                0, (len(way.members), -1)
            )
        return self._spread(into) if self.cut else into

    def _put(self, columns: slice | None, got: Tensor | None) -> None:
        """Gradients [n, batch, unit] of a layer's gates in their columns."""
        if columns is not None and got is not None:
            self.found[..., columns] = got if self.each else got.sum(1, keepdim=True)

    def _through_norm(self, i: int, grad: Tensor, copies: int) -> Tensor:
        """Back through the norm that layer i reads through, which saw ``copies`` vectors."""
        norm, saved = self.stage.stage.parts[i].norm, self.entry.computed.norms[i]
        if norm is None or saved is None:
            return grad
        blocks = self.grad.shape[0] // self.n
        return norm_backward(norm, repeated(saved, len(grad) // blocks // copies), grad)

    def _spread(self, grad: Tensor) -> Tensor:
        """A gradient at the read-out's positions as one at all positions."""
        none = grad.new_zeros(len(grad), *self.entry.computed.state.x.shape[1:])
        return _add_at(none, grad, self.start, self.n)


def through_norm(norm: Norm | None, saved: Saved | None, grad: Tensor) -> Tensor:
    """Back through a norm, if there is one."""
    return grad if norm is None or saved is None else norm_backward(norm, saved, grad)


def repeated(saved: Saved, times: int) -> Saved:
    """What a norm saved, for ``times`` vectors that share it."""
    if times == 1:
        return saved
    x, mean, scale = saved
    mean = None if mean is None else mean.repeat(times, 1, 1)
    return x.repeat(times, 1, 1), mean, scale.repeat(times, 1, 1)


def _add_at(x: Tensor, part: Tensor, start: Start, copies: int) -> Tensor:
    """x with [block, 1, d_model] added at one position of each block, in place."""
    assert start.read is not None
    rows = torch.arange(len(x), device=x.device)
    x[rows, start.read.repeat(copies)] += part[:, 0]
    return x

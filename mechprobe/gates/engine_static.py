"""A step of K gate vectors in which neither shapes nor addresses depend on what is open.

It runs on buffers: a batch, gates and the units to run are copied in, logits and slopes read out.
Between, nothing is asked of the host, so that a CUDA graph can record both ways
(``mechprobe.gates.engine_graphs``). The way back is autograd's; recorded, its tape costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from mechprobe.gates.engine_attention import AttentionLayer
from mechprobe.gates.engine_mlp import MLPLayer
from mechprobe.gates.engine_rooms import Room, Units
from mechprobe.gates.engine_stage import GatedStage, Stands, at_read, normed
from mechprobe.gates.engine_stands import HeadStand, Stand
from mechprobe.gates.kernels.activations import act_forward
from mechprobe.gates.kernels.rotary import turned
from mechprobe.models.frozen import Frozen, Norm, Start


@dataclass(frozen=True)
class Placed:
    """Which units a layer runs: their numbers, and 1 where one is run, 0 where it fills the room.

    Of an attention layer [vector, room], of an MLP [1, room].
    """

    units: Tensor
    there: Tensor


class StaticStep:
    """One size of step and its buffers.

    Args:
        start: of a batch of the shapes that it is for.
        cut: the stage from which on only the read-out's position goes on (past the end: none).
        stands: what closed gates put in place, the same at every position.
        k: gate vectors.
        room: for how many units of every layer.
    """

    def __init__(
        self, frozen: Frozen, stages: Sequence[GatedStage], cut: int, start: Start, stands: Stands,
        k: int, room: Room,
    ) -> None:
        self.frozen, self.stages, self.cut, self.stands, self.k = frozen, stages, cut, stands, k
        self.start = _copy(start)
        self.n = len(start.streams[0])
        sites = sum(columns.stop - columns.start for stage in stages for columns in stage.own)
        like = start.streams[0]
        self.gates = torch.ones(k, sites, dtype=like.dtype, device=like.device).requires_grad_()
        layers = [layer for stage in stages for layer in stage.layers]
        self.placed = [
            Placed(torch.zeros(rows, width, dtype=torch.long, device=like.device),
                   torch.zeros(rows, width, dtype=like.dtype, device=like.device))
            for layer, width in zip(layers, room, strict=True)
            for rows in [k if isinstance(layer, AttentionLayer) else 1]
        ]  # fmt: skip
        self.logits: Tensor | None = None
        self.into_logits: Tensor | None = None
        self.slopes: Tensor | None = None

    @torch.no_grad()
    def fill(self, start: Start, gates: Tensor, units: Sequence[Units]) -> None:
        """Put a batch, gates [k, site] and the units to run into the buffers."""
        for own, given in zip(tensors_of(self.start), tensors_of(start), strict=True):
            own.copy_(given)
        self.gates.copy_(gates)
        for placed, layer in zip(self.placed, units, strict=True):
            order, there = layer.placed(placed.units.shape[1])
            placed.units.copy_(torch.from_numpy(order))
            placed.there.copy_(torch.from_numpy(there))

    def forward(self) -> None:
        """From the buffers to ``logits`` [k, batch, ...]."""
        with torch.enable_grad():
            x, places = self.start.streams[0].unsqueeze(0), iter(self.placed)
            for i, stage in enumerate(self.stages):
                x = self._stage(i, stage, x, places)
            x = normed(self.frozen.stacks[-1].norm, x.flatten(0, 1))[0]
            self.logits = self.frozen.read_out(x).unflatten(0, (self.k, -1))
        if self.into_logits is None:
            self.into_logits = torch.zeros_like(self.logits)

    def back(self) -> None:
        """From ``into_logits``, the gradient of the logits, to ``slopes`` [k, site]."""
        assert self.logits is not None
        (self.slopes,) = torch.autograd.grad(self.logits, self.gates, self.into_logits)

    def _stage(
        self, i: int, stage: GatedStage, x: Tensor, places: Iterator[Placed]
    ) -> Tensor:
        """The stream [k, batch, pos, d_model] after a stage; before the first it is one for all."""
        read = self.start.read if i == self.cut else None
        at = x
        if read is not None:
            at = at_read(x.flatten(0, 1), read, len(x)).unflatten(0, (len(x), -1))
        out = at
        for part, layer, (columns, _) in zip(
            stage.stage.parts, stage.layers, stage.columns, strict=True
        ):
            placed = next(places)
            if isinstance(layer, AttentionLayer):
                gates = self._gates(columns, layer.n_heads)
                queries = None if read is None else at
                out = out + self._attend(layer, part.norm, x, queries, placed, gates)
            else:
                out = out + self._think(layer, part.norm, at, placed, self._gates(columns, 1))
        return normed(stage.stage.norm, out.flatten(0, 1))[0].unflatten(0, (self.k, -1))

    def _gates(self, columns: slice | None, width: int) -> Tensor:
        """A layer's gates [k, unit]; 1 where it has none."""
        if columns is None:
            return torch.ones(self.k, width, dtype=self.gates.dtype, device=self.gates.device)
        return self.gates[:, columns]

    def _attend(
        self, layer: AttentionLayer, norm: Norm | None, x: Tensor, queries: Tensor | None,
        placed: Placed, gates: Tensor,
    ) -> Tensor:
        """What an attention layer adds [k, batch, query, d_model], or [k, 1, 1, d_model]."""
        stand = self.stands.get(layer.layer.site, HeadStand())
        assert isinstance(stand, HeadStand)
        add = layer.layer.b_o.expand(self.k, -1)
        if stand.closed is not None:
            add = add + (1 - gates) @ stand.closed
        add, shared = add[:, None, None], len(x) == 1
        units = torch.arange(layer.n_heads, device=x.device)[None] if shared else placed.units
        if not units.shape[1]:
            return add
        z = self._mixed(layer, norm, x, queries, units).unflatten(0, units.shape)
        g = gates if shared else gates.gather(1, units) * placed.there
        rows = (z * g[:, :, None, None, None].to(z.dtype)).permute(0, 2, 3, 1, 4).flatten(3)
        out = rows.flatten(1, 2) @ layer.w_o[units].flatten(1, 2)
        return out.to(x.dtype).unflatten(1, (self.n, -1)) + add

    def _mixed(
        self, layer: AttentionLayer, norm: Norm | None, x: Tensor, queries: Tensor | None,
        units: Tensor,
    ) -> Tensor:
        """z of these heads, [vector x unit, batch, query, d_head]."""
        rows = normed(norm, x)[0].to(layer.dtype)
        seen = rows if queries is None else normed(norm, queries)[0].to(layer.dtype)
        (q,) = _into_heads(seen, layer.weights("q"), units, 1)
        k, v = _into_heads(rows, layer.weights("kv"), units // layer.group, 2)
        read = None if queries is None else self.start.read
        if (turn := self.start.turns.get(layer.layer.turned)) is not None:
            q, k = turned(q, turn, read), turned(k, turn, None)
        bias, sees = self._bias(layer, units, read)
        z = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
        return z if sees is None else z * sees.to(z.dtype)

    def _bias(
        self, layer: AttentionLayer, units: Tensor, read: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Score biases [head or 1, batch or 1, query or 1, key], and which queries see anything.

        The latter is None where all do; -inf becomes the lowest number, which keeps slopes finite.
        """
        bias = self.start.biases.get(layer.layer.bias)
        if bias is None:
            return None, None
        if read is not None and bias.shape[2] > 1:
            rows = torch.arange(len(read), device=bias.device)
            bias = bias.expand(len(rows), -1, -1, -1)[rows, :, read].unsqueeze(2)
        bias = bias.transpose(0, 1)
        if len(bias) > 1:
            bias = bias[units.flatten()]
        sees = (bias > -torch.inf).any(-1, keepdim=True) if self.start.masked_rows else None
        return bias.clamp(min=torch.finfo(layer.dtype).min).to(layer.dtype), sees

    def _think(
        self, layer: MLPLayer, norm: Norm | None, x: Tensor, placed: Placed, gates: Tensor
    ) -> Tensor:
        """What an MLP adds [k, batch, pos, d_model], run on the vectors there is room for."""
        stand = self.stands.get(layer.layer.site, Stand())
        assert isinstance(stand, Stand)
        shared, vectors = len(x) == 1, placed.units[0]
        none = x.new_zeros(self.k, *x.shape[1:])
        closed = none if stand.value is None else (1 - gates)[:, :, None, None] * stand.value
        if not shared and not len(vectors):
            return closed
        rows = x if shared else x.index_select(0, vectors)
        out = _mlp(layer, normed(norm, rows)[0].to(layer.dtype)).to(x.dtype)
        if shared:
            return gates[:, :, None, None] * out + closed
        g = gates[vectors, 0] * placed.there[0]
        return none.index_add(0, vectors, g[:, None, None, None] * out) + closed


def _into_heads(
    x: Tensor, weights: tuple[Tensor, Tensor], units: Tensor, letters: int
) -> Tensor:
    """[letter, vector x unit, batch, pos, d_head] of x [vector, batch, pos, d_model]."""
    weight, bias = weights
    rows = x.flatten(1, 2) @ weight[units].flatten(1, 2).transpose(1, 2)
    rows = rows + bias[units].flatten(1)[:, None]
    split = rows.view(*x.shape[:3], units.shape[1], letters, weight.shape[1] // letters)
    return split.permute(4, 0, 3, 1, 2, 5).flatten(1, 2)


def _mlp(layer: MLPLayer, x: Tensor) -> Tensor:
    w_in, w_gate, w_out = layer.weights(None)
    if w_gate is None:
        post = act_forward(layer.layer.act, F.linear(x, w_in.weight, layer.b_in).flatten(0, -2))
    else:
        gate = act_forward(layer.layer.act, F.linear(x, w_gate.weight).flatten(0, -2))
        post = gate * F.linear(x, w_in.weight).flatten(0, -2) + layer.b_in
    return F.linear(post, w_out.weight.t(), layer.b_out).view(x.shape)


def tensors_of(start: Start) -> list[Tensor]:
    """Every tensor that a batch brings, in an order that depends on which there are alone."""
    found = [*start.streams, *(b for _, b in sorted(start.biases.items()) if b is not None)]
    for _, turn in sorted(start.turns.items()):
        found += [turn.cos, turn.sin]
    return found if start.read is None else [*found, start.read]


def shape_of(start: Start) -> tuple:
    """What two batches must share to go through the same step."""
    there = tuple((name, b is None) for name, b in sorted(start.biases.items()))
    sizes = tuple((tuple(t.shape), t.dtype) for t in tensors_of(start))
    return there, tuple(sorted(start.turns)), start.masked_rows, start.read is None, sizes


def _copy(start: Start) -> Start:
    return replace(
        start,
        streams=tuple(s.detach().clone() for s in start.streams),
        biases={name: None if b is None else b.clone() for name, b in start.biases.items()},
        turns={
            name: replace(turn, cos=turn.cos.clone(), sin=turn.sin.clone())
            for name, turn in start.turns.items()
        },
        read=None if start.read is None else start.read.clone(),
    )

"""Gated attention forward and backward: only heads that are open somewhere, and no tape.

Inside, heads come first, [head, block, pos, d_head], so that every product over heads is one
batched matrix product of contiguous memory. A block is one example of one gate vector.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mechprobe.gates.engine_rows import Rows, index_of
from mechprobe.gates.engine_stands import Stand
from mechprobe.gates.kernels.product import product
from mechprobe.models.frozen import Attention, Start, Turn


@dataclass(frozen=True)
class Heads:
    """What attention computed for some heads.

    Attributes:
        units: which heads.
        z: [head, block, query, d_head].
        kept: queries, keys, values (those a head reads, once a head) and pattern; None where no
            gradient goes into the stream.
    """

    units: tuple[int, ...]
    z: Tensor
    kept: tuple[Tensor, ...] | None

    def take(self, units: tuple[int, ...]) -> Heads:
        """Only some of these heads."""
        if units == self.units:
            return self
        at = index_of([self.units.index(u) for u in units], self.z.device)
        kept = None if self.kept is None else tuple(t[at] for t in self.kept)
        return Heads(units, self.z[at], kept)

    def repeat(self, n: int) -> Heads:
        """The same blocks n times over."""
        if n == 1:
            return self
        kept = None if self.kept is None else tuple(t.repeat(1, n, 1, 1) for t in self.kept)
        return Heads(self.units, self.z.repeat(1, n, 1, 1), kept)


class AttentionLayer:
    """One attention layer's weights, cut to the heads in use."""

    def __init__(self, layer: Attention) -> None:
        self.layer = layer
        self.n_heads, self.d_head = layer.n_heads, layer.d_head
        self.group = layer.n_heads // layer.n_kv
        self.every = tuple(range(layer.n_heads))
        self._whole = {
            which: self._lay(which)
            for which in ("o", "q", "kv") + (("qkv",) if self._fused else ())
        }
        self._cut: dict[str, tuple[tuple[int, ...], tuple[Tensor, Tensor]]] = {}

    @property
    def _fused(self) -> bool:
        """Whether queries, keys and values come from one product (self-attention, ungrouped)."""
        return self.group == 1 and not self.layer.memory

    def _lay(self, which: str) -> tuple[Tensor, Tensor]:
        """Weights [head, letter x d_head, d_model] and biases [head, letter x d_head]."""
        a = self.layer
        named = {"q": (a.w_q, a.b_q), "k": (a.w_k, a.b_k), "v": (a.w_v, a.b_v), "o": (a.w_o, None)}
        weights = [named[c][0].unflatten(0, (-1, self.d_head)) for c in which]
        biases = [b.view(-1, self.d_head) for c in which if (b := named[c][1]) is not None]
        bias = torch.cat(biases, 1) if biases else a.b_o
        return torch.cat(weights, 1).contiguous(), bias.contiguous()

    def weights(self, units: tuple[int, ...], which: str) -> tuple[Tensor, Tensor]:
        """Rows of "q", "kv", "qkv" or "o" of these heads (or their key-value heads), and bias."""
        known = self._cut.get(which)
        if known is not None and known[0] == units:
            return known[1]
        weight, bias = self._whole[which]
        heads = units if which[0] in "qo" else tuple(self._shared(units))
        if len(heads) < len(weight):
            at = index_of(list(heads), weight.device)
            weight = weight.index_select(0, at)
            bias = bias if which == "o" else bias.index_select(0, at)
        cut = weight.flatten(0, 1), bias if which == "o" else bias.flatten()
        self._cut[which] = (units, cut)
        return cut

    def _shared(self, units: tuple[int, ...]) -> list[int]:
        """The key-value heads that these heads read."""
        return sorted({u // self.group for u in units})

    def compute(
        self, x: Tensor, read_x: Tensor | None, memory: Tensor | None, units: tuple[int, ...],
        start: Start, keep: bool,
    ) -> Heads:
        """z of some heads on normed inputs [block, pos, d_model], queries at read_x if given."""
        a, d = len(units), self.d_head
        if self._fused and read_x is None:
            q, k, v = self._project(x, units, "qkv")
        else:
            (q,) = self._project(x if read_x is None else read_x, units, "q")
            k, v = self._project(x if memory is None else memory, units, "kv")
        turn = start.turns.get(self.layer.turned)
        if turn is not None:
            q = turned(q, turn, start.read if read_x is not None else None)
            k = turned(k, turn, None)
        pairs = self._pairs(units)
        if pairs is not None:
            k, v = k[pairs], v[pairs]
        scores = torch.bmm(q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2))
        scores = scores.view(a, q.shape[1], q.shape[2], k.shape[2])
        self._add_bias(scores, units, start, read_x is not None)
        pattern = torch.softmax(scores, -1)
        if start.masked_rows:
            pattern = pattern.nan_to_num_(0.0)
        z = torch.bmm(pattern.flatten(0, 1), v.flatten(0, 1)).view(a, *q.shape[1:3], d)
        return Heads(units, z, (q, k, v, pattern) if keep else None)

    def _pairs(self, units: tuple[int, ...]) -> Tensor | None:
        """The place, among the key-value heads in use, of each head's; None: its own."""
        if self.group == 1:
            return None
        shared = self._shared(units)
        return index_of([shared.index(u // self.group) for u in units], self.layer.w_q.device)

    def _project(self, x: Tensor, units: tuple[int, ...], which: str) -> Tensor:
        """[letter, head, block, pos, d_head] of normed inputs."""
        weight, bias = self.weights(units, which)
        rows = product(x.reshape(-1, x.shape[-1]), weight, bias)
        by_head = rows.view(*x.shape[:2], -1, len(which), self.d_head)
        return by_head.permute(3, 2, 0, 1, 4).contiguous()

    def _add_bias(
        self, scores: Tensor, units: tuple[int, ...], start: Start, at_read: bool
    ) -> None:
        bias = start.biases.get(self.layer.bias)
        if bias is None:
            return
        if at_read and start.read is not None and bias.shape[2] > 1:
            rows = torch.arange(len(start.read), device=bias.device)
            bias = bias.expand(len(rows), -1, -1, -1)[rows, :, start.read].unsqueeze(2)
        bias = bias.transpose(0, 1)
        if len(bias) > 1 and units != self.every:
            bias = bias[list(units)]
        b = bias.shape[1]
        if b > 1:  # the blocks of each gate vector are the batch's examples
            scores.view(len(units), -1, b, *scores.shape[2:]).add_(bias.unsqueeze(1))
        else:
            scores.add_(bias)

    def write(self, heads: Heads, gates: Rows, stand: Stand, copies: int) -> Tensor:
        """What the layer adds for gates [n, head]: [n x batch, query, d_model].

        ``heads`` holds the batch's examples ``copies`` times: once for all gate vectors, or n.
        """
        n, units = len(gates), list(heads.units)
        added = stand.write(gates)
        batch, queries = heads.z.shape[1] // copies, heads.z.shape[2]
        bias = self.layer.b_o
        if added is not None and added.numel() == added.shape[-1]:
            bias, added = bias + added.view(-1), None
        if units:
            z, g = heads.z.permute(1, 2, 0, 3), gates.units(units)
            if n > copies or not g.open:
                z = z.unflatten(0, (copies, batch)) * g.values[:, None, None, :, None]
            weight, _ = self.weights(heads.units, "o")
            out = product(z.reshape(-1, len(weight)), weight.t(), bias)
        else:
            out = bias.repeat(n * batch * queries, 1)
        out = out.view(n, batch, queries, -1)
        return (out if added is None else out.add_(added)).flatten(0, 1)

    def backward(
        self, heads: Heads, gates: Rows, wanted: np.ndarray, stand: Stand, grad: Tensor,
        start: Start, into_stream: bool, at_read: bool,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Gradients of the gates [n, head], of the queries' input and of the keys' (None: same).

        ``heads`` has n x batch blocks; ``grad`` is that of ``write``'s output.
        """
        n, units = len(gates), list(heads.units)
        found = torch.zeros_like(gates.values)
        asked = bool(wanted[:, units].any()) if units else False
        if not units or not (asked or into_stream):
            return found, None, None
        weight, _ = self.weights(heads.units, "o")
        rows = product(grad.reshape(-1, grad.shape[-1]), weight)
        dz = rows.view(*grad.shape[:2], len(units), -1).permute(2, 0, 1, 3).contiguous()
        if asked:
            slopes = _gate_gradients(heads.z, dz, stand, units, n)
            if len(units) == self.n_heads:
                found = slopes
            else:
                found[:, units] = slopes
        if not into_stream:
            return found, None, None
        g = gates.units(units)
        if not g.open:
            dz.view(len(units), n, -1, *dz.shape[2:]).mul_(g.values.t()[:, :, None, None, None])
        return found, *self._into_stream(heads, dz, start, at_read)

    def _into_stream(
        self, heads: Heads, dz: Tensor, start: Start, at_read: bool
    ) -> tuple[Tensor, Tensor | None]:
        assert heads.kept is not None
        q, k, v, pattern = heads.kept
        units, a = heads.units, len(q)
        flat, flat_p = dz.flatten(0, 1), pattern.flatten(0, 1)
        d_pattern = torch.bmm(flat, v.flatten(0, 1).transpose(1, 2))
        d_scores = torch.ops.aten._softmax_backward_data(d_pattern, flat_p, -1, flat_p.dtype)
        turn, pairs = start.turns.get(self.layer.turned), self._pairs(units)
        if self._fused and not at_read:
            grads = q.new_empty(3, *q.shape)
            _products(grads, d_scores, flat_p, flat, q, k)
            if turn is not None:
                grads = torch.stack([*(turned(t, turn, None, True) for t in grads[:2]), grads[2]])
            return self._unproject(grads, units, "qkv"), None
        queries = torch.bmm(d_scores, k.flatten(0, 1)).view(a, *q.shape[1:])
        both = k.new_empty(2, *k.shape)
        torch.bmm(d_scores.transpose(1, 2), q.flatten(0, 1), out=both[0].flatten(0, 1))
        torch.bmm(flat_p.transpose(1, 2), flat, out=both[1].flatten(0, 1))
        if pairs is not None:
            none = k.new_zeros(2, int(pairs.max()) + 1, *k.shape[1:])
            both = none.index_add(1, pairs, both)
        if turn is not None:
            queries = turned(queries, turn, start.read if at_read else None, back=True)
            both = torch.stack([turned(both[0], turn, None, back=True), both[1]])
        into_q, into_kv = self._unproject(queries[None], units, "q"), self._unproject(
            both, units, "kv"
        )
        if not at_read and not self.layer.memory:
            return into_q.add_(into_kv), None
        return into_q, into_kv

    def _unproject(self, grads: Tensor, units: tuple[int, ...], which: str) -> Tensor:
        """Gradient of the normed inputs, from [letter, head, block, pos, d_head]."""
        weight, _ = self.weights(units, which)
        rows = grads.permute(2, 3, 1, 0, 4).reshape(-1, len(weight))
        return product(rows, weight.t()).view(*grads.shape[2:4], -1)


def _products(
    grads: Tensor, d_scores: Tensor, pattern: Tensor, dz: Tensor, q: Tensor, k: Tensor
) -> None:
    """Gradients of queries, keys and values into [3, head, block, pos, d_head]."""
    torch.bmm(d_scores, k.flatten(0, 1), out=grads[0].flatten(0, 1))
    torch.bmm(d_scores.transpose(1, 2), q.flatten(0, 1), out=grads[1].flatten(0, 1))
    torch.bmm(pattern.transpose(1, 2), dz, out=grads[2].flatten(0, 1))


def _gate_gradients(z: Tensor, dz: Tensor, stand: Stand, units: list[int], n: int) -> Tensor:
    """Sum over a gate vector's blocks and positions of dz (z - stand-in), [n, unit]."""
    by_member = dz.view(len(units), n, -1, *dz.shape[2:])
    found = (dz * z).view(len(units), n, -1).sum(-1)
    if stand.value is not None:
        value = stand.value if len(stand.value) == 1 else stand.value[units]
        if value.shape[1] == value.shape[2] == 1:
            found = found - (by_member.sum((2, 3)) * value[:, :, 0]).sum(-1)
        else:
            found = found - (by_member * value.unsqueeze(1)).flatten(2).sum(-1)
    return found.t()


def turned(x: Tensor, turn: Turn, read: Tensor | None, back: bool = False) -> Tensor:
    """Queries or keys [head, block, pos, d_head] turned by their positions' angles, or back."""
    cos, sin = turn.cos, turn.sin
    if read is not None:
        rows = torch.arange(len(read), device=read.device)
        cos, sin = (t.expand(len(read), -1, -1, -1)[rows, :, read].unsqueeze(2) for t in (cos, sin))
    width = cos.shape[-1]
    own, rest = x[..., :width], x[..., width:]
    b = len(cos)
    if turn.adjacent:
        flipped = torch.stack([-own[..., 1::2], own[..., ::2]], -1).flatten(-2)
    else:
        first, second = own.chunk(2, -1)
        flipped = torch.cat([-second, first], -1)
    shape = (len(x), -1, b, *own.shape[2:])
    cos, sin = cos.transpose(0, 1)[:, None], sin.transpose(0, 1)[:, None]
    out = own.reshape(shape) * cos
    out = out - flipped.view(shape) * sin if back else out + flipped.view(shape) * sin
    out = out.view(own.shape)
    return out if not rest.shape[-1] else torch.cat([out, rest], -1)

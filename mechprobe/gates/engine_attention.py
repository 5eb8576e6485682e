"""Gated attention forward and backward: only heads that are open, and no tape.

Inside, pairs of gate vector and head come first, [pair, batch, pos, d_head], so that every product
over heads is one batched matrix product of contiguous memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mechprobe.gates.engine_rows import Rows
from mechprobe.gates.engine_stands import HeadStand
from mechprobe.gates.kernels.gated_heads import write_heads, write_heads_back
from mechprobe.gates.kernels.pairs import Pairs, from_heads, index_of, into_heads
from mechprobe.gates.kernels.rotary import turned
from mechprobe.models.frozen import Attention, Start


@dataclass(frozen=True)
class Heads:
    """What attention computed for some pairs.

    Attributes:
        z: [pair, batch, query, d_head].
        kept: queries, keys, values (those a head reads, once a head) and pattern; None where no
            gradient goes into the stream.
    """

    pairs: Pairs
    z: Tensor
    kept: tuple[Tensor, ...] | None

    def z_of(self, pairs: Pairs) -> Tensor:
        """z of some of these pairs, or of several vectors that share them."""
        at = pairs.within(self.pairs)
        return self.z if at is None else self.z[index_of(at, self.z.device)]

    def take(self, pairs: Pairs) -> Heads:
        """All of it for some of these pairs, or for several vectors that share them."""
        at = pairs.within(self.pairs)
        if at is None:
            return self
        rows = index_of(at, self.z.device)
        kept = None if self.kept is None else tuple(t[rows] for t in self.kept)
        return Heads(pairs, self.z[rows], kept)


class AttentionLayer:
    """One attention layer's weights, laid out by head: [head, letter x d_head, d_model]."""

    def __init__(self, layer: Attention, dtype: torch.dtype) -> None:
        self.layer, self.dtype = layer, dtype
        self.n_heads, self.d_head = layer.n_heads, layer.d_head
        self.group = layer.n_heads // layer.n_kv
        self.fused = self.group == 1 and not layer.memory  # one product gives q, k and v
        self.w_o = layer.w_o.unflatten(0, (-1, self.d_head)).to(dtype)
        self._laid: dict[str, tuple[Tensor, Tensor]] = {}

    def weights(self, letters: str) -> tuple[Tensor, Tensor]:
        """Of "q", "kv" or "qkv": [head, letter x d_head, d_model], and biases without d_model."""
        if letters not in self._laid:
            self._laid[letters] = self._lay(letters)
        return self._laid[letters]

    def _lay(self, letters: str) -> tuple[Tensor, Tensor]:
        a, d = self.layer, self.d_head
        named = {"q": (a.w_q, a.b_q), "k": (a.w_k, a.b_k), "v": (a.w_v, a.b_v)}
        weight = torch.cat([named[c][0].unflatten(0, (-1, d)) for c in letters], 1)
        bias = torch.cat([named[c][1].view(-1, d) for c in letters], 1)
        return weight.to(self.dtype).contiguous(), bias.to(self.dtype).contiguous()

    def compute(
        self, x: Tensor, read_x: Tensor | None, memory: Tensor | None, pairs: Pairs,
        start: Start, keep: bool,
    ) -> Heads:
        """z of the pairs on normed inputs [block, pos, d_model], queries at read_x if given."""
        x = x.to(self.dtype)
        if self.fused and read_x is None:
            q, k, v = into_heads(x, *self.weights("qkv"), pairs, 3)
        else:
            queries = x if read_x is None else read_x.to(self.dtype)
            keys = x if memory is None else memory.to(self.dtype)
            (q,) = into_heads(queries, *self.weights("q"), pairs)
            k, v = into_heads(keys, *self.weights("kv"), self._read(pairs), 2)
        turn = start.turns.get(self.layer.turned)
        if turn is not None:
            q = turned(q, turn, start.read if read_x is not None else None)
            k = turned(k, turn, None)
        if self.group > 1:
            own = self._own(pairs)
            k, v = k[own], v[own]
        scores = torch.bmm(q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2))
        scores = scores.view(*q.shape[:3], k.shape[2])
        self._add_bias(scores, pairs, start, read_x is not None)
        pattern = torch.softmax(scores, -1)
        if start.masked_rows:
            pattern = pattern.nan_to_num_(0.0)
        z = torch.bmm(pattern.flatten(0, 1), v.flatten(0, 1)).view(q.shape)
        return Heads(pairs, z, (q, k, v, pattern) if keep else None)

    def _read(self, pairs: Pairs) -> Pairs:
        """The pairs of gate vector and key-value head that these pairs read."""
        if self.group == 1:
            return pairs
        both = sorted({(m, h // self.group) for m, h in zip(pairs.members, pairs.heads,
                                                            strict=True)})  # fmt: skip
        return Pairs(pairs.n, tuple(m for m, _ in both), tuple(h for _, h in both))

    def _own(self, pairs: Pairs) -> Tensor:
        """The place, among the key-value pairs in use, of each pair's."""
        read = self._read(pairs)
        wanted = Pairs(pairs.n, pairs.members, tuple(h // self.group for h in pairs.heads))
        at = wanted.within(read)
        return index_of(list(range(len(pairs))) if at is None else at, self.w_o.device)

    def _add_bias(self, scores: Tensor, pairs: Pairs, start: Start, at_read: bool) -> None:
        """Add the batch's score bias [batch or 1, head or 1, query or 1, key] in place."""
        bias = start.biases.get(self.layer.bias)
        if bias is None:
            return
        if at_read and start.read is not None and bias.shape[2] > 1:
            rows = torch.arange(len(start.read), device=bias.device)
            bias = bias.expand(len(rows), -1, -1, -1)[rows, :, start.read].unsqueeze(2)
        bias = bias.transpose(0, 1)
        if len(bias) > 1 and pairs.heads != tuple(range(self.n_heads)):
            bias = bias[list(pairs.heads)]
        if scores.dtype != bias.dtype and not start.masked_rows:
            bias = bias.clamp(min=torch.finfo(scores.dtype).min)  # finite floors stay finite
        scores.add_(bias)

    def write(self, heads: Heads, pairs: Pairs, gates: Rows, stand: HeadStand) -> Tensor:
        """What the layer adds for gates [n, head] whose ``pairs`` are run: [block, query, m]."""
        z, total = heads.z_of(pairs), None
        if stand.total is not None and not gates.open:
            z, total = (z - stand.of(pairs)).to(z.dtype), stand.total
        out = write_heads(z, gates.values, self.w_o, self.layer.b_o, stand.closed, pairs)
        if total is not None:
            out.unflatten(0, (len(gates), -1)).add_(total)
        return out

    def backward(
        self, heads: Heads, pairs: Pairs, gates: Rows, asked: bool, stand: HeadStand, grad: Tensor,
        start: Start, into_stream: bool, at_read: bool,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Gradients of the gates [n, batch, head], of the queries' input and of the keys'.

        The gates' is None where there is none, the keys' where it is in the queries'.

        ``grad`` is that of ``write``'s output.
        """
        if not len(pairs) or not (asked or into_stream):
            return None, None, None
        heads = heads.take(pairs)
        z = heads.z if stand.total is None else (heads.z - stand.of(pairs)).to(self.dtype)
        dz, found = write_heads_back(
            grad.to(self.dtype), z, gates.values, self.w_o, stand.closed, pairs,
            into_z=into_stream, into_gates=asked,
        )
        if not into_stream:
            return found, None, None
        into_q, into_kv = self._into_stream(heads, dz, start, at_read)
        into_kv = None if into_kv is None else into_kv.to(grad.dtype)
        return found, into_q.to(grad.dtype), into_kv

    def _into_stream(
        self, heads: Heads, dz: Tensor, start: Start, at_read: bool
    ) -> tuple[Tensor, Tensor | None]:
        assert heads.kept is not None
        q, k, v, pattern = heads.kept
        pairs, flat, flat_p = heads.pairs, dz.flatten(0, 1), pattern.flatten(0, 1)
        d_pattern = torch.bmm(flat, v.flatten(0, 1).transpose(1, 2))
        d_scores = torch.ops.aten._softmax_backward_data(d_pattern, flat_p, -1, flat_p.dtype)
        turn = start.turns.get(self.layer.turned)
        alike = self.fused and not at_read
        letters = q.new_empty(3, *q.shape) if alike else None
        d_q = q.new_empty(q.shape) if letters is None else letters[0]
        d_kv = k.new_empty(2, *k.shape) if letters is None else letters[1:]
        torch.bmm(d_scores, k.flatten(0, 1), out=d_q.flatten(0, 1))
        torch.bmm(d_scores.transpose(1, 2), q.flatten(0, 1), out=d_kv[0].flatten(0, 1))
        torch.bmm(flat_p.transpose(1, 2), flat, out=d_kv[1].flatten(0, 1))
        if turn is not None:
            d_q.copy_(turned(d_q, turn, start.read if at_read else None, back=True))
            d_kv[0].copy_(turned(d_kv[0], turn, None, back=True))
        if letters is not None:
            return from_heads(letters, self.weights("qkv")[0], pairs), None
        read = self._read(pairs)
        if self.group > 1:
            none = k.new_zeros(2, len(read), *k.shape[1:])
            d_kv = none.index_add(1, self._own(pairs), d_kv)
        into_q = from_heads(d_q[None], self.weights("q")[0], pairs)
        into_kv = from_heads(d_kv, self.weights("kv")[0], read)
        if not at_read and not self.layer.memory:
            return into_q.add_(into_kv), None
        return into_q, into_kv

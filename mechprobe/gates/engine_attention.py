"""Gated attention forward and backward: only heads that are open somewhere, and no tape.

Inside, heads come first, [head, block, pos, d_head], so that every product over heads is one
batched matrix product of contiguous memory. A block is one example of one gate vector.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

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
        at = torch.tensor([self.units.index(u) for u in units], device=self.z.device).long()
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
        self._cut: dict[tuple[tuple[int, ...], str], tuple[Tensor, Tensor]] = {}

    def weights(self, units: tuple[int, ...], which: str) -> tuple[Tensor, Tensor]:
        """Rows of "q", "kv", "qkv" or "o" of these heads (or their key-value heads), and bias."""
        key = (units, which)
        if key not in self._cut:
            if len(self._cut) > 4 and units != self.every:
                whole = {k: w for k, w in self._cut.items() if k[0] == self.every}
                self._cut = whole
            self._cut[key] = self._gather(units, which)
        return self._cut[key]

    def _gather(self, units: tuple[int, ...], which: str) -> tuple[Tensor, Tensor]:
        own, shared = list(units), sorted({u // self.group for u in units})
        a = self.layer
        named = {"q": (a.w_q, a.b_q, own), "k": (a.w_k, a.b_k, shared),
                 "v": (a.w_v, a.b_v, shared), "o": (a.w_o, a.b_o, own)}  # fmt: skip
        rows, biases = [], []
        for letter in which:
            weight, bias, heads = named[letter]
            rows.append(weight.view(-1, self.d_head, weight.shape[1])[heads].flatten(0, 1))
            if letter != "o":
                biases.append(bias.view(-1, self.d_head)[heads].flatten())
        bias = torch.cat(biases) if biases else a.b_o
        return torch.cat(rows), bias

    def compute(
        self, x: Tensor, read_x: Tensor | None, memory: Tensor | None, units: tuple[int, ...],
        start: Start, keep: bool,
    ) -> Heads:
        """z of some heads on normed inputs [block, pos, d_model], queries at read_x if given."""
        a, d = len(units), self.d_head
        keys = memory if memory is not None else x
        shared = len({u // self.group for u in units})
        if memory is None and read_x is None:
            qkv = self._project(x, units, "qkv")
            q, k, v = qkv[:a], qkv[a : a + shared], qkv[a + shared :]
        else:
            q = self._project(x if read_x is None else read_x, units, "q")
            kv = self._project(keys, units, "kv")
            k, v = kv[:shared], kv[shared:]
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
        if self.group == 1:
            return None
        shared = sorted({u // self.group for u in units})
        pairs = [shared.index(u // self.group) for u in units]
        return torch.tensor(pairs, device=self.layer.w_q.device)

    def _project(self, x: Tensor, units: tuple[int, ...], which: str) -> Tensor:
        """[head, block, pos, d_head] of normed inputs."""
        weight, bias = self.weights(units, which)
        rows = product(x.reshape(-1, x.shape[-1]), weight, bias)
        by_head = rows.view(*x.shape[:2], -1, self.d_head)
        return by_head.permute(2, 0, 1, 3).contiguous()

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

    def write(self, heads: Heads, gates: Tensor, stand: Stand, copies: int) -> Tensor:
        """What the layer adds for gates [n, head]: [n x batch, query, d_model].

        ``heads`` holds the batch's examples ``copies`` times: once for all gate vectors, or n.
        """
        n, units = len(gates), list(heads.units)
        added = stand.write(1 - gates)
        batch, queries = heads.z.shape[1] // copies, heads.z.shape[2]
        bias = self.layer.b_o
        if added is not None and added.numel() == added.shape[-1]:
            bias, added = bias + added.view(-1), None
        if units:
            z = heads.z.permute(1, 2, 0, 3)
            g = gates[:, units]
            if n > copies or bool((g != 1).any()):
                z = z.unflatten(0, (copies, batch)) * g[:, None, None, :, None]
            weight, _ = self.weights(heads.units, "o")
            out = product(z.reshape(-1, len(weight)), weight.t(), bias)
        else:
            out = bias.repeat(n * batch * queries, 1)
        out = out.view(n, batch, queries, -1)
        return (out if added is None else out.add_(added)).flatten(0, 1)

    def backward(
        self, heads: Heads, gates: Tensor, wanted: Tensor, stand: Stand, grad: Tensor,
        start: Start, into_stream: bool, at_read: bool,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Gradients of the gates [n, head], of the queries' input and of the keys' (None: same).

        ``heads`` has n x blocks blocks; ``grad`` is that of ``write``'s output.
        """
        n, units = len(gates), list(heads.units)
        found = torch.zeros_like(gates)
        if not units:
            return found, None, None
        weight, _ = self.weights(heads.units, "o")
        rows = product(grad.reshape(-1, grad.shape[-1]), weight)
        dz = rows.view(*grad.shape[:2], len(units), -1).permute(2, 0, 1, 3).contiguous()
        if bool(wanted[:, units].any()):
            found[:, units] = _gate_gradients(heads.z, dz, stand, units, n)
        if not into_stream:
            return found, None, None
        g = gates[:, units]
        if bool((g != 1).any()):
            by_member = dz.view(len(units), n, -1, *dz.shape[2:])
            by_member *= g.t()[:, :, None, None, None]
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
        queries = torch.bmm(d_scores, k.flatten(0, 1)).view(a, *q.shape[1:])
        keys = torch.bmm(d_scores.transpose(1, 2), q.flatten(0, 1)).view(a, *k.shape[1:])
        values = torch.bmm(flat_p.transpose(1, 2), flat).view(a, *v.shape[1:])
        pairs = self._pairs(units)
        if pairs is not None:
            none = k.new_zeros(int(pairs.max()) + 1, *k.shape[1:])
            keys, values = none.index_add(0, pairs, keys), none.index_add(0, pairs, values)
        turn = start.turns.get(self.layer.turned)
        if turn is not None:
            queries = turned(queries, turn, start.read if at_read else None, back=True)
            keys = turned(keys, turn, None, back=True)
        if not at_read and not self.layer.memory:
            return self._unproject(torch.cat([queries, keys, values]), units, "qkv"), None
        return (
            self._unproject(queries, units, "q"),
            self._unproject(torch.cat([keys, values]), units, "kv"),
        )

    def _unproject(self, grads: Tensor, units: tuple[int, ...], which: str) -> Tensor:
        """Gradient of the normed inputs [block, pos, d_model] of a projection."""
        weight, _ = self.weights(units, which)
        rows = grads.permute(1, 2, 0, 3).reshape(-1, len(weight))
        return product(rows, weight.t()).view(*grads.shape[1:3], -1)


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

"""Gated MLP layers forward and backward: run where open, open neurons only, and no tape."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mechprobe.gates.engine_rows import Rows
from mechprobe.gates.engine_stands import Stand
from mechprobe.gates.kernels.activations import act_backward, act_forward
from mechprobe.gates.kernels.gated_add import add_gated, add_gated_back
from mechprobe.gates.kernels.product import Packed
from mechprobe.models.frozen import MLP


@dataclass(frozen=True)
class Neurons:
    """What an MLP computed, rows being block x pos.

    Attributes:
        copies: gate vectors that the rows are of.
        units: which neurons; None: all of them.
        pre, gate_pre: [row, neuron], what goes into the product and (gated) the activation.
        post: [row, neuron], where neurons have gates of their own.
        out: [row, d_model], with the bias, where they have none.
    """

    copies: int
    units: Tensor | None
    pre: Tensor
    gate_pre: Tensor | None
    post: Tensor | None
    out: Tensor | None

    def repeat(self, n: int) -> Neurons:
        """The same rows for n vectors."""
        if n == self.copies:
            return self
        others = (self.gate_pre, self.post, self.out)
        rest = (t if t is None else t.repeat(n, 1) for t in others)
        return Neurons(n, self.units, self.pre.repeat(n, 1), *rest)


@dataclass(frozen=True)
class Way:
    """Gates of an MLP on some gate vectors, and what stands in closed ones' places.

    Attributes:
        gates: [n, 1].
        of_neurons: [n, neuron], or None where neurons have no gates.
        members: the vectors whose MLP is run.
    """

    gates: Rows
    of_neurons: Rows | None
    members: tuple[int, ...]
    stand: Stand
    neuron_stand: Stand | None


class MLPLayer:
    """One MLP's weights, cut to the neurons in use."""

    def __init__(self, layer: MLP, dtype: torch.dtype) -> None:
        self.layer, self.dtype = layer, dtype
        self.b_in, self.b_out = layer.b_in.to(dtype), layer.b_out.to(dtype)
        gate = layer.w_gate
        whole = layer.w_in, gate, layer.w_out
        self._whole = tuple(None if w is None else Packed(w.to(dtype)) for w in whole)

    def weights(self, units: Tensor | None) -> tuple[Packed, Packed | None, Packed]:
        """W_in, W_gate and W_out of some neurons."""
        w_in, w_gate, w_out = self._whole
        assert w_in is not None
        assert w_out is not None
        if units is None:
            return w_in, w_gate, w_out
        gate = None if w_gate is None else Packed(w_gate.weight[units])
        return Packed(w_in.weight[units]), gate, Packed(w_out.weight[units])

    def compute(self, x: Tensor, copies: int, units: Tensor | None, with_out: bool) -> Neurons:
        """The MLP on normed inputs [block, pos, d_model] of ``copies`` gate vectors."""
        w_in, w_gate, w_out = self.weights(units)
        b_in = self.b_in if units is None else self.b_in[units]
        rows = x.reshape(-1, x.shape[-1]).to(self.dtype)
        if w_gate is None:
            pre, gate_pre = w_in(rows, b_in), None
            post = act_forward(self.layer.act, pre)
        else:
            pre, gate_pre = w_in(rows), w_gate(rows)
            post = torch.addcmul(b_in, act_forward(self.layer.act, gate_pre), pre)
        if not with_out:
            return Neurons(copies, units, pre, gate_pre, post, None)
        return Neurons(copies, units, pre, gate_pre, None, w_out.back(post, self.b_out))

    def write(self, found: Neurons | None, way: Way, stream: Tensor) -> Tensor:
        """The stream [n or 1, batch, pos, d_model] with what the layer adds, [n, ...].

        Args:
            found: of ``way.members``, or one for all of them; None where there are none.
        """
        own = None if found is None else self._out(found, way, stream.shape)
        return add_gated(stream, own, way.gates.values[:, 0], way.stand.value, way.members)

    def _out(self, found: Neurons, way: Way, shape: torch.Size) -> Tensor:
        """The MLP's output under its neurons' gates, [copies or members, batch, pos, d_model]."""
        if way.of_neurons is None:
            assert found.out is not None
            return found.out.view(-1, *shape[1:])
        assert found.post is not None
        assert way.neuron_stand is not None
        gates = way.of_neurons.take(list(way.members))
        g = gates.values if found.units is None else gates.values[:, found.units]
        post = found.post.view(found.copies, shape[1] * shape[2], -1) * g[:, None].to(self.dtype)
        *_, w_out = self.weights(found.units)
        out = w_out.back(post.flatten(0, 1), self.b_out).view(-1, *shape[1:])
        added = way.neuron_stand.write(gates)
        return out if added is None else out.add_(added)

    def backward(
        self, found: Neurons | None, way: Way, wanted: bool, wanted_neurons: bool, grad: Tensor,
        into_stream: bool,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Gradients of gates [n, batch, 1], of neurons' gates [n, batch, neuron], of the input.

        The last [members x batch, pos, d_model], before its norm's; ``grad`` is the stream's
        [n, batch, pos, d_model]. None: all 0.
        """
        further = into_stream or wanted_neurons
        if found is None or not way.members or not (wanted or further):
            return None, None, None
        found = found.repeat(len(way.members))
        own = self._out(found, way, grad.shape) if wanted else None
        d_own, slopes = add_gated_back(
            grad, own, way.gates.values[:, 0], way.stand.value, way.members,
            into_own=further, into_gates=wanted,
        )
        slopes = slopes.unsqueeze(-1)
        if not further:
            return slopes, None, None
        rows = d_own.reshape(-1, grad.shape[-1]).to(self.dtype)
        *_, w_out = self.weights(found.units)
        d_post = w_out(rows)
        of_neurons = None
        if way.of_neurons is not None:
            d_post, of_neurons = self._through_gates(found, way, way.of_neurons, d_post, grad.shape)
        if not into_stream:
            return slopes, of_neurons, None
        into = self._into_stream(found, d_post).to(grad.dtype)
        return slopes, of_neurons, into.view(-1, *grad.shape[2:])

    def _through_gates(
        self, found: Neurons, way: Way, rows: Rows, d_post: Tensor, shape: torch.Size
    ) -> tuple[Tensor, Tensor]:
        """Gradients of the neurons' values, and of their gates [n, batch, neuron]."""
        members = list(way.members)
        units = slice(None) if found.units is None else found.units
        assert found.post is not None
        by_member = d_post.view(len(members), *shape[1:3], d_post.shape[-1])
        own = found.post.view(by_member.shape)
        if way.neuron_stand is not None and way.neuron_stand.value is not None:
            own = own - way.neuron_stand.value[units].permute(3, 1, 2, 0)
        slopes = rows.values.new_zeros(len(members), shape[1], rows.values.shape[1])
        slopes[..., units] = (by_member * own).sum(2).to(slopes)
        out = slopes.new_zeros(len(rows), *slopes.shape[1:])
        out[members] = slopes
        gates = rows.values[members][:, units]
        return (by_member * gates[:, None, None].to(self.dtype)).flatten(0, 2), out

    def _into_stream(self, found: Neurons, d_post: Tensor) -> Tensor:
        w_in, w_gate, _ = self.weights(found.units)
        act = self.layer.act
        if w_gate is None:
            return w_in.back(act_backward(act, d_post, found.pre))
        assert found.gate_pre is not None
        d_gate = act_backward(act, d_post * found.pre, found.gate_pre)
        return w_gate.back(d_gate) + w_in.back(d_post * act_forward(act, found.gate_pre))

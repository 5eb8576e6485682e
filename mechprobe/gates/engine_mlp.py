"""Gated MLP layers forward and backward: open neurons only, skipped where closed, and no tape."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mechprobe.gates.engine_rows import Rows
from mechprobe.gates.engine_stands import Stand
from mechprobe.gates.kernels.activations import act_backward, act_forward
from mechprobe.gates.kernels.product import product
from mechprobe.models.frozen import MLP


@dataclass(frozen=True)
class Neurons:
    """What an MLP computed, rows being block x pos.

    Attributes:
        units: which neurons; None: all of them.
        pre, gate_pre: [row, neuron], what goes into the product and (gated) the activation.
        post: [row, neuron], where neurons have gates of their own.
        out: [row, d_model], with the bias, where they have none.
    """

    units: Tensor | None
    pre: Tensor | None
    gate_pre: Tensor | None
    post: Tensor | None
    out: Tensor | None

    def repeat(self, n: int) -> Neurons:
        """The same rows n times over."""
        if n == 1:
            return self
        parts = (self.pre, self.gate_pre, self.post, self.out)
        return Neurons(self.units, *(t if t is None else t.repeat(n, 1) for t in parts))


class MLPLayer:
    """One MLP's weights, cut to the neurons in use."""

    def __init__(self, layer: MLP) -> None:
        self.layer = layer

    def _cut(self, units: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        a = self.layer
        if units is None:
            return a.w_in, a.b_in, a.w_gate, a.w_out
        gate = None if a.w_gate is None else a.w_gate[units]
        return a.w_in[units], a.b_in[units], gate, a.w_out[units]

    def compute(self, x: Tensor, units: Tensor | None, with_out: bool) -> Neurons:
        """The MLP on normed inputs [block, pos, d_model]."""
        w_in, b_in, w_gate, w_out = self._cut(units)
        rows = x.reshape(-1, x.shape[-1])
        if w_gate is None:
            pre, gate_pre = product(rows, w_in, b_in), None
            post = act_forward(self.layer.act, pre)
        else:
            pre, gate_pre = product(rows, w_in), product(rows, w_gate)
            post = torch.addcmul(b_in, act_forward(self.layer.act, gate_pre), pre)
        if not with_out:
            return Neurons(units, pre, gate_pre, post, None)
        out = product(post, w_out.t(), self.layer.b_out)
        return Neurons(units, pre, gate_pre, None, out)

    def write(
        self, found: Neurons | None, gates: Rows, of_neurons: Rows | None, stand: Stand,
        neuron_stand: Stand | None, copies: int, shape: tuple[int, int],
    ) -> Tensor:
        """What the layer adds for gates [n, 1]: [n x batch, pos, d_model].

        Args:
            found: None where every gate is 0.
            of_neurons: gates [n, neuron], or None where neurons have none.
            copies: how often ``found`` holds the batch's rows, once for all gate vectors or n.
            shape: batch and positions.
        """
        n, (batch, pos) = len(gates), shape
        added = stand.write(gates)
        width = len(self.layer.b_out)
        if found is None:
            none = gates.values.new_zeros(n, batch, pos, width)
            return (none if added is None else none.add_(added)).flatten(0, 1)
        out, own = self._out(found, of_neurons, neuron_stand, copies, shape), n
        if of_neurons is None:
            own = copies
        out = out.view(own, batch, pos, width)
        if n > own or not gates.open:
            out = out * gates.values[:, :, None, None]
            if added is not None:
                out = out.add_(added)
        return out.flatten(0, 1)

    def _out(
        self, found: Neurons, of_neurons: Rows | None, stand: Stand | None, copies: int,
        shape: tuple[int, int],
    ) -> Tensor:
        """The MLP's output under its neurons' gates, [rows, d_model]."""
        if of_neurons is None:
            assert found.out is not None
            return found.out
        assert stand is not None
        assert found.post is not None
        n, (batch, pos) = len(of_neurons), shape
        g = of_neurons.values if found.units is None else of_neurons.values[:, found.units]
        post = found.post.view(copies, batch * pos, -1) * g[:, None, :]
        *_, w_out = self._cut(found.units)
        out = product(post.flatten(0, 1), w_out.t(), self.layer.b_out)
        added = stand.write(of_neurons)
        if added is not None:
            out.view(n, batch, pos, -1).add_(added)
        return out

    def backward(
        self, found: Neurons | None, gates: Rows, of_neurons: Rows | None, wanted: bool,
        wanted_neurons: bool, stand: Stand, neuron_stand: Stand | None, grad: Tensor,
        into_stream: bool,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Gradients of gates [n, 1], of neurons' gates [n, neuron], and of the normed input."""
        n, shape = len(gates), grad.shape
        found_gates = torch.zeros_like(gates.values)
        none = None if of_neurons is None else torch.zeros_like(of_neurons.values)
        if found is None:
            return found_gates, none, None
        by_member = grad.reshape(n, -1, *shape[1:])
        if wanted:
            batch = (shape[0] // n, shape[1])
            out = self._out(found, of_neurons, neuron_stand, n, batch).view(by_member.shape)
            own = out if stand.value is None else out - stand.value
            found_gates = (by_member * own).flatten(1).sum(1, keepdim=True)
        if not into_stream and not wanted_neurons:
            return found_gates, none, None
        if not gates.open:
            by_member = by_member * gates.values[:, :, None, None]
        *_, w_out = self._cut(found.units)
        d_post = product(by_member.reshape(-1, shape[-1]), w_out)
        if of_neurons is not None:
            assert neuron_stand is not None
            assert none is not None
            d_post, none = self._through_gates(
                found, of_neurons.values, neuron_stand, d_post, shape
            )
        if not into_stream:
            return found_gates, none, None
        return found_gates, none, self._into_stream(found, d_post).view(shape)

    def _through_gates(
        self, found: Neurons, gates: Tensor, stand: Stand, d_post: Tensor, shape: torch.Size
    ) -> tuple[Tensor, Tensor]:
        """Gradients of the neurons' values, and of their gates."""
        n = len(gates)
        units = slice(None) if found.units is None else found.units
        by_member = d_post.view(n, -1, shape[1], d_post.shape[-1])
        assert found.post is not None
        own = found.post.view(by_member.shape)
        if stand.value is not None:
            own = own - stand.value[units].permute(3, 1, 2, 0)
        out = torch.zeros_like(gates)
        out[:, units] = (by_member * own).sum((1, 2))
        return (by_member * gates[:, None, None, units]).flatten(0, 2), out

    def _into_stream(self, found: Neurons, d_post: Tensor) -> Tensor:
        w_in, _, w_gate, _ = self._cut(found.units)
        act = self.layer.act
        assert found.pre is not None
        if w_gate is None:
            return product(act_backward(act, d_post, found.pre), w_in.t())
        assert found.gate_pre is not None
        d_gate = act_backward(act, d_post * found.pre, found.gate_pre)
        d_in = d_post * act_forward(act, found.gate_pre)
        return product(d_gate, w_gate.t()) + product(d_in, w_in.t())

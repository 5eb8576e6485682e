"""The gated residual add: ``stream + g own + (1 - g) stand-in``, in one operator.

``own`` is there only for the gate vectors that are listed; for the others the layer was not run,
its gate is 0, and only its stand-in is added. The engine calls the operator's bodies,
``add_gated`` and ``add_gated_back`` (``mechprobe.gates.kernels.gated_heads`` says why).
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mechprobe.gates.kernels import cuda_sources

Found = tuple[Tensor, Tensor]


def add_gated(
    stream: Float[Tensor, "copies batch pos d_model"],
    own: Float[Tensor, "ran batch pos d_model"] | None,
    gates: Float[Tensor, " n"],
    stand: Float[Tensor, "1 some_batch some_pos d_model"] | None,
    members: tuple[int, ...],
) -> Float[Tensor, "n batch pos d_model"]:
    """The stream of n gate vectors after a layer with one gate, in its precision, no tape.

    Args:
        stream: of each gate vector, or one for all.
        own: the layer's output for ``members``, in their order, or one for all of them.
        gates: one a vector; 0 where it is not in ``members``.
        stand: what a closed gate puts in place, the same for all vectors; None: nothing.
    """
    if own is not None and members and cuda_sources.wanted(stream, own, gates, stand):
        launch, out = cuda_sources.gated_add(stream, own, gates, stand, members)
        cuda_sources.run(launch)
        return out
    n, g = len(gates), gates[:, None, None, None].to(stream)
    if own is not None and len(members) == n:
        out = torch.addcmul(stream, own.to(stream), g)
    else:
        out = stream.expand(n, -1, -1, -1).clone()
        if own is not None and members:
            out[list(members)] += own.to(stream) * g[list(members)]
    if stand is None or (gates.device.type == "cpu" and bool((gates == 1).all())):
        return out
    return out.add_((1 - g) * stand)


def add_gated_back(
    grad: Float[Tensor, "n batch pos d_model"],
    own: Float[Tensor, "ran batch pos d_model"] | None,
    gates: Float[Tensor, " n"],
    stand: Float[Tensor, "1 some_batch some_pos d_model"] | None,
    members: tuple[int, ...],
    *,
    into_own: bool,
    into_gates: bool,
) -> tuple[Float[Tensor, "*own"], Float[Tensor, "n batch"]]:
    """Gradients of own (of each of ``members``; empty unless ``into_own``) and gates, no tape.

    Those of gates by example; 0 where not in ``members`` and unless ``into_gates``.

    Args:
        own: as in ``add_gated``; only read where ``into_gates``.
    """
    both = into_own and into_gates and cuda_sources.wanted(grad, own, gates, stand)
    if own is not None and both and len(own) == len(members) > 0:
        launch, filled = cuda_sources.gated_add_backward(grad, own, gates, stand, members)
        cuda_sources.run(launch)
        return filled
    every, some = members == tuple(range(len(gates))), list(members)
    found = gates.new_zeros(len(gates), grad.shape[1])
    taken, g = (grad, gates) if every else (grad[some], gates[some])
    if into_gates and own is not None and members:
        less = own.to(taken) if stand is None else own.to(taken) - stand
        found[some] = (taken * less).sum((2, 3), dtype=gates.dtype)
    if not into_own:
        return grad.new_empty(0), found
    return taken * g[:, None, None, None].to(taken), found


@torch.library.custom_op(
    "mechprobe::gated_add", mutates_args=(),
    schema="(Tensor stream, Tensor? own, Tensor gates, Tensor? stand, int[] members) -> Tensor",
)
def _gated_add(
    stream: Tensor, own: Tensor | None, gates: Tensor, stand: Tensor | None, members: list[int]
) -> Tensor:
    return add_gated(stream, own, gates, stand, tuple(members))


@_gated_add.register_fake
def _(
    stream: Tensor, own: Tensor | None, gates: Tensor, stand: Tensor | None, members: list[int]
) -> Tensor:
    return stream.new_empty(len(gates), *stream.shape[1:])


@torch.library.custom_op(
    "mechprobe::gated_add_backward", mutates_args=(),
    schema="(Tensor grad, Tensor? own, Tensor gates, Tensor? stand, int[] members, bool into_own, "
    "bool into_gates) -> (Tensor, Tensor)",
)
def _gated_add_backward(
    grad: Tensor, own: Tensor | None, gates: Tensor, stand: Tensor | None, members: list[int],
    into_own: bool, into_gates: bool,
) -> Found:
    d_own, found = add_gated_back(
        grad, own, gates, stand, tuple(members), into_own=into_own, into_gates=into_gates
    )
    return d_own, found.sum(1)


@_gated_add_backward.register_fake
def _(
    grad: Tensor, own: Tensor | None, gates: Tensor, stand: Tensor | None, members: list[int],
    into_own: bool, into_gates: bool,
) -> Found:
    size = (len(members), *grad.shape[1:]) if into_own else (0,)
    return grad.new_empty(size), torch.empty_like(gates)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    stream, own, gates, stand, ctx.members = inputs
    ctx.shared = stream.shape[0] == 1, own is not None and own.shape[0] == 1
    ctx.save_for_backward(own, gates, stand)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    own, gates, stand = ctx.saved_tensors
    into_stream, into_own, into_gates, into_stand, _ = ctx.needs_input_grad
    if into_stand:
        raise RuntimeError("mechprobe::gated_add gives no gradient of stand-ins")
    d_own, found = torch.ops.mechprobe.gated_add_backward(
        grad.contiguous(), own, gates, stand, ctx.members, into_own, into_gates
    )
    d_stream = grad.sum(0, keepdim=True) if ctx.shared[0] else grad
    if into_own:
        d_own = (d_own.sum(0, keepdim=True) if ctx.shared[1] else d_own).to(own.dtype)
    return d_stream if into_stream else None, d_own if into_own else None, found, None, None


torch.library.register_autograd("mechprobe::gated_add", _backward, setup_context=_keep)


def gated_add(
    stream: Float[Tensor, "copies batch pos d_model"],
    own: Float[Tensor, "ran batch pos d_model"] | None,
    gates: Float[Tensor, " n"],
    stand: Float[Tensor, "1 some_batch some_pos d_model"] | None,
    members: tuple[int, ...],
) -> Float[Tensor, "n batch pos d_model"]:
    """``add_gated``, differentiable in stream, own and gates; of stand-ins raises RuntimeError."""
    return _gated_add(stream, own, gates, stand, members)

"""``linear``: x W^T + b through oneDNN where that is faster than what torch would pick.

On x86 CPUs torch multiplies float32 matrices with MKL, which on AMD processors runs at less than
half the speed of oneDNN (95 against 220 GFLOP/s a core on the machine this was measured on); on
Intel the two are alike. Both are plain float32. ``torch.backends.mkldnn.flags(enabled=False)``
switches it off.
"""

from __future__ import annotations

import platform
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

SMALL = 2**21  # multiplications below which starting oneDNN costs more than it saves


def linear(
    x: Float[Tensor, "*rows into"],
    weight: Float[Tensor, "out into"],
    bias: Float[Tensor, " out"] | None = None,
) -> Float[Tensor, "*rows out"]:
    """x W^T + b, as ``torch.nn.functional.linear`` computes it up to float32 rounding.

    Differentiable (also twice) in all three. The choice of library depends on dtype, device and
    shape only, so equal inputs give equal bits.
    """
    if not one_dnn_pays(x, weight):
        return F.linear(x, weight, bias)
    rows = x.reshape(-1, x.shape[-1])
    return _OneDnnLinear.apply(rows, weight, bias).view(*x.shape[:-1], weight.shape[0])


def one_dnn_pays(x: Tensor, weight: Tensor) -> bool:
    """Whether x W^T goes through oneDNN: float32 on an x86 CPU, and large enough."""
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() * weight.shape[0] >= SMALL
        and torch.backends.mkldnn.enabled
        and not torch.is_autocast_enabled("cpu")
        and _works()
    )


@lru_cache(maxsize=1)
def _works() -> bool:
    """Whether this torch has the operator and it gives the right answer here."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False  # elsewhere torch's own linear is oneDNN or better already
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(8, 8, generator=generator) for _ in range(2))
    try:
        got = _one_dnn(x, weight.t(), x[0])
    except (RuntimeError, AttributeError):
        return False
    return torch.allclose(got, x @ weight + x[0], atol=1e-4)


def _one_dnn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class _OneDnnLinear(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return _one_dnn(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, _ = inputs
        # activations are kept only for the gradient of a weight that is being trained
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad = grads[0].contiguous()
        wanted = ctx.needs_input_grad
        return (
            linear(grad, weight.t()) if wanted[0] else None,
            linear(grad.t(), x.t()) if wanted[1] else None,
            grad.sum(0) if wanted[2] else None,
        )

"""LayerNorm and RMSNorm forward, and backward to their input, without a tape."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mechprobe.models.frozen import Norm

Saved = tuple[Tensor, Tensor | None, Tensor]


def norm_forward(
    norm: Norm, x: Float[Tensor, "*rows d_model"]
) -> tuple[Float[Tensor, "*rows d_model"], Saved]:
    """The normalised stream, and what ``norm_backward`` needs."""
    if norm.kind == "layer":
        shape = [x.shape[-1]]
        out, mean, scale = torch.native_layer_norm(x, shape, norm.weight, norm.bias, norm.eps)
        return out, (x, mean, scale)
    scale = (x.square().mean(-1, keepdim=True) + norm.eps).rsqrt()
    out = x * scale
    return (out if norm.weight is None else out.mul_(norm.weight)), (x, None, scale)


def norm_backward(
    norm: Norm, saved: Saved, grad: Float[Tensor, "*rows d_model"]
) -> Float[Tensor, "*rows d_model"]:
    """Gradient of the norm's input."""
    x, mean, scale = saved
    if mean is not None:
        shape = [x.shape[-1]]
        return torch.ops.aten.native_layer_norm_backward(
            grad.contiguous(), x, shape, mean, scale, norm.weight, norm.bias, [True, False, False]
        )[0]
    grad = grad if norm.weight is None else grad * norm.weight
    along = (grad * x).mean(-1, keepdim=True)
    return scale * (grad - x * (scale.square() * along))

"""Activations of MLPs and their derivatives, without a tape."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def act_forward(act: str, x: Float[Tensor, "rows neuron"]) -> Float[Tensor, "rows neuron"]:
    """"gelu", "gelu_tanh", "relu" or "silu" of x."""
    match act:
        case "gelu":
            return F.gelu(x)
        case "gelu_tanh":
            return F.gelu(x, approximate="tanh")
        case "relu":
            return F.relu(x)
    return F.silu(x)


def act_backward(
    act: str, grad: Float[Tensor, "rows neuron"], x: Float[Tensor, "rows neuron"]
) -> Float[Tensor, "rows neuron"]:
    """The gradient of x, given that of the activation."""
    match act:
        case "gelu":
            return torch.ops.aten.gelu_backward(grad, x)
        case "gelu_tanh":
            return torch.ops.aten.gelu_backward(grad, x, approximate="tanh")
        case "relu":
            return torch.ops.aten.threshold_backward(grad, x, 0)
    return torch.ops.aten.silu_backward(grad, x)

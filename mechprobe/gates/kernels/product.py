"""Matrix products of frozen weights: no tape, no weight gradient, oneDNN where it is faster."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mechprobe.models.matmul import one_dnn_pays


def product(
    x: Float[Tensor, "rows into"],
    weight: Float[Tensor, "out into"],
    bias: Float[Tensor, " out"] | None = None,
) -> Float[Tensor, "rows out"]:
    """x W^T + b without gradient; ``weight`` may be a transposed view, which costs nothing."""
    if one_dnn_pays(x, weight):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return F.linear(x, weight, bias)

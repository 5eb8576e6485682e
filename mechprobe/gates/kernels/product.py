"""Matrix products of frozen weights: no tape, no weight gradient, oneDNN where it is faster.

Measured on one core of an AMD EPYC (Zen 5, AVX-512 with bfloat16 products), 2048 rows by 256 to
1024, medians of 25 interleaved rounds: oneDNN 206 to 220 GFLOP/s in float32, MKL, which torch would
take, 45 to 110; oneDNN in bfloat16 470, against 410 through torch's own linear.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mechprobe.models.matmul import SMALL, one_dnn_pays


def product(
    x: Float[Tensor, "rows into"],
    weight: Float[Tensor, "out into"],
    bias: Float[Tensor, " out"] | None = None,
) -> Float[Tensor, "rows out"]:
    """x W^T + b without gradient; ``weight`` may be a transposed view, which costs nothing."""
    if through_one_dnn(x, weight):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return F.linear(x, weight, bias)


def through_one_dnn(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN is called itself: x86 CPUs, float32 or bfloat16, products worth it."""
    if x.dtype != torch.bfloat16:
        return one_dnn_pays(x, weight)
    large = x.numel() * weight.shape[0] >= SMALL
    return large and x.device.type == "cpu" and torch.backends.mkldnn.enabled and fast_bfloat16()


@lru_cache(maxsize=1)
def fast_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 itself (AVX512-BF16 or AMX)."""
    return torch.cpu._is_avx512_bf16_supported()


class Packed:
    """A frozen weight [out, into] that oneDNN has laid out for itself once, in both directions.

    Measured as above, against oneDNN laying it out in every call: 1.05 to 1.07 times as fast at
    d_model 256, 1.05 and 1.25 (into d_model) at 768. Each direction takes as much memory as the
    weight, from its first use on.
    """

    def __init__(self, weight: Float[Tensor, "out into"]) -> None:
        self.weight = weight
        self._laid: dict[bool, Tensor] = {}

    def __call__(
        self, x: Float[Tensor, "rows into"], bias: Float[Tensor, " out"] | None = None
    ) -> Float[Tensor, "rows out"]:
        """x W^T + b."""
        return self._product(x, self.weight, bias, back=False)

    def back(
        self, x: Float[Tensor, "rows out"], bias: Float[Tensor, " into"] | None = None
    ) -> Float[Tensor, "rows into"]:
        """x W + b."""
        return self._product(x, self.weight.t(), bias, back=True)

    def _product(self, x: Tensor, weight: Tensor, bias: Tensor | None, *, back: bool) -> Tensor:
        if not through_one_dnn(x, weight):
            return F.linear(x, weight, bias)
        if back not in self._laid:
            laid = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), len(x))
            self._laid[back] = laid
        return torch.ops.mkldnn._linear_pointwise(x, self._laid[back], bias, "none", [], "")

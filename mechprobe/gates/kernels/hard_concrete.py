"""Hard concrete sampling of all sites and members in one operator, with its derivative.

Louizos, Welling, Kingma 2018, section 3.2. One pass gives the gates, their slope in log alpha and
the expected share of closed gates, so that the way back is two products.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mechprobe.gates.kernels import cuda_sources

Sampled = tuple[Tensor, Tensor, Tensor, Tensor]


@torch.library.custom_op(
    "mechprobe::hard_concrete", mutates_args=(),
    schema="(Tensor log_alpha, Tensor u, float left, float right, float temperature, float eps) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
)
def _hard_concrete(
    log_alpha: Tensor, u: Tensor, left: float, right: float, temperature: float, eps: float
) -> Sampled:
    """Gates, expected closed share [k], and the slopes of both [k, site]."""
    if cuda_sources.wanted(log_alpha, u):
        launch, found = cuda_sources.hard_concrete(log_alpha, u, left, right, temperature, eps)
        cuda_sources.run(launch)
        return found
    s = torch.logit(u).add_(log_alpha).div_(temperature).sigmoid_()
    stretched = s * (right - left) + left
    inside = (stretched > 0) & (stretched < 1)
    slope = torch.where(inside, s * (1 - s) * ((right - left) / temperature), 0.0)
    p = torch.sigmoid(temperature * math.log(-left / right) - log_alpha)
    known = (p >= eps) & (p <= 1 - eps)
    n = max(1, log_alpha.shape[-1])
    closed_slope = torch.where(known, p * (p - 1) / n, 0.0)
    return stretched.clamp_(0, 1), p.clamp(eps, 1 - eps).mean(-1), slope, closed_slope


@_hard_concrete.register_fake
def _(
    log_alpha: Tensor, u: Tensor, left: float, right: float, temperature: float, eps: float
) -> Sampled:
    like = torch.empty_like(log_alpha)
    return like, log_alpha.new_empty(log_alpha.shape[:-1]), like.clone(), like.clone()


def _keep(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: Sampled) -> None:
    ctx.save_for_backward(output[2], output[3])
    ctx.mark_non_differentiable(output[2], output[3])


def _backward(
    ctx: torch.autograd.function.FunctionCtx, gates: Tensor, closed: Tensor, *_: Tensor
) -> tuple[Tensor | None, ...]:
    slope, closed_slope = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
    grad = slope * gates + closed_slope * closed.unsqueeze(-1)
    return grad, None, None, None, None, None


torch.library.register_autograd("mechprobe::hard_concrete", _backward, setup_context=_keep)


def hard_concrete(
    log_alpha: Float[Tensor, "k site"],
    u: Float[Tensor, "k site"],
    *,
    left: float,
    right: float,
    temperature: float,
    eps: float,
) -> tuple[Float[Tensor, "k site"], Float[Tensor, " k"]]:
    """Sampled gates, and the expected share of closed gates, both differentiable in log alpha.

    Args:
        u: uniform noise inside (0, 1).
        left, right: limits of the stretch, below 0 and above 1.
        eps: the probability of a closed gate is clamped to [eps, 1 - eps].
    """
    gates, closed, *_ = _hard_concrete(log_alpha, u, left, right, temperature, eps)
    return gates, closed

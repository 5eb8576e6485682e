"""The expected share of closed gates, held at a target while masks learn.

A Lagrangian waits for its multiplier to find the price of an open gate. Here the price is known in
every step: log alpha is shifted by one number a member until the expected share (Louizos et al.
2018, equation 12) is the target, and of the gradient only what leaves that share alone is followed.
To first order this is the Lagrangian with the multiplier that solves the constraint in every step.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mechprobe.locate.hard_concrete import probability_closed

FAR = 40.0  # log alpha is never this far from where half of a gate's samples are closed
HALVINGS = 30


def held_at(
    log_alpha: Float[Tensor, "k site"], target: Float[Tensor, " k"]
) -> Float[Tensor, "k site"]:
    """log alpha plus one number a row, so that the expected share closed is the target.

    Args:
        target: inside (0, 1).
    """
    low = -FAR - log_alpha.amax(-1, keepdim=True)
    high = FAR - log_alpha.amin(-1, keepdim=True)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        many = probability_closed(log_alpha + middle).mean(-1, keepdim=True) > target[:, None]
        low, high = torch.where(many, middle, low), torch.where(many, high, middle)
    return log_alpha + (low + high) / 2


def along_the_share(
    log_alpha: Float[Tensor, "k site"], grad: Float[Tensor, "k site"]
) -> Float[Tensor, "k site"]:
    """The gradient of the loss of ``held_at``: with respect to log alpha before the shift.

    With p the probability of a closed gate, d shift / d log alpha_i = -p_i (1 - p_i) / sum_j p_j
    (1 - p_j), so that grad_i loses that share of the sum of grad.
    """
    p = probability_closed(log_alpha)
    weight = p * (1 - p)
    weight = weight / weight.sum(-1, keepdim=True)
    return grad - weight * grad.sum(-1, keepdim=True)

"""The hard concrete gate: a stretched, clamped, binary-concrete random variable on [0, 1].

Louizos, Welling, Kingma 2018, "Learning Sparse Neural Networks through L0 Regularization",
section 3.2; limits and temperature as used by Bhaskar, Friedman, Chen 2024 (section 3). All
functions are pure and work on any leading axes; gates are float32 or float64 in [0, 1].
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

LEFT, RIGHT = -0.1, 1.1
TEMPERATURE = 2 / 3
EPS = 1e-6


def uniform_noise(seed: int, step: int, n_sites: int, dtype: torch.dtype = torch.float32
                  ) -> Float[Tensor, "site"]:
    """Uniform noise in (eps, 1 - eps) that depends only on (seed, step); both are 0 or more.

    A counter-based generator (Philox) keyed by the member's seed, so that a member's noise is the
    same whatever other members run beside it and wherever a run resumes.
    """
    if seed < 0 or step < 0:
        raise ValueError(f"seed and step must be >= 0, got seed={seed}, step={step}")
    stream = np.random.Generator(np.random.Philox(key=[seed, 0x6D61736B], counter=[0, 0, 0, step]))
    u = stream.random(n_sites) * (1 - 2 * EPS) + EPS
    return torch.from_numpy(u).to(dtype)


def sample(log_alpha: Float[Tensor, "*k site"], u: Float[Tensor, "*k site"]
           ) -> Float[Tensor, "*k site"]:
    """Gates g = clamp(s (r - l) + l, 0, 1), s = sigmoid((logit u + log_alpha) / beta)."""
    s = torch.sigmoid((torch.log(u) - torch.log1p(-u) + log_alpha) / TEMPERATURE)
    return (s * (RIGHT - LEFT) + LEFT).clamp(0.0, 1.0)


def probability_closed(log_alpha: Float[Tensor, "*k site"]) -> Float[Tensor, "*k site"]:
    """P(g = 0) = sigmoid(beta log(-l / r) - log_alpha), clamped to [eps, 1 - eps].

    Its mean over sites is the expected share of closed gates (one minus the expected L0).
    """
    p = torch.sigmoid(TEMPERATURE * math.log(-LEFT / RIGHT) - log_alpha)
    return p.clamp(EPS, 1 - EPS)


def soft_gates(log_alpha: Float[Tensor, "*k site"]) -> Float[Tensor, "*k site"]:
    """Deterministic gates before any threshold: sigmoid(0.8 log_alpha / beta), as published."""
    return torch.sigmoid(0.8 * log_alpha / TEMPERATURE)


def close_lowest(log_alpha: Float[Tensor, "*k site"], sparsity: float) -> Bool[Tensor, "*k site"]:
    """Binary gates with exactly round(sparsity * n_sites) closed: the lowest log_alpha.

    One global threshold; ties are broken by position, so that the count is always exact.
    """
    n = log_alpha.shape[-1]
    n_closed = round(sparsity * n)
    order = torch.argsort(log_alpha, dim=-1, stable=True)
    gates = torch.ones_like(log_alpha, dtype=torch.bool)
    return gates.scatter(-1, order[..., :n_closed], False)


def close_expected(log_alpha: Float[Tensor, "*k site"], groups: list[slice]
                   ) -> Float[Tensor, "*k site"]:
    """Published deterministic gates: soft, with the expected number of zeros closed per tensor.

    In each group of sites (the heads of one layer, or all MLPs, as the mask tensors are laid out)
    the round(sum of P(g = 0)) smallest soft gates are set to 0; the others keep their soft value
    (the rule of CoFi, Xia et al. 2022, used by Bhaskar et al. 2024).
    """
    soft = soft_gates(log_alpha)
    closed = probability_closed(log_alpha)
    out = soft.clone()
    for group in groups:
        part, zeros = soft[..., group], closed[..., group].sum(-1).round().long()
        rank = torch.argsort(torch.argsort(part, dim=-1, stable=True), dim=-1, stable=True)
        out[..., group] = torch.where(rank < zeros.unsqueeze(-1), torch.zeros_like(part), part)
    return out

"""How far a model's predictions are from ideal observers, and what of them one level adds."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.errors import InputError


def divergences(
    ladder: Float[Tensor, "rung n q"], log_probs: Float[Tensor, "answer symbol"]
) -> Float[Tensor, "rung n"]:
    """KL(observer || model) of each rung and prediction, nats.

    Raises:
        InputError: predictions of another number or another number of symbols.
    """
    if ladder.shape[1:] != log_probs.shape:
        raise InputError(
            f"predictions of shape {tuple(log_probs.shape)} beside observers of "
            f"{tuple(ladder.shape[1:])}; give one prediction a row of the ladder"
        )
    observer = ladder.to(torch.float64)
    own = torch.special.xlogy(observer, observer).sum(-1)
    return own - torch.einsum("rnq,nq->rn", observer, log_probs.to(observer))


def agreement(
    observer: Float[Tensor, "n q"], log_probs: Float[Tensor, "n q"]
) -> Float[Tensor, " n"]:
    """1 where the model's likeliest symbol is one of the observer's likeliest, else 0."""
    top = observer.gather(1, log_probs.argmax(1, keepdim=True)).squeeze(1)
    return (top >= observer.max(1).values - 1e-9).double()


def level_parts(ladder: Float[Tensor, "rung n q"]) -> Float[Tensor, "level n q"]:
    """What each rung adds to the one before: difference of neighbouring observers.

    ``rungs`` go from the observer that knows least to the one that knows most. The level's part of
    a prediction log p is sum_x (B_s(x) - B_{s-1}(x)) log p(x), up to a constant of the model
    KL(B_{s-1} || p) - KL(B_s || p): how much better the coarser or the finer observer is matched.
    """
    return ladder[1:] - ladder[:-1]


def closest_shares(
    values: Float[np.ndarray, "rung n"], *, seed: int = 0, draws: int = 500
) -> Float[np.ndarray, " rung"]:
    """How often each rung has the least mean divergence over bootstrap resamples of examples."""
    n = values.shape[1]
    counts = np.random.default_rng([seed, 13]).multinomial(n, np.full(n, 1 / n), size=draws)
    best = (values @ counts.T).argmin(0)
    return np.bincount(best, minlength=len(values)) / draws


def change_points(rungs: Int[np.ndarray, " point"] | list[int]) -> list[tuple[int, int, int]]:
    """Where a sequence of closest rungs changes: (index of the first new one, from, to)."""
    found = [int(rung) for rung in rungs]
    return [
        (i, before, after)
        for i, (before, after) in enumerate(pairwise(found), start=1)
        if before != after
    ]


def inversions(rungs: list[int], *, descending: bool = True) -> int:
    """Steps against the direction of a staircase (``descending``: upwards steps)."""
    signs = np.sign(np.diff(rungs))
    return int((signs > 0).sum() if descending else (signs < 0).sum())

"""Learning signals of tasks side by side: gradients of the difference, their overlap and spread.

Source: Weber et al. 2024 (arXiv 2406.06441) compare tasks by their gradients; the definitions of
overlap, alignment and distributedness here are ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.models.edits import HookedModel
from mechprobe.tasks.pair_tokens import EncodedPairs
from mechprobe.training.deltas import ResidentWeights
from mechprobe.training.pair_scores import batch_sums


def pair_gradient(
    model: HookedModel,
    weights: ResidentWeights,
    pairs: EncodedPairs,
    chosen: Int[np.ndarray, " pair"],
    *,
    signs: Float[np.ndarray, " pair"] | None = None,
    batch_pairs: int = 64,
) -> Float[Tensor, " weight"]:
    """Mean over pairs of grad [L(x+) - L(x-)], L the summed negative log-probability.

    Args:
        chosen: the pairs.
        signs: -1 for pairs whose members are exchanged; all 1 when None.

    Raises:
        InputError: no pairs.
    """
    if not len(chosen):
        raise InputError("a gradient needs at least one pair; got none")
    sign = np.ones(len(chosen)) if signs is None else signs
    order = np.argsort(pairs.lengths[2 * chosen], kind="stable")
    weights.grad.zero_()
    device = weights.flat.device
    for start in range(0, len(order), batch_pairs):
        at = order[start : start + batch_pairs]
        rows = np.stack([2 * chosen[at], 2 * chosen[at] + 1], 1).reshape(-1)
        sums = batch_sums(model, pairs.batch(rows).to(device))
        factor = torch.from_numpy(sign[at] / len(chosen)).to(sums)
        (factor * (sums[1::2] - sums[0::2])).sum().backward()
    return weights.grad.clone()


@dataclass(frozen=True)
class TaskGradients:
    """Gradients of every task's pairs, of its two halves, and of pairs exchanged at random."""

    whole: Float[Tensor, "task weight"]
    halves: Float[Tensor, "half task weight"]
    swapped: Float[Tensor, "task weight"]


def task_gradients(
    model: HookedModel, weights: ResidentWeights, pairs: EncodedPairs, *, seed: int = 0
) -> TaskGradients:
    """The gradient of every task at the resident weights.

    Halves (even and odd pairs) say how well a gradient is known, exchanged pairs what remains of it
    without the contrast. Memory: 4 vectors of the model's size a task.
    """
    rng = np.random.default_rng(seed)
    n = len(pairs.names)
    halves = torch.empty(2, n, len(weights))
    whole, swapped = torch.empty(n, len(weights)), torch.empty(n, len(weights))
    for t in range(n):
        mine = pairs.of_task(t)
        parts = [mine[0::2], mine[1::2] if len(mine) > 1 else mine]
        for h, part in enumerate(parts):
            halves[h, t] = pair_gradient(model, weights, pairs, part).cpu()
        share = len(parts[0]) / len(mine) if len(mine) > 1 else 0.5
        whole[t] = share * halves[0, t] + (1 - share) * halves[1, t]
        signs = rng.choice([-1.0, 1.0], size=len(mine))
        swapped[t] = pair_gradient(model, weights, pairs, mine, signs=signs).cpu()
    return TaskGradients(whole, halves, swapped)


def top_sets(
    gradients: Float[Tensor, "task weight"], share: float
) -> Bool[Tensor, "task weight"]:
    """For each task, which weights are among the share with the largest gradient."""
    k = max(1, round(share * gradients.shape[1]))
    out = torch.zeros(gradients.shape, dtype=torch.bool)
    out.scatter_(1, gradients.abs().topk(k, dim=1, sorted=False).indices, True)
    return out


def overlap(
    first: Bool[Tensor, "a weight"], second: Bool[Tensor, "b weight"]
) -> Float[np.ndarray, "a b"]:
    """|S_A and S_B| / |S_A| of every two tasks; the chance level is the share of the sets."""
    shared = _chunked(first, second, lambda a, b: a.float() @ b.float().T)
    return shared / first.sum(1, keepdim=True).double().numpy()


def cosine(
    first: Float[Tensor, "a weight"], second: Float[Tensor, "b weight"]
) -> Float[np.ndarray, "a b"]:
    """Cosine of every two tasks' gradients; 0 where one of them is 0."""
    dot = _chunked(first, second, lambda a, b: a.float() @ b.float().T)
    sizes = [np.sqrt(_chunked(g, g, _diagonal).diagonal()) for g in (first, second)]
    return dot / np.maximum(np.outer(*sizes), 1e-300)


def alignment(
    gradients: Float[Tensor, "task weight"], sets: Bool[Tensor, "task weight"]
) -> Float[np.ndarray, "task task"]:
    """Share of the weights in both tasks' sets whose gradients agree in sign; NaN without any.

    Above one half the tasks pull the weights they share the same way (synergy), below it against
    each other (conflict).
    """
    kept = torch.where(sets, gradients, torch.zeros(())).sign()
    signed = _chunked(kept, kept, lambda a, b: a @ b.T)
    both = _chunked(sets, sets, lambda a, b: a.float() @ b.float().T)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(both > 0, (1 + signed / both) / 2, np.nan)


def participation_ratio(gradient: Float[Tensor, "*task weight"]) -> Float[np.ndarray, "*task"]:
    """(sum |g|)^2 / (N sum g^2): 1 when all weights count alike, 1/N when one does."""
    size = gradient.abs().double()
    top, bottom = size.sum(-1) ** 2, gradient.shape[-1] * (size**2).sum(-1)
    return (top / bottom.clamp(min=1e-300)).numpy()


def half_mass_share(
    gradient: Float[Tensor, "*task weight"], mass: float = 0.5
) -> Float[np.ndarray, "*task"]:
    """Smallest share of the weights that holds so much of the sum of |g|."""
    ordered = gradient.abs().double().sort(-1, descending=True).values.cumsum(-1)
    needed = (ordered < mass * ordered[..., -1:]).sum(-1) + 1
    return (needed.double() / gradient.shape[-1]).clamp(max=1.0).numpy()


def _diagonal(a: Tensor, b: Tensor) -> Tensor:
    return torch.diag((a.double() * b.double()).sum(1))


def _chunked(
    first: Tensor, second: Tensor, product: Callable[[Tensor, Tensor], Tensor]
) -> np.ndarray:
    """Sum a product over pieces of the weights, so that no copy of all is converted at once."""
    out = torch.zeros(len(first), len(second), dtype=torch.float64)
    for start in range(0, first.shape[1], 1 << 18):
        piece = slice(start, start + (1 << 18))
        out += product(first[:, piece], second[:, piece]).double()
    return out.numpy()

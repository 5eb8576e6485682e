"""Learning signals of tasks side by side: gradients of the difference, their relations and spread.

Source: Weber et al. 2024 (arXiv 2406.06441) compare tasks by their gradients; ceiling, floor and
distributedness here are ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.models.edits import HookedModel
from mechprobe.stats.concentration import sites_with_share
from mechprobe.tasks.pair_tokens import EncodedPairs
from mechprobe.training.deltas import ResidentWeights
from mechprobe.training.gradient_sets import (
    PIECE,
    SetRelations,
    TopEntries,
    set_relations,
    shared_share,
    top_entries,
)
from mechprobe.training.pair_scores import batch_sums


@dataclass(frozen=True)
class GradientSpace:
    """How the gradients of every two tasks relate, and how spread each one is.

    Attributes:
        relations: of the largest entries.
        cosine: of the whole gradients; 0 where one of them is 0.
        half_overlap, half_cosine: the same between the even and the odd pairs of one task: how well
            its gradient is known.
        swapped_overlap: of the largest entries when the members of pairs are exchanged at random:
            what is shared without the contrast.
        participation: (sum |g|)^2 / (N sum g^2); 1 when all weights count alike, 1/N when one does.
        half_mass: smallest share of the weights that holds half of the sum of |g|.
    """

    relations: SetRelations
    cosine: Float[np.ndarray, "task task"]
    half_overlap: Float[np.ndarray, " task"]
    half_cosine: Float[np.ndarray, " task"]
    swapped_overlap: Float[np.ndarray, "task task"]
    participation: Float[np.ndarray, " task"]
    half_mass: Float[np.ndarray, " task"]


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


def gradient_space(
    model: HookedModel,
    weights: ResidentWeights,
    pairs: EncodedPairs,
    *,
    share: float = 0.01,
    held: int | None = None,
    seed: int = 0,
    on_task: Callable[[int, Float[Tensor, " weight"]], None] | None = None,
) -> GradientSpace:
    """Take every task's gradient at the resident weights and compare them all.

    Tasks are streamed. Of each gradient the largest entries stay, sparse; for the cosine, ``held``
    gradients stay whole at a time and the later tasks' are taken again for every such block. Any
    ``held`` gives the same numbers up to rounding; ``gradient_bytes`` says what it costs.

    Args:
        share: share of the weights in a set of largest entries.
        held: whole gradients in memory at once; all of them when None.
        seed: of the pairs whose members are exchanged.
        on_task: called once with each task's index and whole gradient.

    Raises:
        InputError: fewer than one held, a share outside (0, 1], or a task without pairs.
    """
    n = len(pairs.names)
    held = n if held is None else held
    if held < 1 or not 0 < share <= 1:
        raise InputError(f"held is {held}, share {share}; give 1 gradient or more, and a share "
                         "above 0, at most 1")
    rng = np.random.default_rng(seed)
    tops: list[TopEntries] = []
    swapped: list[TopEntries] = []
    halves, spread, dots = np.zeros((n, 2)), np.zeros((n, 2)), np.zeros((n, n))
    for start in range(0, n, held):
        block: list[Tensor] = []
        for t in range(start, n):
            mine = pairs.of_task(t)
            first, second, whole = _parts(model, weights, pairs, mine)
            if start == 0:
                tops.append(top_entries(whole, share))
                halves[t] = _alike(first, second, share)
                spread[t] = participation_ratio(whole), half_mass_share(whole)
                signs = rng.choice([-1.0, 1.0], size=len(mine))
                exchanged = pair_gradient(model, weights, pairs, mine, signs=signs)
                swapped.append(top_entries(exchanged, share))
                if on_task is not None:
                    on_task(t, whole)
            del first, second
            if len(block) < held:
                block.append(whole)
            dots[start : start + len(block), t] = [_dot(g, whole) for g in block]
    dots = np.triu(dots) + np.triu(dots, 1).T
    size = np.sqrt(np.outer(dots.diagonal(), dots.diagonal()))
    return GradientSpace(
        set_relations(tops), dots / np.maximum(size, 1e-300), halves[:, 0], halves[:, 1],
        set_relations(swapped).overlap, spread[:, 0], spread[:, 1],
    )


def gradient_bytes(n_weights: int, n_tasks: int, share: float, held: int) -> int:
    """Memory that ``gradient_space`` needs beside the model, in bytes at most.

    float32 vectors of the model's size: weights and gradients side by side, ``held`` whole
    gradients, three of the task in turn and, while its spread is measured, three in float64; int32
    places and float32 values of two sets a task.
    """
    vectors = 4 * n_weights * (2 + held + 3 + 6)
    sets = 2 * 8 * n_tasks * max(1, round(share * n_weights))
    return vectors + sets


def held_gradients(n_weights: int, n_tasks: int, share: float, budget: float) -> int:
    """How many whole gradients fit into a budget of bytes: 1 at least, one a task at most."""
    fixed = gradient_bytes(n_weights, n_tasks, share, 0)
    return int(np.clip((budget - fixed) // (4 * n_weights), 1, n_tasks))


def participation_ratio(gradient: Float[Tensor, " weight"]) -> float:
    """(sum |g|)^2 / (N sum g^2): 1 when all weights count alike, 1/N when one does."""
    size = gradient.abs().double()
    bottom = len(size) * float((size * size).sum())
    return float(size.sum()) ** 2 / bottom if bottom > 0 else 0.0


def half_mass_share(gradient: Float[Tensor, " weight"]) -> float:
    """Smallest share of the weights that holds half of the sum of |g|."""
    return sites_with_share(gradient.abs().double().cpu().numpy()) / len(gradient)


def _parts(
    model: HookedModel, weights: ResidentWeights, pairs: EncodedPairs, mine: np.ndarray
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of a task's even pairs, of its odd pairs, and of all."""
    if len(mine) == 1:
        one = pair_gradient(model, weights, pairs, mine)
        return one, one, one
    first, second = (pair_gradient(model, weights, pairs, mine[i::2]) for i in (0, 1))
    share = len(mine[0::2]) / len(mine)
    return first, second, share * first + (1 - share) * second


def _alike(first: Tensor, second: Tensor, share: float) -> tuple[float, float]:
    """Overlap of the largest entries, and cosine, of two gradients."""
    sizes = _dot(first, first) * _dot(second, second)
    cosine = _dot(first, second) / np.sqrt(sizes) if sizes > 0 else 0.0
    return shared_share(top_entries(first, share), top_entries(second, share)), cosine


def _dot(first: Tensor, second: Tensor) -> float:
    """Inner product, float32 within blocks and float64 between them."""
    return sum(
        float(a @ b) for a, b in zip(first.split(PIECE), second.split(PIECE), strict=True)
    )

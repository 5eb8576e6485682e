"""Structural probes (Hewitt and Manning 2019): trees as squared distances and norms after a map B.

``||B^T (h_i - h_j)||^2`` is to be the number of arcs between words i and j (their equation 1),
``||B^T h_i||^2`` the depth of word i, the root's being 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.probes.activations import WordVectors, gold_levels
from mechprobe.probes.objective import Objective, Params, Side
from mechprobe.tasks.treebank import tree_depths, tree_distances


def distance_objective(rank: int | None = None) -> Objective:
    """The distance probe: L1 loss on distances, divided by the squared length of each sentence.

    Args:
        rank: columns of B; None takes the width of the vectors.

    Section 3.1 and the released code: mean over the sentences of a batch of
    sum_ij |d_B(i, j) - d(i, j)| / n^2.
    """

    def losses(params: Params, vectors: Tensor, side: Side, targets: Tensor | None) -> Tensor:
        assert targets is not None
        found = squared_distances(side.pad(project(params["B"], vectors)))
        n_words = side.real.sum(1)
        both = side.real[:, :, None] & side.real[:, None, :]
        weight = both / (n_words**2)[:, None, None]
        return torch.einsum("sbij,bij->s", (found - targets).abs(), weight.to(found))

    return Objective("distance", _uniform_map(rank), losses, _distances, per="sentence")


def depth_objective(rank: int | None = None) -> Objective:
    """The depth probe: L1 loss on depths (root 0), divided by the length of each sentence.

    Args:
        rank: columns of B; None takes the width of the vectors.
    """

    def losses(params: Params, vectors: Tensor, side: Side, targets: Tensor | None) -> Tensor:
        assert targets is not None
        found = side.pad(squared_norms(params["B"], vectors))
        weight = side.real / side.real.sum(1)[:, None]
        return torch.einsum("sbi,bi->s", (found - targets).abs(), weight.to(found))

    return Objective("depth", _uniform_map(rank), losses, gold_depths, per="sentence")


def project(
    b: Float[Tensor, "site d r"], vectors: Float[Tensor, "site *unit d"]
) -> Float[Tensor, "site *unit r"]:
    """B^T h of every vector, each site with its own B."""
    return torch.einsum("s...d,sdr->s...r", vectors, b)


def squared_norms(
    b: Float[Tensor, "site d r"], vectors: Float[Tensor, "site *unit d"]
) -> Float[Tensor, "site *unit"]:
    """||B^T h||^2 of every vector: the depth a probe reads."""
    return project(b, vectors).square().sum(-1)


def squared_distances(
    projected: Float[Tensor, "*sentence word r"],
) -> Float[Tensor, "*sentence word word"]:
    """||p_i - p_j||^2 of each two words, from inner products; exactly 0 on the diagonal."""
    inner = projected @ projected.mT
    own = inner.diagonal(dim1=-2, dim2=-1)
    return own[..., :, None] + own[..., None, :] - 2 * inner


def gold_depths(vectors: WordVectors) -> Sequence[np.ndarray]:
    """Depth of each unit's word, root 0, one array a sentence (float32)."""
    return _per_sentence(vectors, offset=0)


def gold_profile(vectors: WordVectors) -> Sequence[np.ndarray]:
    """Level of each unit's word, root 1 and 0 for a unit without word (float32)."""
    return _per_sentence(vectors, offset=1)


def uniform_map(d: int, rank: int, generator: torch.Generator) -> dict[str, Tensor]:
    """B [d, rank] from U(-0.05, 0.05), as in the code released with Hewitt and Manning 2019."""
    if not 1 <= rank:
        raise InputError(f"rank {rank} leaves no column for B; give 1 or more")
    b = torch.empty(d, rank, dtype=torch.float64)
    return {"B": b.uniform_(-0.05, 0.05, generator=generator)}


def _uniform_map(rank: int | None) -> Callable[[int, torch.Generator], Params]:
    return lambda d, generator: uniform_map(d, d if rank is None else rank, generator)


def _per_sentence(vectors: WordVectors, offset: int) -> Sequence[np.ndarray]:
    own = [tree_depths(sentence.heads) + offset for sentence in vectors.sentences]
    return np.split(gold_levels(vectors, own).astype(np.float32), vectors.starts[1:-1])


def _distances(vectors: WordVectors) -> Sequence[np.ndarray]:
    if vectors.released:
        raise InputError("distances are between words; read the vectors without released_masking")
    return [tree_distances(sentence.heads).astype(np.float32) for sentence in vectors.sentences]

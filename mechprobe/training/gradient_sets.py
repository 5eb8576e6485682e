"""The largest entries of tasks' gradients, kept sparse, and how two tasks' entries relate.

Source: Weber et al. 2024 (arXiv 2406.06441) compare tasks by their gradients; the definitions of
overlap, sign agreement and shared cosine are ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

PIECE = 1 << 18
"""Weights that are laid out densely at once, for every task."""


@dataclass(frozen=True)
class TopEntries:
    """The entries of a gradient with the largest size.

    Attributes:
        index: their places, ascending; int32 where that is enough.
        value: the gradient there, float32.
        n_weights: entries of the whole gradient.
    """

    index: Int[Tensor, " top"]
    value: Float[Tensor, " top"]
    n_weights: int

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True)
class SetRelations:
    """How the largest entries S_A, S_B of every two tasks (row A, column B) relate.

    Attributes:
        overlap: |S_A and S_B| / |S_A|; the chance level is the share of the weights in a set.
        sign_agreement: share of the weights in both sets whose gradients agree in sign; above one
            half the tasks pull the weights they share the same way (synergy), below it against each
            other (conflict). NaN where the sets share none.
        shared_cosine: cosine of the two gradients over the weights in both sets; NaN likewise.
    """

    overlap: Float[np.ndarray, "task task"]
    sign_agreement: Float[np.ndarray, "task task"]
    shared_cosine: Float[np.ndarray, "task task"]


def top_places(
    values: Float[Tensor, " weight"], share: float, places: Int[Tensor, " movable"] | None = None
) -> Int[Tensor, " chosen"] | None:
    """The share (of all weights) with the largest size among ``places``, ascending.

    None stands for all of them, in ``places`` and in what is returned.
    """
    among = values if places is None else values[places]
    k = min(len(among), max(1, round(share * len(values))))
    if k == len(among):
        return places
    chosen = among.abs().topk(k, sorted=False).indices
    return (chosen if places is None else places[chosen]).sort().values


def top_entries(gradient: Float[Tensor, " weight"], share: float) -> TopEntries:
    """The share of a gradient's entries with the largest size, at least one, on the CPU."""
    n, index = len(gradient), top_places(gradient, share)
    if index is None:
        index = torch.arange(n, device=gradient.device)
    kind = torch.int32 if n < 2**31 else torch.int64
    return TopEntries(index.to("cpu", kind), gradient[index].float().cpu(), n)


def shared_share(first: TopEntries, second: TopEntries) -> float:
    """|S_A and S_B| / |S_A| of two gradients' largest entries."""
    common = np.intersect1d(first.index.numpy(), second.index.numpy(), assume_unique=True)
    return len(common) / len(first)


def set_relations(tops: Sequence[TopEntries]) -> SetRelations:
    """How every two tasks' largest entries relate, summed up block by block of the weights.

    Memory beside the sets: a few float32 arrays [task, ``PIECE``].
    """
    n = len(tops)
    both, agree, dot, square = (np.zeros((n, n)) for _ in range(4))
    for member, value in _pieces(tops):
        both += (member @ member.T).double().numpy()
        sign = value.sign()
        agree += (sign @ sign.T).double().numpy()
        dot += (value @ value.T).double().numpy()
        square += ((value * value) @ member.T).double().numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        size = np.sqrt(square * square.T)
        return SetRelations(
            both / both.diagonal()[:, None],
            np.where(both > 0, (1 + agree / both) / 2, np.nan),
            np.where(size > 0, dot / size, np.nan),
        )


def _pieces(
    tops: Sequence[TopEntries],
) -> Iterator[tuple[Float[Tensor, "task piece"], Float[Tensor, "task piece"]]]:
    """Membership and values of a block of the weights for every task, largest value near 1."""
    n_weights = tops[0].n_weights
    scale = [float(top.value.abs().max()) or 1.0 for top in tops]
    for low in range(0, n_weights, PIECE):
        width = min(PIECE, n_weights - low)
        member, value = torch.zeros(len(tops), width), torch.zeros(len(tops), width)
        for t, top in enumerate(tops):
            ends = torch.tensor([low, low + width], dtype=top.index.dtype)
            start, stop = torch.searchsorted(top.index, ends).tolist()
            at = (top.index[start:stop] - low).long()
            member[t, at] = 1.0
            value[t, at] = top.value[start:stop] / scale[t]
        yield member, value

"""Depth profiles nearest to given numbers: the labels of the label-free topological probe.

A depth profile of n words is a vector of levels with exactly one 1 and no level left out between 1
and the largest: the profile of at least one rooted tree, as every rooted tree gives one (Li, Yin
and Lin 2023, arXiv 2310.12454). Two ways to find one near a vector nu: the greedy rule of the
paper's released code, and, ours, the nearest in squared error by dynamic programming. Both keep
the order of nu; words of equal nu are ordered as they stand.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechprobe.errors import InputError

LABELLINGS = ("greedy", "exact")


@torch.no_grad()
def pseudo_labels(
    nu: Float[Tensor, "*batch word"],
    real: Bool[Tensor, "*batch word"],
    how: str = "exact",
    *,
    reverse: bool = False,
) -> Int[Tensor, "*batch word"]:
    """Levels from 1 for the words of many sentences at once; 0 where ``real`` is false.

    Args:
        nu: numbers to be near to, such as squared norms of projected vectors.
        real: which places are words; any places, the others do not count.
        how: "greedy" (level j is the level before or one more, whichever is nearer to the j-th
            smallest number; one more in a tie) or "exact" (least squared error).
        reverse: give the levels to the words in reverse order of the sentence.

    Raises:
        InputError: an unknown way.
    """
    if how not in LABELLINGS:
        raise InputError(f"labels {how!r} are unknown; expected 'greedy' or 'exact'")
    if not nu.numel():
        return torch.zeros_like(nu, dtype=torch.long)
    n_places = nu.shape[-1]
    rows, mask = nu.detach().reshape(-1, n_places), real.reshape(-1, n_places)
    values, order = rows.masked_fill(~mask, torch.inf).sort(dim=-1, stable=True)
    n_words = mask.sum(-1)
    levels = (_greedy if how == "greedy" else _exact)(values, n_words)
    out = torch.zeros_like(levels).scatter_(1, order, levels)
    if reverse:
        out = _reversed(out, mask, n_words)
    return out.view(nu.shape)


def _greedy(values: Float[Tensor, "row word"], n_words: Int[Tensor, " row"]) -> Tensor:
    """Levels of sorted values; 0 beyond the words."""
    columns = rearrange(values, "row word -> word row")
    level = torch.ones_like(columns[0])
    found = [level]
    for place, value in enumerate(columns[1:], 1):
        stay = (value - level).abs() < (level + 1 - value).abs()
        level = level + 1 if place == 1 else torch.where(stay, level, level + 1)
        found.append(level)
    levels = torch.stack(found, dim=1).long()
    return levels * (torch.arange(values.shape[1], device=values.device) < n_words[:, None])


def _exact(values: Float[Tensor, "row word"], n_words: Int[Tensor, " row"]) -> Tensor:
    """Levels of sorted values with the least squared error; 0 beyond the words.

    cost[L] of the first j words with the j-th at level L is
    min(cost[L], cost[L - 1]) of the first j - 1, plus (nu_j - L)^2. Sums run in float64.
    """
    n_rows, n_places = values.shape
    wide = values.to(torch.float64)
    level = torch.arange(1, n_places + 1, device=values.device, dtype=torch.float64)
    cost = torch.full_like(wide, torch.inf)
    cost[:, 0] = (wide[:, 0] - 1) ** 2
    final = cost.clone()  # the costs at each row's own last word
    rose = torch.zeros(n_places, n_rows, n_places, dtype=torch.bool, device=values.device)
    for place in range(1, n_places):
        below = torch.nn.functional.pad(cost, (1, 0), value=torch.inf)[:, :-1]
        if place > 1:
            rose[place] = below < cost
            before = torch.minimum(cost, below)
        else:
            rose[place] = True  # level 1 is for one word only
            before = below
        cost = before + (wide[:, place, None] - level) ** 2
        final = torch.where((n_words == place + 1)[:, None], cost, final)
    at = final.argmin(1)
    levels = torch.zeros(n_rows, n_places, dtype=torch.long, device=values.device)
    for place in range(n_places - 1, -1, -1):
        here = place < n_words
        levels[:, place] = torch.where(here, at + 1, 0)
        step = rose[place].gather(1, at[:, None])[:, 0]
        at = at - (step & here & (at > 0)).long()
    return levels


def _reversed(levels: Tensor, mask: Tensor, n_words: Tensor) -> Tensor:
    """The levels of each row's words, last word's first."""
    rank = mask.cumsum(1) - 1
    packed = torch.zeros_like(levels).scatter_add_(1, rank.clamp(min=0), levels * mask)
    source = (n_words[:, None] - 1 - rank).clamp(0, levels.shape[1] - 1)
    return packed.gather(1, source) * mask


def depth_histogram(
    levels: Int[Tensor, "*batch word"], n_levels: int | None = None
) -> Int[Tensor, " level"]:
    """How many words have level 1, 2, ...; masked words (0) do not count.

    Args:
        n_levels: length of the result; the largest level when None. Deeper words are not counted.
    """
    counts = torch.bincount(levels.flatten())[1:]
    if n_levels is None:
        return counts
    return torch.nn.functional.pad(counts, (0, max(0, n_levels - len(counts))))[:n_levels]


def flat_share(levels: Int[Tensor, "*batch word"]) -> float:
    """Share of sentences whose words are one 1 and all others 2: no topology, only a root.

    Squared norms can shrink to this profile whatever the vectors hold, so a probe whose labels are
    mostly flat has found nothing. Sentences of fewer than 3 words do not count; NaN without others.
    """
    rows = levels.reshape(-1, levels.shape[-1])
    rows = rows[(rows > 0).sum(1) > 2]
    return float((rows.amax(1) <= 2).double().mean()) if len(rows) else float("nan")

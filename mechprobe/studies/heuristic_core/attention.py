"""Where each head looks: the same word in the other sentence, separators, neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
import pandas as pd
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechprobe.models.edits import attention_patterns
from mechprobe.sites import Site
from mechprobe.stats import central, permutation_p, resample_counts
from mechprobe.studies.heuristic_core.data import Split
from mechprobe.studies.heuristic_core.search import OpenModel
from mechprobe.tasks.batches import Batch

KINDS = ("overlap", "separator", "first", "previous", "next", "itself")


def targets(
    batch: Batch, first_id: int, separator_id: int
) -> tuple[Bool[Tensor, "batch query"], dict[str, Bool[Tensor, "batch query key"]]]:
    """Which queries count, and which keys each kind of attention looks for.

    Queries are real tokens that are not special. ``overlap`` keys: the same token in the other
    sentence. Queries without such a key count 0 towards ``overlap``.
    """
    tokens, real = batch.tokens, batch.attention_mask.bool()
    special = (tokens == first_id) | (tokens == separator_id)
    query = real & ~special
    same = tokens.unsqueeze(2) == tokens.unsqueeze(1)
    other = batch.segments.unsqueeze(2) != batch.segments.unsqueeze(1)
    n = tokens.shape[1]
    key_real = real.unsqueeze(1).expand(-1, n, -1)
    place = torch.arange(n, device=tokens.device)
    step = place.unsqueeze(0) - place.unsqueeze(1)
    kinds = {
        "overlap": same & other & (real & ~special).unsqueeze(1),
        "separator": (tokens == separator_id).unsqueeze(1).expand_as(key_real),
        "first": (tokens == first_id).unsqueeze(1).expand_as(key_real),
        "previous": (step == -1).expand_as(key_real),
        "next": (step == 1).expand_as(key_real),
        "itself": (step == 0).expand_as(key_real),
    }
    return query, {name: keys & key_real for name, keys in kinds.items()}


@dataclass(frozen=True)
class AttentionSums:
    """Attention of every example: sums over its query tokens, and how many those are.

    Attributes:
        sums: kind of key -> [example, site], heads in the order of the grid.
        queries: query tokens of each example.
    """

    sums: dict[str, Float[np.ndarray, "example site"]]
    queries: Int[np.ndarray, "example"]

    def shares(self) -> dict[str, Float[np.ndarray, "site"]]:
        """Mean share of each head's attention per kind of key; every query weighs the same."""
        return {kind: value.sum(0) / self.queries.sum() for kind, value in self.sums.items()}


@torch.no_grad()
def attention_sums(opened: OpenModel, split: Split) -> AttentionSums:
    """What each head attends to on each example (Bhaskar et al. 2024, section 5)."""
    first, separator = opened.data.tokenizer.cls_token_id, opened.data.tokenizer.sep_token_id
    assert isinstance(first, int)  # pairs need both
    assert isinstance(separator, int)
    n, n_heads = len(split.examples), opened.grid.n_head_sites
    sums = {kind: np.zeros((n, n_heads)) for kind in KINDS}
    queries = np.zeros(n, dtype=np.int64)
    for batch in split.batches:
        query, kinds = targets(batch, first, separator)
        patterns = torch.stack(list(attention_patterns(opened.model, batch).values()))
        weight = query.to(patterns.dtype)
        for kind, keys in kinds.items():
            share = torch.einsum(
                "lbhqk,bqk,bq->blh", patterns, keys.to(patterns.dtype), weight
            )
            rows = batch.index.cpu().numpy()
            flat = rearrange(share, "batch layer head -> batch (layer head)")
            sums[kind][rows] = flat.cpu().double().numpy()
        queries[batch.index.cpu().numpy()] = query.sum(1).cpu().numpy()
    return AttentionSums(sums, queries)


def core_attention(
    found: AttentionSums, grid_heads: Sequence[Site], core: Sequence[Site],
    n_null: int, seed: int,
) -> pd.DataFrame:
    """Core against other heads, per kind of attention, with a permutation test over heads.

    Columns: attention (the kind), core and rest (means), difference, its 95 % bootstrap interval
    over examples (low, high), two-sided p (the label "core" permuted over heads).

    Raises:
        InputError: every head is in the core, or none is.
    """
    inside = np.array([site in set(core) for site in grid_heads])
    rows = []
    counts = resample_counts(np.zeros(len(found.queries), int), n_null, seed)
    n_queries = counts @ found.queries
    for kind, values in found.shares().items():
        mine, others = values[inside], values[~inside]
        p = permutation_p(mine, others, seed=seed, n=n_null)
        sums = found.sums[kind]
        contrast = sums[:, inside].mean(1) - sums[:, ~inside].mean(1)
        low, high = central(counts @ contrast / n_queries)
        rows.append({
            "attention": kind, "core": mine.mean(), "rest": others.mean(),
            "difference": mine.mean() - others.mean(), "low": float(low), "high": float(high),
            "p": p,
        })
    return pd.DataFrame(rows)


def smallest_p(n_heads: int, n_core: int, n_null: int) -> float:
    """The least p that ``core_attention`` can give with so many heads, core heads and draws."""
    ways = comb(n_heads, n_core)
    return min(1.0, 2 / (ways if ways <= n_null else 1 + n_null))

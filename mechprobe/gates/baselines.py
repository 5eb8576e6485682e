"""Baselines: what a closed gate puts in a component's place.

zero: nothing. mean: the component's mean over data. mean_position: its mean per position.
resample: its value on another example of the batch. paired: its value in the counterfactual run.
Each kind is a function that makes a ``Baseline``; ``Baseline.values`` gives, for every layer-wide
site, a tensor that broadcasts against the activation: heads [batch or 1, pos or 1, head, d_head],
MLPs [batch or 1, pos or 1, d_model], neurons [batch or 1, pos or 1, neuron]. No kind ever puts the
value of a padding token in place of a real one. In an encoder-decoder the positions of decoder and
cross-attention sites are the decoder's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.models.edits import HookedModel, run_with_cache
from mechprobe.sites import Site, SiteGrid
from mechprobe.tasks.batches import Batch

KINDS = ("zero", "mean", "mean_position", "resample", "paired")


@dataclass(frozen=True)
class Baseline:
    """A kind of baseline and the rule that gives its values for a batch."""

    kind: str
    values: Callable[[HookedModel, Batch, SiteGrid], Mapping[Site, Tensor]]


def zero_baseline() -> Baseline:
    """A closed component writes nothing."""

    def values(model: HookedModel, batch: Batch, grid: SiteGrid) -> Mapping[Site, Tensor]:
        like = next(model.parameters())
        head, other = like.new_zeros(1, 1, 1, 1), like.new_zeros(1, 1, 1)
        return {site: head if site.kind == "head" else other for site in grid.layer_columns}

    return Baseline("zero", values)


def mean_baseline(
    model: HookedModel, batches: Sequence[Batch], grid: SiteGrid, *, per_position: bool = False
) -> Baseline:
    """The component's mean activation over the real (unpadded) tokens of ``batches``.

    Mean ablation as in Bhaskar et al. 2024 (section 3): one mean per dimension of a head's z and
    of an MLP's output. With ``per_position`` one mean per position; positions the data never
    reach take the overall mean. Sums run in float64.

    Raises:
        InputError: no data; and, when used, a grid with sites that ``grid`` did not gate.
    """
    if not batches:
        raise InputError("a mean baseline needs at least one batch of data")
    overall, by_position = _means(model, batches, grid)

    def values(model: HookedModel, batch: Batch, grid: SiteGrid) -> Mapping[Site, Tensor]:
        if missing := [str(site) for site in grid.layer_columns if site not in overall]:
            raise InputError(
                f"this mean baseline has no mean for {missing[0]} ({len(missing)} such); make it "
                "with the grid it is used with"
            )
        if not per_position:
            return {site: overall[site] for site in grid.layer_columns}
        width = {stack: batch.real(stack).shape[1] for stack in grid.stacks}
        return {
            site: _to_length(by_position[site], width[site.stack], overall[site])
            for site in grid.layer_columns
        }

    return Baseline("mean_position" if per_position else "mean", values)


def _means(
    model: HookedModel, batches: Sequence[Batch], grid: SiteGrid
) -> tuple[dict[Site, Tensor], dict[Site, Tensor]]:
    """Each site's mean over real tokens [1, 1, ...], and per position [1, pos, ...]."""
    like = next(model.parameters())
    counts = {
        stack: like.new_zeros(max(b.real(stack).shape[1] for b in batches), dtype=torch.float64)
        for stack in grid.stacks
    }
    sums: dict[Site, Tensor] = {}
    with torch.no_grad():
        for batch in batches:
            _, cache = run_with_cache(model, batch, grid.layer_columns)
            real = {stack: batch.real(stack).to(count) for stack, count in counts.items()}
            for stack, count in counts.items():
                count[: real[stack].shape[1]] += real[stack].sum(0)
            for site, act in cache.items():
                part = torch.einsum("bp,bp...->p...", real[site.stack], act.to(torch.float64))
                n_pos = len(counts[site.stack])
                total = sums.setdefault(site, part.new_zeros(n_pos, *part.shape[1:]))
                total[: part.shape[0]] += part
    overall: dict[Site, Tensor] = {}
    by_position: dict[Site, Tensor] = {}
    for site, total in sums.items():
        count = counts[site.stack]
        mean = total.sum(0, keepdim=True) / count.sum()
        axes = (-1, *[1] * (total.dim() - 1))
        at = torch.where((count > 0).view(axes), total / count.clamp(min=1).view(axes), mean)
        overall[site] = mean.to(like.dtype).unsqueeze(0)
        by_position[site] = at.to(like.dtype).unsqueeze(0)
    return overall, by_position


def resample_baseline(seed: int) -> Baseline:
    """The component's value on another example of the same batch (a seeded derangement).

    Who donates to whom depends on the seed and on which examples the batch holds, so the same batch
    always gets the same donors. Positions past the donor's length take the donor's positions again
    from its start, so that no padding is ever patched in.

    Raises:
        InputError: a negative seed; and, when used, a batch of one example.
    """
    if seed < 0:
        raise InputError(f"seed {seed} of the resample baseline is negative; give 0 or more")

    def values(model: HookedModel, batch: Batch, grid: SiteGrid) -> Mapping[Site, Tensor]:
        n = len(batch)
        if n < 2:
            raise InputError("the resample baseline needs batches of at least two examples")
        rng = np.random.default_rng([seed, *batch.index.tolist()])
        order = rng.permutation(n)
        donor = torch.empty(n, dtype=torch.long)
        donor[torch.from_numpy(order)] = torch.from_numpy(np.roll(order, 1))
        donor = donor.to(batch.tokens.device)
        position: dict[str, Tensor] = {}
        for stack in grid.stacks:
            length = batch.real(stack).sum(1)[donor]
            place = torch.arange(batch.real(stack).shape[1], device=donor.device)
            position[stack] = place[None, :] % rearrange(length, "batch -> batch 1")
        with torch.no_grad():
            _, cache = run_with_cache(model, batch, grid.layer_columns)
        rows = rearrange(donor, "batch -> batch 1")
        return {site: act[rows, position[site.stack]] for site, act in cache.items()}

    return Baseline("resample", values)


def paired_baseline(counterfactual: Callable[[Batch], Batch]) -> Baseline:
    """The component's value in the counterfactual run of each example.

    Args:
        counterfactual: gives the counterfactual batch of a batch: the same [batch, pos] shape, and
            a real token wherever the batch has one (on either side of an encoder-decoder, as far
            as the grid gates it).

    Raises:
        InputError: when used, a counterfactual batch of another shape, or with padding where the
            batch has a real token.
    """

    def values(model: HookedModel, batch: Batch, grid: SiteGrid) -> Mapping[Site, Tensor]:
        other = counterfactual(batch)
        for stack in grid.stacks:
            _check_pairs(batch, batch.real(stack), other.real(stack))
        with torch.no_grad():
            _, cache = run_with_cache(model, other, grid.layer_columns)
        return cache

    return Baseline("paired", values)


def _check_pairs(batch: Batch, real: Tensor, others: Tensor) -> None:
    """Whether a counterfactual has a real token wherever the batch has one."""
    if others.shape != real.shape:
        raise InputError(
            f"the counterfactual batch has shape {tuple(others.shape)}, the clean one "
            f"{tuple(real.shape)}; paired baselines need pairs of equal length"
        )
    short = real > others.to(real)
    if short.any():
        raise InputError(
            f"the counterfactual of example {int(batch.index[short.any(1)][0])} is shorter "
            "than it, so padding would stand in for its last tokens; give pairs of equal length"
        )


def make_baseline(
    kind: str, model: HookedModel, batches: Sequence[Batch], grid: SiteGrid, *, seed: int = 0
) -> Baseline:
    """A baseline by name, for the kinds that need only data: zero, mean, mean_position, resample.

    Raises InputError for an unknown kind, and for "paired", which needs counterfactual inputs
    (``paired_baseline``).
    """
    if kind == "zero":
        return zero_baseline()
    if kind in ("mean", "mean_position"):
        return mean_baseline(model, batches, grid, per_position=kind == "mean_position")
    if kind == "resample":
        return resample_baseline(seed)
    if kind == "paired":
        raise InputError(
            "the paired baseline needs counterfactual inputs: call paired_baseline(counterfactual)"
        )
    raise InputError(f"unknown baseline {kind!r}; one of {', '.join(KINDS)}")


def _to_length(value: Tensor, n_pos: int, overall: Tensor) -> Tensor:
    """Cut [1, pos, ...] to n_pos positions, or extend it by the overall mean [1, 1, ...]."""
    if value.shape[1] >= n_pos:
        return value[:, :n_pos]
    extra = overall.expand(-1, n_pos - value.shape[1], *value.shape[2:])
    return torch.cat([value, extra], dim=1)

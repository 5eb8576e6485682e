"""A model with gates closed for the length of a block, whoever calls it there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.gates.baselines import Baseline, make_baseline
from mechprobe.gates.choose import chosen_sites, grid_for
from mechprobe.models.edits import HookedModel
from mechprobe.models.standing import StandingEdit, standing_edits
from mechprobe.sites import Site, SiteGrid, SiteName
from mechprobe.tasks.batches import Batch, Seq2SeqBatch
from mechprobe.tasks.behaviour import Behaviour
from mechprobe.tasks.prompts import PromptTask

CONSTANT = ("zero", "mean", "mean_position")
"""Kinds of baseline that do not depend on what the model reads."""


@contextmanager
def gated(
    model: HookedModel,
    closed: Sequence[SiteName] = (),
    *,
    keep: Sequence[SiteName] | None = None,
    among: str | Sequence[SiteName] = "all",
    baseline: str | Baseline = "zero",
    data: Sequence[Batch] | Behaviour | PromptTask | None = None,
) -> Iterator[HookedModel]:
    """Every call of the model inside the block runs with these gates closed.

    ``with gated(model, closed=["5.1", "mlp.3"]): model.generate(...)``. Blocks may be nested: what
    either closes is closed, and where both do, the inner one's baseline stands. The hooks go when
    the block ends, by an exception too.

    Args:
        closed: sites such as "5.1", "mlp.3", "4.*" (all heads of a layer), "mlp.2.7" (a neuron).
        keep: instead of ``closed``: of the sites ``among`` these stay open, the others close.
        among: "heads", "mlps", "all" or a list; for ``keep``.
        baseline: "zero", "mean" or "mean_position" (which counts from the first token the model
            is given), or such a ``Baseline``. The other kinds need each input's own batch: use
            ``mechprobe.gates.reference.gated_logits`` or ``mechprobe.ablate``.
        data: what a mean is taken over, on the model as it is when the block begins.

    Yields:
        The model.

    Raises:
        InputError: sites that do not exist, both or neither of ``closed`` and ``keep``, a baseline
            that depends on the input, or a mean without data.
    """
    grid, shut = closed_sites(model, closed, keep, among)
    values = constant_values(model, grid, baseline, data)
    mask = grid.mask(closed=shut)
    edits = {
        site: _edit(~mask[columns], site, values[site])
        for site, columns in grid.layer_columns.items()
        if not mask[columns].all()
    }
    with standing_edits(model, edits):
        yield model


def closed_sites(
    model: HookedModel,
    closed: Sequence[SiteName] = (),
    keep: Sequence[SiteName] | None = None,
    among: str | Sequence[SiteName] = "all",
) -> tuple[SiteGrid, list[Site]]:
    """The grid and the sites to close, from those named or those to keep; raises as ``gated``."""
    if isinstance(closed, str) or isinstance(keep, str):
        raise InputError("sites are given in a list, such as closed=['5.1', 'mlp.3']")
    if keep is None:
        if not closed:
            raise InputError("nothing to close: give closed=[...], or keep=[...]")
        return grid_for(model, closed)
    if closed:
        raise InputError("closed and keep were both given; give one of them")
    named = among if isinstance(among, str) else [*among]
    grid, pool = grid_for(model, named)
    kept = set(chosen_sites(grid, keep)) if keep else set()
    if outside := [site for site in kept if site not in pool]:
        raise InputError(f"{min(outside)} is to be kept but is not among {among!r}; widen among")
    return grid, [site for site in pool if site not in kept]


def constant_values(
    model: HookedModel,
    grid: SiteGrid,
    baseline: str | Baseline,
    data: Sequence[Batch] | Behaviour | PromptTask | None,
) -> Mapping[Site, Tensor]:
    """What stands in closed sites' places at every position the model reads.

    Raises:
        InputError: a kind of baseline that depends on the input, or a mean without data.
    """
    kind = baseline.kind if isinstance(baseline, Baseline) else baseline
    if kind not in CONSTANT:
        raise InputError(
            f"baseline {kind!r} is not the same for every input, so it cannot stand while the "
            f"model is called with anything; give one of {', '.join(CONSTANT)}, or use "
            "mechprobe.ablate"
        )
    if isinstance(baseline, str):
        if data is None and kind != "zero":
            raise InputError(f"baseline {kind!r} is taken over data; give data=batches or a task")
        if isinstance(data, PromptTask):
            data = data.encode(model.tokenizer)
        batches = data.batches() if isinstance(data, Behaviour) else [*(data or ())]
        baseline = make_baseline(kind, model, batches, grid)
    return baseline.values(model, _widest(model, grid), grid)


def _widest(model: HookedModel, grid: SiteGrid) -> Batch:
    """An empty batch as wide as the model reads, for values by position."""
    one = torch.zeros(1, model.cfg.n_ctx, dtype=torch.long)
    row = torch.zeros(1, dtype=torch.long)
    if grid.stacks == ("",):
        return Batch(one, one, one + 1, row, row)
    return Seq2SeqBatch(one, one, one + 1, row, row, one, one + 1)


def _edit(shut: Bool[np.ndarray, " unit"], site: Site, value: Tensor) -> StandingEdit:
    """The layer's value with its closed units replaced, whatever positions it is called with."""
    units = torch.from_numpy(np.flatnonzero(shut))

    def edit(own: Tensor, start: int) -> Tensor:
        end = start + own.shape[1]
        if 1 < value.shape[1] < end:
            raise InputError(
                f"position {end - 1} is past the {value.shape[1]} that the baseline has means for"
            )
        stands = value if value.shape[1] == 1 else value[:, start:end]
        stands = stands.to(own).expand_as(own)
        if site.kind == "mlp":
            return stands
        out, at = own.clone(), units.to(own.device)
        out[:, :, at] = stands[:, :, at]
        return out

    return edit

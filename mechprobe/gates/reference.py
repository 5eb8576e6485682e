"""The reference path: K gate vectors through one frozen model, by TransformerLens hooks.

``out = g * own + (1 - g) * baseline`` at every gated site. Slow and obvious: every faster path is
tested against it. The K vectors are stacked along the batch axis, ``chunk`` of them at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.gates.baselines import Baseline
from mechprobe.models.edits import HookedModel, run_with_edits
from mechprobe.sites import Site, SiteGrid
from mechprobe.tasks.batches import Batch

_TOKENS_AT_ONCE = 2048


def gated_logits(
    model: HookedModel,
    batch: Batch,
    gates: Float[Tensor, "k site"],
    grid: SiteGrid,
    baseline: Baseline,
    *,
    chunk: int | None = None,
) -> Float[Tensor, "k batch ..."]:
    """Logits of K gated copies of the model on one batch.

    Args:
        model: any model ``mechprobe.load_model`` returns; its weights are not changed.
        batch: tokens [batch, pos].
        gates: one row a gate vector, columns in the order of ``grid.sites``; any float dtype.
        grid: the gated sites; sites outside it stay open.
        baseline: what a closed gate puts in place.
        chunk: how many gate vectors run stacked at once; None picks by the number of tokens.

    Returns:
        Logits [k, batch, label] of a classifier, [k, batch, pos, vocab] of a language model (pos
        those of the decoder in an encoder-decoder); differentiable with respect to ``gates``.

    Raises:
        InputError: gates that are not [k, site] of this grid, or a chunk below 1.
    """
    if gates.dim() != 2 or not len(gates) or gates.shape[1] != len(grid):
        raise InputError(
            f"gates of shape {list(gates.shape)} for a grid of {len(grid)} sites; give [k, "
            f"{len(grid)}], one row a gate vector"
        )
    if chunk is None:
        chunk = max(1, _TOKENS_AT_ONCE // max(1, batch.n_positions))
    if chunk < 1:
        raise InputError(f"a chunk of {chunk} gate vectors cannot run; give 1 or more, or None")
    values = baseline.values(model, batch, grid)
    rows = []
    for part in gates.split(chunk):
        k = part.shape[0]
        stacked = batch if k == 1 else _stack(batch, k)
        logits = run_with_edits(model, stacked, _edits(part, grid, values, len(batch)))
        rows.append(rearrange(logits, "(k batch) ... -> k batch ...", k=k))
    return torch.cat(rows)


def gate_edits(
    model: HookedModel, gates: Float[Tensor, " site"], grid: SiteGrid, baseline: Baseline
) -> Callable[[Batch], Mapping[Site, Callable[[Tensor], Tensor]]]:
    """One gate vector as edits of whatever batch is run: ``generate(..., edits=gate_edits(...))``.

    Raises:
        InputError: gates that are not [site] of this grid.
    """
    if gates.shape != (len(grid),):
        raise InputError(
            f"gates of shape {list(gates.shape)} for a grid of {len(grid)} sites; give "
            f"[{len(grid)}], one gate vector"
        )

    def edits(batch: Batch) -> Mapping[Site, Callable[[Tensor], Tensor]]:
        return _edits(gates[None], grid, baseline.values(model, batch, grid), len(batch))

    return edits


def _edits(
    gates: Float[Tensor, "k site"], grid: SiteGrid, values: Mapping[Site, Tensor], n_batch: int
) -> dict[Site, Callable[[Tensor], Tensor]]:
    """One edit per layer and kind, also where every gate of it is open."""
    edits: dict[Site, Callable[[Tensor], Tensor]] = {}
    for site, columns in grid.layer_columns.items():
        g = repeat(gates[:, columns], "k unit -> (k batch) 1 unit", batch=n_batch)
        edits[site] = _gate(g.unsqueeze(-1) if site.kind == "head" else g, values[site], n_batch)
    return edits


def _gate(g: Tensor, base: Tensor, n_batch: int) -> Callable[[Tensor], Tensor]:
    """The edit own -> base + g (own - base); gates keep their precision beside bfloat16 values."""

    def edit(own: Tensor) -> Tensor:
        k = own.shape[0] // n_batch
        stands = base if base.shape[0] == 1 or k == 1 else repeat(base, "b ... -> (k b) ...", k=k)
        return (stands + g * (own - stands)).to(own.dtype)

    return edit


def _stack(batch: Batch, k: int) -> Batch:
    """The batch k times over, [k * batch, pos]."""
    return type(batch)(
        **{
            field.name: repeat(getattr(batch, field.name), "b ... -> (k b) ...", k=k)
            for field in fields(batch)
        }
    )

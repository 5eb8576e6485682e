"""Learned masks: hard concrete gates on a frozen model, trained to a target sparsity.

K members (one seed and one target each) advance together on the same batches; their parameters
never mix, so each equals its own single run. Objective per member: faithfulness to the full model
(KL of its logits) or the task's own loss, plus a Lagrangian on the sparsity.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mechprobe.errors import InputError
from mechprobe.gates.baselines import Baseline
from mechprobe.locate.mask_gradients import Gradients, gradients_for, sparing
from mechprobe.locate.mask_loss import Loss, full_model_logits, mask_loss
from mechprobe.locate.mask_memory import fitting
from mechprobe.locate.mask_pieces import Objective, Pieces
from mechprobe.locate.mask_settings import (
    MaskSettings,
    Member,
    check_sparsity,
    held_settings,
    published_settings,
    scaled,
    target_at,
)
from mechprobe.locate.mask_trainer import MaskTrainer, sparsity_penalty
from mechprobe.models.edits import HookedModel
from mechprobe.sites import SiteGrid
from mechprobe.tasks.batches import Batch
from mechprobe.training.fit import StateStore

__all__ = [
    "MaskDiverged",
    "MaskSettings",
    "MaskTrainer",
    "Member",
    "batch_at",
    "check_sparsity",
    "frozen",
    "full_model_logits",
    "held_settings",
    "mask_loss",
    "published_settings",
    "scaled",
    "search_inputs",
    "sparsity_penalty",
    "target_at",
    "train_masks",
]


def train_masks(
    model: HookedModel,
    batches: Sequence[Batch],
    members: Sequence[Member],
    grid: SiteGrid,
    baseline: Baseline,
    settings: MaskSettings | Sequence[MaskSettings] | None = None,
    *,
    order_seed: int = 0,
    full_logits: Sequence[Tensor] | None = None,
    chunk: int | None = None,
    recompute: bool | None = None,
    store: StateStore | None = None,
    save_every: int = 100,
    on_step: Callable[[int, dict[str, list[float]]], None] | None = None,
    loss: Loss | None = None,
    gradients: Gradients | None = None,
) -> Float[Tensor, "k site"]:
    """Train K masks together on a frozen model and return their log alpha, float32 [k, site].

    Args:
        model: classifier or language model; its weights get no gradient and do not change.
        batches: data of the search; visited in an order that depends only on ``order_seed``.
        members: seed and target sparsity of each mask.
        settings: of all members, or one for each; a member whose steps are done leaves.
        full_logits: the full model's logits of each batch, when already known.
        chunk: masks run stacked at once (None: by the number of tokens); the result does not
            depend on it beyond rounding.
        recompute: trade time for memory on the way back, which changes no result (None: where
            otherwise too little would run at a time).
        store: where the state is saved every ``save_every`` steps, and resumed from.
        on_step: called after each step with lists "loss", "closed" and "target" of the members
            that took it, in their order.
        loss: mean loss of a batch's logits, instead of the settings' objective: a mean over
            examples, of which a part of the batch is given where memory is short.
        gradients: gives each member's loss [k] and its gate gradients [k, site] from a batch, gates
            [k, site] and a loss, instead of the engine.

    Returns:
        Rows of members that diverged are NaN, with a ``MaskDiverged`` warning.

    Raises:
        InputError: no data or members; full logits of other batches; the objective "task" with a
            language model; a saved state of another search.
        FloatingPointError: every member's loss ceased to be finite (step and members are named).
    """
    if not batches:
        raise InputError("mask search needs at least one batch of data")
    if full_logits is not None and len(full_logits) != len(batches):
        raise InputError(
            f"{len(full_logits)} full-model logits for {len(batches)} batches; give one a batch"
        )
    device = next(model.parameters()).device
    about = {} if store is None else search_inputs(model, batches, baseline, order_seed)
    trainer = MaskTrainer(members, len(grid), settings or MaskSettings(), device, about)
    if store is not None and (state := store.load()) is not None:
        trainer.restore(state)
    if full_logits is None:
        needed = loss is None and gradients is None and trainer.settings.objective == "kl"
        full_logits = full_model_logits(model, batches) if needed else []
    pieces = _pieces(
        model, batches, grid, baseline, len(members), chunk, gradients, recompute=recompute
    )
    objective = mask_loss if loss is None else lambda logits, batch, _: loss(logits, batch)
    with frozen(model):
        while trainer.active:
            report = _one_step(batches, full_logits, trainer, order_seed, objective, pieces)
            if on_step is not None:
                on_step(trainer.step_number, report)
            if store is not None and trainer.step_number % save_every == 0:
                store.save(trainer.state())
    return trainer.log_alpha.detach().clone()


def _pieces(
    model: HookedModel, batches: Sequence[Batch], grid: SiteGrid, baseline: Baseline, k: int,
    chunk: int | None, gradients: Gradients | None, *, recompute: bool | None,
) -> Pieces:
    """The search's gradients, by as many members and examples as should fit."""
    if gradients is not None:
        return Pieces(gradients, divisible=False)
    plain = gradients_for(model, grid, baseline, chunk)
    spare = sparing(plain)  # None: by the reference path, which keeps all it computes
    fit = fitting(model, list(batches), k, recompute=False if spare is None else recompute)
    return Pieces(
        spare if spare is not None and fit.recompute else plain, members=fit.members,
        examples=fit.examples, divisible=baseline.kind != "resample",
    )


def search_inputs(
    model: HookedModel, batches: Sequence[Batch], baseline: Baseline, order_seed: int
) -> dict[str, str]:
    """What a saved search was made from: digests of the weights and the data, and the baseline."""
    weights, data = hashlib.sha256(), hashlib.sha256()
    for name, value in sorted(model.named_parameters()):
        weights.update(name.encode())
        weights.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    for batch in batches:
        for part in (batch.tokens, batch.attention_mask, batch.labels):
            data.update(part.cpu().numpy().tobytes())
    return {
        "model": weights.hexdigest()[:16], "data": data.hexdigest()[:16],
        "baseline": baseline.kind, "order_seed": str(order_seed),
    }


def _one_step(
    batches: Sequence[Batch], full_logits: Sequence[Tensor], trainer: MaskTrainer,
    order_seed: int, objective: Objective, pieces: Pieces,
) -> dict[str, list[float]]:
    """Forward and backward of all members over the step's micro-batches, then one update."""
    trainer.hold()
    accumulation, k = trainer.settings.accumulation, len(trainer.active)
    losses, shares, target = torch.zeros(k), torch.zeros(k), trainer.targets()
    for micro in range(accumulation):
        draw = trainer.step_number * accumulation + micro
        which = batch_at(draw, len(batches), order_seed)
        gates, closed = trainer.draw(micro)
        full = full_logits[which] if full_logits else None
        values, slopes = pieces(batches[which], full, gates.detach(), objective)
        trainer.backward(gates, closed, slopes)
        losses += values.cpu() / accumulation
        shares += closed.detach().cpu() / accumulation
    _leave_diverged(trainer, losses)
    trainer.update()
    return {"loss": losses.tolist(), "closed": shares.tolist(), "target": target.tolist()}


def _leave_diverged(trainer: MaskTrainer, losses: Float[Tensor, " row"]) -> None:
    """Members whose loss is not finite leave; when nobody is left that is an error."""
    bad = [place for place, loss in enumerate(losses) if not loss.isfinite()]
    if not bad:
        return
    named = [trainer.members[trainer.active[place]] for place in bad]
    step = trainer.step_number
    trainer.drop(bad)
    if bool(trainer.log_alpha.isnan().any(1).all()):
        raise FloatingPointError(
            f"mask loss is not finite at step {step} for {named}: "
            "check the model's logits on this data for NaN or inf"
        )
    warnings.warn(
        f"mask loss is not finite at step {step} for {named}; they leave the search",
        MaskDiverged, stacklevel=2,
    )


class MaskDiverged(UserWarning):
    """A member's loss ceased to be finite; the others go on without it."""


def batch_at(draw: int, n_batches: int, seed: int) -> int:
    """Which batch the draw-th micro-batch uses: a new seeded permutation every epoch."""
    epoch, place = divmod(draw, n_batches)
    return int(np.random.default_rng([seed, epoch]).permutation(n_batches)[place])


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Within the context no parameter of the model asks for a gradient; restored afterwards."""
    asked = [parameter.requires_grad for parameter in model.parameters()]
    model.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, before in zip(model.parameters(), asked, strict=True):
            parameter.requires_grad_(before)

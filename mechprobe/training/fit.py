"""Fit a hooked classifier: AdamW, linear warm-up and decay, resumable, with a trajectory."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from mechprobe.errors import InputError
from mechprobe.models.decoder_classifier import Classifier
from mechprobe.models.edits import forward
from mechprobe.runs.crew import ALONE, gather
from mechprobe.tasks.batches import Batch, Encoded
from mechprobe.tasks.metrics import label_loss


@runtime_checkable
class StateStore(Protocol):
    """Where long work keeps its state between kills (``mechprobe.runs.Checkpoint`` is one)."""

    def save(self, state: dict) -> None:
        """Keep a copy of the state; its tensors change afterwards."""

    def load(self) -> dict | None:
        """The state saved last, None when there is none."""

    def delete(self) -> None:
        """Forget the state."""


@dataclass(frozen=True)
class FitSettings:
    """How a model is fitted.

    Args:
        steps: optimiser steps.
        batch_size: examples a step.
        lr: peak learning rate of AdamW.
        warmup: share of the steps in which the learning rate rises; then it falls to 0.
        weight_decay: of AdamW.
        clip: largest norm of the gradient.

    Raises:
        InputError: a number that cannot work.
    """

    steps: int
    batch_size: int = 32
    lr: float = 5e-5
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise InputError("fitting needs at least one step and one example a batch")
        if not 0 <= self.warmup <= 1:
            raise InputError(f"warmup is a share of the steps, 0 to 1; got {self.warmup}")
        if self.lr <= 0 or self.clip <= 0:
            raise InputError(
                f"learning rate {self.lr} and clipping norm {self.clip} must both be above 0"
            )


def fit_classifier(
    model: Classifier,
    data: Encoded,
    settings: FitSettings,
    *,
    seed: int,
    trajectory: Collection[int] = (),
    on_checkpoint: Callable[[int, Classifier], None] | None = None,
    on_step: Callable[[int, float], None] | None = None,
    store: StateStore | None = None,
    save_every: int = 200,
    loss_of: Callable[[Classifier, Batch], Tensor] | None = None,
    beside: nn.Module | None = None,
) -> None:
    """Fit all weights of a classifier in place by cross-entropy on its labels.

    Args:
        model: trained where it is (``model.to(device)`` first).
        data: encoded examples with labels; each epoch is a new seeded order of length buckets.
        trajectory: steps after which ``on_checkpoint(step, model)`` is called.
        on_step: called with (step, loss) after each step.
        store: where weights, optimiser and step are saved every ``save_every`` steps, at each
            trajectory point, and resumed from. Saved and resumed, the numbers are the same.
        loss_of: the loss of a batch instead, cross-entropy and something else, say; it is not
            shared by several processes.
        beside: a module that the loss uses; what of it takes a gradient is fitted too, outside the
            clipping.

    Raises:
        InputError: no examples, or a trajectory point outside 1 .. steps.
        FloatingPointError: when the loss is not finite; the step is named.
    """
    if not len(data):
        raise InputError("fitting needs at least one training example; the data are empty")
    if outside := [point for point in trajectory if not 1 <= point <= settings.steps]:
        raise InputError(
            f"trajectory point {outside[0]} is no step of this fit; give 1 to {settings.steps}"
        )
    device = next(model.parameters()).device
    weights = [*model.parameters()]
    if beside is not None:
        weights += [p for p in beside.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        weights, lr=settings.lr, weight_decay=settings.weight_decay, fused=True
    )
    done = 0
    if store is not None and (state := store.load()) is not None:
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        if beside is not None:
            beside.load_state_dict(state["beside"])
        done = int(state["step"])
    team = gather() if loss_of is None else ALONE
    model.train()
    for step, batch in _stream(data, settings.batch_size, seed, done, settings.steps):
        batch = batch.to(device)
        own = batch.take(team.rows(len(batch)))
        for group in optimiser.param_groups:
            group["lr"] = settings.lr * schedule(step, settings.steps, settings.warmup)
        if loss_of is None:
            losses = label_loss(forward(model, own), own.labels)
            loss = losses.mean() * (len(own) / len(batch))
        else:
            loss = loss_of(model, batch)
        value = team.total(loss)
        if not math.isfinite(value):
            raise FloatingPointError(
                f"training loss is {value} at step {step}: lower the learning rate "
                f"({settings.lr}) or check the data"
            )
        loss.backward()
        team.sum_gradients(weights)
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if on_step is not None:
            on_step(step + 1, value)
        at_point = step + 1 in trajectory
        if at_point and on_checkpoint is not None:
            on_checkpoint(step + 1, model)
        if store is not None and (at_point or (step + 1) % save_every == 0):
            store.save({
                "step": step + 1, "model": model.state_dict(), "optimiser": optimiser.state_dict(),
                **({} if beside is None else {"beside": beside.state_dict()}),
            })
    model.eval()


def schedule(step: int, steps: int, warmup: float) -> float:
    """Factor on the learning rate: linear up over ``warmup * steps``, then linear to 0."""
    rise = max(1, round(warmup * steps))
    return min((step + 1) / rise, (steps - step) / max(1, steps - rise), 1.0)


def _stream(
    data: Encoded, batch_size: int, seed: int, done: int, steps: int
) -> Iterator[tuple[int, Batch]]:
    """(step, batch) from step ``done`` on; the order depends only on the seed.

    Batches are full, what is left over waits for the next epoch's order; data smaller than a batch
    are one batch.
    """
    per_epoch = max(1, len(data) // batch_size)
    batches: list[Batch] = []
    for step in range(done, steps):
        epoch, place = divmod(step, per_epoch)
        if place == 0 or not batches:
            batches = data.batches(
                batch_size, shuffle_seed=1_000_003 * seed + epoch, drop_last=len(data) >= batch_size
            )
        yield step, batches[place]

"""Fit a model on batches drawn step by step: Adam, warm-up, linear decay, resumable, a trajectory.

Batches depend on the step alone, so that a fit that was stopped goes on with the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from mechprobe.errors import InputError
from mechprobe.runs.crew import ALONE, gather
from mechprobe.training.fit import StateStore

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class FreshSettings:
    """How a model is fitted on fresh batches.

    Args:
        steps: optimiser steps.
        lr: peak learning rate of Adam.
        warmup_steps: steps in which the learning rate rises.
        decay: whether it then falls linearly to 0, else it stays.

    Raises:
        InputError: a number that cannot work.
    """

    steps: int
    lr: float = 2e-3
    warmup_steps: int = 100
    decay: bool = True

    def __post_init__(self) -> None:
        if self.steps < 1 or self.warmup_steps < 0 or not self.lr > 0:
            raise InputError(
                f"{self.steps} steps, {self.warmup_steps} of warm-up, learning rate {self.lr}; "
                "expected 1 or more, 0 or more, and above 0"
            )

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        rise = max(1, min(self.warmup_steps, self.steps // 2))
        fall = (self.steps - step) / max(1, self.steps - rise) if self.decay else 1.0
        return self.lr * min((step + 1) / rise, fall, 1.0)


def fit_fresh(
    model: M,
    loss_at: Callable[[M, int], Tensor],
    settings: FreshSettings,
    *,
    trajectory: Collection[int] = (),
    on_checkpoint: Callable[[int, M], None] | None = None,
    on_step: Callable[[int, float], None] | None = None,
    store: StateStore | None = None,
    save_every: int = 500,
    shared: bool = False,
) -> None:
    """Fit the weights that take a gradient, in place.

    Args:
        loss_at: loss of the model at a step counted from 0; its batch must depend on the step only.
        trajectory: steps after which ``on_checkpoint(step, model)`` is called; 0 is the fresh
            model.
        on_step: called with (step, loss) after each step.
        store: where weights, optimiser and step are saved every ``save_every`` steps and at each
            trajectory point, and resumed from.
        shared: whether ``loss_at`` gives a process's part of the loss (``runs.crew.crew``), so that
            several can fit together.

    Raises:
        InputError: a trajectory point outside 0 .. steps.
        FloatingPointError: when the loss is not finite; the step is named.
    """
    if outside := [point for point in trajectory if not 0 <= point <= settings.steps]:
        raise InputError(
            f"trajectory point {outside[0]} is no step of this fit; give 0 to {settings.steps}"
        )
    weights = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(weights, lr=settings.lr, fused=True)
    done = 0
    if store is not None and (state := store.load()) is not None:
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        done = int(state["step"])
    elif 0 in trajectory and on_checkpoint is not None:
        on_checkpoint(0, model)
    team = gather() if shared else ALONE
    model.train()
    for step in range(done, settings.steps):
        for group in optimiser.param_groups:
            group["lr"] = settings.rate(step)
        with team.at_work():
            loss = loss_at(model, step)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        team.sum_gradients(weights)
        optimiser.step()
        if on_step is not None or step % 100 == 0:
            value = team.total(loss)
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"training loss is {value} at step {step}: lower the learning rate "
                    f"({settings.lr})"
                )
            if on_step is not None:
                on_step(step + 1, value)
        at_point = step + 1 in trajectory
        if at_point and on_checkpoint is not None:
            on_checkpoint(step + 1, model)
        if store is not None and (at_point or (step + 1) % save_every == 0):
            store.save({
                "step": step + 1, "model": model.state_dict(), "optimiser": optimiser.state_dict(),
            })
    model.eval()

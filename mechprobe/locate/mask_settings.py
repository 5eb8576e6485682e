"""How a mask is trained: its rule, schedule and target, ours and the published ones."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from numbers import Real

from mechprobe.errors import InputError

RULES = ("held", "expected", "published")


@dataclass(frozen=True)
class MaskSettings:
    """How a mask is trained.

    The defaults are those of the rule "expected"; ``held_settings`` and ``published_settings`` give
    those of the others.

    Args:
        rule: how the sparsity is reached: "held", the expected share of closed gates is at its
            target in every step (``share_held``); "expected", a Lagrangian on the closed-form
            expected share; "published", one on the sampled gates, 1 - mean(g) (Bhaskar et al.
            2024, section 3).
        objective: "kl" from the full model, or the "task" loss on the labels (classifiers).
        steps: optimiser steps.
        accumulation: micro-batches a step, with a gate sample each.
        lr: peak learning rate on log alpha; it rises over ``lr_warmup_steps``, then falls to 0.
        lambda_lr: the same of the multipliers.
        weight_decay: of AdamW, on both.
        sparsity_warmup: share of the steps in which the target rises from 0.
        warmup_shape: the target rises linearly in t, or in log(1 - t).
        init: mean of log alpha at the start, with standard deviation ``init_sd``.

    Raises:
        InputError: a value outside these.
    """

    rule: str = "expected"
    objective: str = "kl"
    steps: int = 500
    accumulation: int = 1
    lr: float = 0.1
    lambda_lr: float = 1.0
    weight_decay: float = 0.01
    lr_warmup_steps: int = 20
    sparsity_warmup: float = 0.6
    warmup_shape: str = "linear"
    init: float = 3.0
    init_sd: float = 0.01

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise InputError(
                f"unknown rule {self.rule!r}; expected {', '.join(map(repr, RULES))}"
            )
        if self.objective not in ("kl", "task"):
            raise InputError(f"unknown objective {self.objective!r}; expected 'kl' or 'task'")
        if self.warmup_shape not in ("linear", "logarithmic"):
            raise InputError(
                f"unknown warm-up {self.warmup_shape!r}; expected 'linear' or 'logarithmic'"
            )
        if self.steps < 1 or self.accumulation < 1:
            raise InputError("a mask needs at least one step and one micro-batch a step")
        if not 0 <= self.sparsity_warmup <= 1:
            raise InputError(
                f"sparsity_warmup is a share of the steps, 0 to 1; got {self.sparsity_warmup}"
            )


def held_settings(steps: int = 250) -> MaskSettings:
    """The settings of the rule "held", which reaches a lower KL in fewer steps than the others.

    Fewer steps are larger ones, up to three times, so that log alpha can go as far.
    """
    lr = min(0.3, max(0.1, 25 / max(1, steps)))
    return MaskSettings(rule="held", steps=steps, lr=lr, lr_warmup_steps=max(1, round(steps / 25)))


def published_settings(sparsity: float) -> MaskSettings:
    """The settings of Bhaskar et al. 2024 for one target sparsity (9,300 steps at 50 %).

    Sparsity rises over 6,500 + 50 s steps, s in percent, and training goes on for 6 s more; the
    learning rate warms up for 200 steps; log alpha starts at N(10, .01); batches of 32 x 4.
    """
    s = 100 * check_sparsity(sparsity)
    rise = round(6_500 + 50 * s)
    steps = round(rise + 6 * s)
    return MaskSettings(
        rule="published", steps=steps, accumulation=4, lr_warmup_steps=200,
        sparsity_warmup=rise / steps, init=10.0,
    )


def check_sparsity(sparsity: object) -> float:
    """The sparsity as a float when it is a number inside (0, 1), else InputError."""
    if not (isinstance(sparsity, Real) and 0 < float(sparsity) < 1):
        raise InputError(
            f"sparsity {sparsity!r} is outside (0, 1); give the share of sites to close, e.g. 0.5"
        )
    return float(sparsity)


@dataclass(frozen=True)
class Member:
    """One mask of a search: its noise seed (0 or more) and its target share of closed gates.

    Raises:
        InputError: a negative seed, or a sparsity outside (0, 1).
    """

    seed: int
    sparsity: float

    def __post_init__(self) -> None:
        check_sparsity(self.sparsity)
        if self.seed < 0:
            raise InputError(f"seed {self.seed} of a mask is negative; give 0 or more")


def target_at(step: int, sparsity: float, settings: MaskSettings) -> float:
    """Target sparsity at a step: from 0, linearly in t or linearly in log(1 - t)."""
    rise = settings.sparsity_warmup * settings.steps
    share = 1.0 if rise <= 0 else min(1.0, (step + 1) / rise)
    if settings.warmup_shape == "linear":
        return share * sparsity
    return 1 - math.exp(share * math.log(1 - sparsity))


def scaled(settings: MaskSettings, steps: int) -> MaskSettings:
    """The same settings for another number of steps; the learning-rate warm-up scales along."""
    warm = max(1, round(settings.lr_warmup_steps * steps / settings.steps))
    return replace(settings, steps=steps, lr_warmup_steps=warm)

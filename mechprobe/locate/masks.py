"""Learned masks: hard concrete gates on a frozen model, trained to a target sparsity.

K members (one seed and one target each) advance together on the same batches; their parameters
never mix, so each equals its own single run. Objective per member: faithfulness to the full model
(KL of its logits) or the task's own loss, plus a Lagrangian on the sparsity.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from numbers import Real

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mechprobe.errors import InputError
from mechprobe.gates.baselines import Baseline
from mechprobe.gates.engine import Engine, engine_for
from mechprobe.gates.kernels.hard_concrete import hard_concrete as sample_all
from mechprobe.gates.reference import gated_logits
from mechprobe.locate import hard_concrete
from mechprobe.models.edits import HookedModel, forward
from mechprobe.sites import SiteGrid
from mechprobe.tasks.batches import Batch
from mechprobe.tasks.metrics import kl, label_loss
from mechprobe.training.fit import StateStore

Loss = Callable[[Tensor, Batch], Tensor]
Gradients = Callable[[Batch, Tensor, Loss], tuple[Tensor, Tensor]]

REMEMBER = 2**28  # bytes of first-layer results that a search keeps


@dataclass(frozen=True)
class MaskSettings:
    """How a mask is trained; the defaults are ours, ``published_settings`` gives the paper's.

    Args:
        rule: what the Lagrangian acts on: "expected", the closed-form expected share of closed
            gates; "published", the sampled gates, 1 - mean(g) (Bhaskar et al. 2024, section 3).
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
        if self.rule not in ("expected", "published"):
            raise InputError(f"unknown rule {self.rule!r}; expected 'expected' or 'published'")
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
    if not (isinstance(sparsity, Real) and 0 < sparsity < 1):
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


def sparsity_penalty(
    closed: Float[Tensor, "k"], target: Float[Tensor, "k"], multipliers: Float[Tensor, "k 2"]
) -> Float[Tensor, "k"]:
    """Lagrangian lambda1 (t - s) + lambda2 (t - s)^2 per member."""
    gap = target - closed
    return multipliers[:, 0] * gap + multipliers[:, 1] * gap**2


class MaskTrainer:
    """State of K masks in training: log alpha [k, site], multipliers [k, 2], optimisers, step.

    The multipliers climb (gradient ascent by AdamW at ``lambda_lr``), log alpha descends.
    """

    def __init__(
        self, members: Sequence[Member], n_sites: int, settings: MaskSettings,
        device: torch.device | str = "cpu", about: Mapping[str, str] | None = None,
    ) -> None:
        if not members:
            raise InputError("mask search needs at least one member (a seed and a sparsity)")
        self.members, self.settings, self.step_number = list(members), settings, 0
        self.about = dict(about or {})
        starts = []
        for member in self.members:
            rng = np.random.Generator(np.random.Philox(key=[member.seed, 0x696E6974]))
            starts.append(settings.init + settings.init_sd * rng.standard_normal(n_sites))
        start = torch.from_numpy(np.stack(starts)).float().to(device)
        self.log_alpha = nn.Parameter(start)
        self.multipliers = nn.Parameter(torch.zeros(len(self.members), 2, device=device))
        self.descent = torch.optim.AdamW(
            [self.log_alpha], lr=settings.lr, weight_decay=settings.weight_decay
        )
        self.ascent = torch.optim.AdamW(
            [self.multipliers], lr=settings.lambda_lr, weight_decay=settings.weight_decay,
            maximize=True,
        )

    def gates(self, micro: int = 0) -> Float[Tensor, "k site"]:
        """Fresh samples for this step; noise depends only on (member seed, step, micro-batch)."""
        return hard_concrete.sample(self.log_alpha, self._noise(micro))

    def _noise(self, micro: int) -> Tensor:
        draw = self.step_number * self.settings.accumulation + micro
        n_sites = self.log_alpha.shape[1]
        u = torch.stack([hard_concrete.uniform_noise(m.seed, draw, n_sites) for m in self.members])
        return u.to(self.log_alpha.device)

    def draw(self, micro: int = 0) -> tuple[Float[Tensor, "k site"], Float[Tensor, "k"]]:
        """``gates`` and their ``closed_share`` in one operator for all members and sites."""
        gates, closed = sample_all(
            self.log_alpha, self._noise(micro), left=hard_concrete.LEFT,
            right=hard_concrete.RIGHT, temperature=hard_concrete.TEMPERATURE,
            eps=hard_concrete.EPS,
        )
        return gates, 1 - gates.mean(-1) if self.settings.rule == "published" else closed

    def closed_share(self, gates: Float[Tensor, "k site"]) -> Float[Tensor, "k"]:
        """The sparsity the Lagrangian sees: of the sample (published) or expected (ours)."""
        if self.settings.rule == "published":
            return 1 - gates.mean(-1)
        return hard_concrete.probability_closed(self.log_alpha).mean(-1)

    def targets(self) -> Float[Tensor, "k"]:
        """Each member's target sparsity at this step."""
        now = [target_at(self.step_number, m.sparsity, self.settings) for m in self.members]
        return torch.tensor(now, device=self.log_alpha.device)

    def update(self) -> None:
        """One optimiser step on the gradients at hand, with the learning-rate schedule."""
        s = self.settings
        warm = min(1.0, (self.step_number + 1) / max(1, s.lr_warmup_steps))
        left = (s.steps - self.step_number) / max(1, s.steps - s.lr_warmup_steps)
        factor = min(warm, left, 1.0)
        self.descent.param_groups[0]["lr"] = s.lr * factor
        self.ascent.param_groups[0]["lr"] = s.lambda_lr * factor
        self.descent.step()
        self.ascent.step()
        self.descent.zero_grad(set_to_none=True)
        self.ascent.zero_grad(set_to_none=True)
        self.step_number += 1

    def _made_by(self) -> dict:
        """What decides the numbers of a search, as plain values."""
        return {
            "seeds": [m.seed for m in self.members],
            "sparsities": [float(m.sparsity) for m in self.members],
            "sites": self.log_alpha.shape[1],
            **self.about,
            **asdict(self.settings),
        }

    def state(self) -> dict:
        """Everything a resumed run needs to go on with identical numbers."""
        return {
            "made_by": self._made_by(),
            "step": self.step_number,
            "log_alpha": self.log_alpha.detach(),
            "multipliers": self.multipliers.detach(),
            "descent": self.descent.state_dict(),
            "ascent": self.ascent.state_dict(),
        }

    def restore(self, state: dict) -> None:
        """Continue from ``state()``; raises InputError when another search wrote it."""
        mine, saved = self._made_by(), state["made_by"]
        if changed := [name for name in mine if saved.get(name) != mine[name]]:
            raise InputError(
                f"the saved mask search has {changed[0]} {saved.get(changed[0])}, this one "
                f"{mine[changed[0]]}; go on with the same settings, or delete the saved state"
            )
        self.step_number = int(state["step"])
        with torch.no_grad():
            self.log_alpha.copy_(state["log_alpha"])
            self.multipliers.copy_(state["multipliers"])
        self.descent.load_state_dict(state["descent"])
        self.ascent.load_state_dict(state["ascent"])


def train_masks(
    model: HookedModel,
    batches: Sequence[Batch],
    members: Sequence[Member],
    grid: SiteGrid,
    baseline: Baseline,
    settings: MaskSettings | None = None,
    *,
    order_seed: int = 0,
    full_logits: Sequence[Tensor] | None = None,
    chunk: int | None = None,
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
        full_logits: the full model's logits of each batch, when already known.
        chunk: masks run stacked at once (None: by the number of tokens); the result does not
            depend on it beyond rounding.
        store: where the state is saved every ``save_every`` steps, and resumed from.
        on_step: called after each step with per-member lists "loss", "closed" and "target".
        loss: mean loss of a batch's logits, instead of the settings' objective.
        gradients: gives each member's loss [k] and its gate gradients [k, site] from a batch, gates
            [k, site] and a loss, instead of the engine.

    Raises:
        InputError: no data or members; full logits of other batches; the objective "task" with a
            language model; a saved state of another search.
        FloatingPointError: a loss that is not finite (the step and member are named).
    """
    settings = settings or MaskSettings()
    if not batches:
        raise InputError("mask search needs at least one batch of data")
    if full_logits is not None and len(full_logits) != len(batches):
        raise InputError(
            f"{len(full_logits)} full-model logits for {len(batches)} batches; give one a batch"
        )
    device = next(model.parameters()).device
    about = {} if store is None else search_inputs(model, batches, baseline, order_seed)
    trainer = MaskTrainer(members, len(grid), settings, device, about)
    if store is not None and (state := store.load()) is not None:
        trainer.restore(state)
    if full_logits is None:
        needed = loss is None and gradients is None and settings.objective == "kl"
        full_logits = full_model_logits(model, batches) if needed else []
    gradients = gradients or gradients_for(model, grid, baseline, chunk)
    with frozen(model):
        while trainer.step_number < settings.steps:
            report = _one_step(batches, full_logits, trainer, order_seed, loss, gradients)
            if on_step is not None:
                on_step(trainer.step_number, report)
            if store is not None and trainer.step_number % save_every == 0:
                store.save(trainer.state())
    return trainer.log_alpha.detach().clone()


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
    order_seed: int, loss: Loss | None, gradients: Gradients,
) -> dict[str, list[float]]:
    """Forward and backward of all members over the step's micro-batches, then one update."""
    settings, k = trainer.settings, len(trainer.members)
    losses = torch.zeros(k)
    shares = torch.zeros(k)
    target = trainer.targets()
    for micro in range(settings.accumulation):
        which = batch_at(
            trainer.step_number * settings.accumulation + micro, len(batches), order_seed
        )
        batch = batches[which]
        gates, closed = trainer.draw(micro)
        full = full_logits[which] if full_logits else None
        own = loss or partial(mask_loss, full=full)
        values, slopes = gradients(batch, gates.detach(), own)
        losses += values.cpu() / settings.accumulation
        penalty = sparsity_penalty(closed, target, trainer.multipliers)
        torch.autograd.backward(
            [gates, penalty],
            [slopes / settings.accumulation, torch.full_like(penalty, 1 / settings.accumulation)],
        )
        shares += closed.detach().cpu() / settings.accumulation
    if not bool(torch.isfinite(losses).all()):
        bad = [m for m, loss in zip(trainer.members, losses, strict=True) if not loss.isfinite()]
        raise FloatingPointError(
            f"mask loss is not finite at step {trainer.step_number} for {bad}: "
            "check the model's logits on this data for NaN or inf"
        )
    trainer.update()
    return {"loss": losses.tolist(), "closed": shares.tolist(), "target": target.tolist()}


def gradients_for(
    model: HookedModel, grid: SiteGrid, baseline: Baseline, chunk: int | None = None
) -> Gradients:
    """Each member's loss and gate gradients by the engine, or by hooks where it does not run."""
    engine = engine_for(model, grid, baseline, remember=REMEMBER)
    if engine is None:
        return partial(_by_reference, model, grid, baseline, chunk)
    return partial(_by_engine, engine, chunk)


def _by_engine(
    engine: Engine, chunk: int | None, batch: Batch, gates: Tensor, loss: Loss
) -> tuple[Tensor, Tensor]:
    """Each member's loss and its gradient; none is asked for where a gate is clamped to 0 or 1."""
    return engine.gradients(batch, gates, loss, wanted=(gates > 0) & (gates < 1), at_once=chunk)


def _by_reference(
    model: HookedModel, grid: SiteGrid, baseline: Baseline, chunk: int | None, batch: Batch,
    gates: Tensor, loss: Loss,
) -> tuple[Tensor, Tensor]:
    """The same by hooks and autograd, for what the engine does not run."""
    leaf = gates.requires_grad_(True)
    size = chunk or max(1, 8192 // max(1, batch.tokens.numel()))
    losses = []
    for part in leaf.split(size):
        logits = gated_logits(model, batch, part, grid, baseline, chunk=size)
        values = torch.stack([loss(row, batch) for row in logits])
        values.sum().backward()
        losses.append(values.detach())
    assert leaf.grad is not None
    return torch.cat(losses), leaf.grad


def mask_loss(
    logits: Float[Tensor, "batch ..."], batch: Batch, full: Float[Tensor, "batch ..."] | None
) -> Float[Tensor, ""]:
    """Mean KL from the full model's logits, or mean label loss when these are None.

    A language model's KL is the mean over real tokens. Raises InputError for the label loss of a
    language model.
    """
    if full is not None:
        divergence = kl(full, logits)
        real = batch.attention_mask.bool().to(divergence.device)
        return (divergence[real] if divergence.dim() == 2 else divergence).mean()
    if logits.dim() != 2:
        raise InputError('the objective "task" needs a classifier; use "kl" with a language model')
    return label_loss(logits, batch.labels.to(logits.device)).mean()


def batch_at(draw: int, n_batches: int, seed: int) -> int:
    """Which batch the draw-th micro-batch uses: a new seeded permutation every epoch."""
    epoch, place = divmod(draw, n_batches)
    return int(np.random.default_rng([seed, epoch]).permutation(n_batches)[place])


def full_model_logits(model: HookedModel, batches: Sequence[Batch]) -> list[Tensor]:
    """The untouched model's logits of each batch, computed once, without gradient."""
    with torch.no_grad():
        return [forward(model, batch) for batch in batches]


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


def scaled(settings: MaskSettings, steps: int) -> MaskSettings:
    """The same settings for another number of steps; the learning-rate warm-up scales along."""
    warm = max(1, round(settings.lr_warmup_steps * steps / settings.steps))
    return replace(settings, steps=steps, lr_warmup_steps=warm)

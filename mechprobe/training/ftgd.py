"""Fine-tuning via gradient differences: one task's learning signal, put into few weights.

Source: Weber, Jumelet, Bruni and Hupkes 2024, Interpretability of Language Models via Task Spaces,
arXiv 2406.06441. The step is theta <- theta - lr * m * (grad L(x+) - grad L(x-)), where m keeps the
largest entries of the difference. The paper leaves open what is an option here; the hinge, the mask
on an optimiser's update and the recomputed mask are ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.models.edits import HookedModel
from mechprobe.tasks.pair_tokens import EncodedPairs, SentenceBatch
from mechprobe.training.deltas import Delta, ResidentWeights
from mechprobe.training.gradient_sets import top_places
from mechprobe.training.pair_scores import batch_sums, pair_margins

OBJECTIVES = ("difference", "acceptable")
MASKS = ("gradient", "random")
OPTIMISERS = ("sgd", "adam")


@dataclass(frozen=True)
class TuneSettings:
    """How a model is tuned on one task.

    Args:
        objective: "difference": L(x+) - L(x-), L the negative log-probability; "acceptable": L(x+)
            alone, ordinary fine-tuning.
        hinge: a pair stops counting when log P(x+) - log P(x-) exceeds this margin (nats); None:
            never, which leaves the difference without a lower bound.
        top: share of the weights that may change, those with the largest gradient; 1 = all.
        mask: "gradient", or "random" weights, as many, as a baseline.
        remask: choose the weights again at every step instead of once; a random mask stays.
        optimiser: "sgd", or "adam", whose update is masked, not its gradient.
        lr: learning rate.
        steps: steps.
        batch: pairs a step; 0 = all.
        per_token: mean log-probability of a token in place of the sum over the sentence.
        exclude: parameters whose name holds one of these words stay ("embed", "pos_embed", ...).
        stop: share of right pairs of the validation part at which tuning stops; None: never.

    Raises:
        InputError: a value that cannot work.
    """

    objective: str = "difference"
    hinge: float | None = 2.0
    top: float = 0.01
    mask: str = "gradient"
    remask: bool = False
    optimiser: str = "sgd"
    lr: float = 0.05
    steps: int = 20
    batch: int = 0
    per_token: bool = False
    exclude: tuple[str, ...] = ()
    stop: float | None = None

    def __post_init__(self) -> None:
        for name, value, known in (
            ("objective", self.objective, OBJECTIVES), ("mask", self.mask, MASKS),
            ("optimiser", self.optimiser, OPTIMISERS),
        ):
            if value not in known:
                raise InputError(f"{name} {value!r} is unknown; one of {', '.join(known)}")
        if not 0 < self.top <= 1:
            raise InputError(f"top is a share of the weights, above 0 to 1; got {self.top}")
        if self.steps < 0 or self.batch < 0 or not self.lr > 0:
            raise InputError(
                f"{self.steps} steps of {self.batch} pairs at learning rate {self.lr}; give 0 or "
                "more, 0 or more, and above 0"
            )
        if self.hinge is not None and not math.isfinite(self.hinge):
            raise InputError(f"the hinge is a margin in nats or None; got {self.hinge}")
        if self.stop is not None and not 0 < self.stop <= 1:
            raise InputError(f"stop is an accuracy above 0, at most 1, or None; got {self.stop}")
        if self.hinge is not None and self.objective == "acceptable":
            object.__setattr__(self, "hinge", None)  # a margin needs both sentences


@dataclass(frozen=True)
class Tuned:
    """A tuned task: what changed, and how tuning went.

    Attributes:
        delta: the changed weights.
        losses: loss before each step, in nats.
        accuracy: share of right validation pairs before each step and at the end; empty without.
    """

    delta: Delta
    losses: tuple[float, ...]
    accuracy: tuple[float, ...]


def pair_batch(
    pairs: EncodedPairs, chosen: Int[np.ndarray, " pair"], settings: TuneSettings
) -> SentenceBatch:
    """Both sentences of some pairs in one batch, pair by pair.

    What both begin with cancels in a difference of sums, so only the rest is scored there.
    """
    rows = np.stack([2 * chosen, 2 * chosen + 1], axis=1).reshape(-1)
    return pairs.batch(rows, whole=settings.per_token or settings.objective == "acceptable")


def pair_loss(
    model: HookedModel, batch: SentenceBatch, settings: TuneSettings
) -> tuple[Float[Tensor, ""], Float[Tensor, " pair"]]:
    """The objective of a batch of pairs, and log P(x+) - log P(x-) of each.

    L(x+) - L(x-) has the gradient grad L(x+) - grad L(x-), so that one backward pass serves both.
    """
    sums = batch_sums(model, batch)
    if settings.per_token:
        sums = sums / batch.scored.sum(1)
    good, bad = sums[0::2], sums[1::2]
    margin = good - bad
    if settings.objective == "acceptable":
        return -good.mean(), margin.detach()
    if settings.hinge is None:
        return -margin.mean(), margin.detach()
    return (settings.hinge - margin).clamp(min=0).mean(), margin.detach()


def tune(
    model: HookedModel,
    weights: ResidentWeights,
    pairs: EncodedPairs,
    settings: TuneSettings,
    *,
    seed: int = 0,
    validation: EncodedPairs | None = None,
) -> Tuned:
    """Tune the resident model on one task's pairs; its weights are as before when it returns.

    Args:
        model: the decoder whose weights ``weights`` holds.
        pairs: the tuning pairs of the task.
        seed: of the order of the pairs and of a random mask.
        validation: pairs whose accuracy is followed (needed for ``settings.stop``).

    Raises:
        InputError: no pairs, or a stop without validation pairs.
        FloatingPointError: a loss that is not finite; the step is named.
    """
    if not len(pairs):
        raise InputError("tuning needs at least one pair; the task has none")
    if settings.stop is not None and validation is None:
        raise InputError("stop needs validation pairs; pass validation=, or stop=None")
    rng = np.random.default_rng(seed)
    state = _State(settings, weights, rng)
    losses, accuracy = [], []
    with weights.restored() as base:
        for step in range(settings.steps):
            if validation is not None:
                accuracy.append(_accuracy(model, validation))
                if settings.stop is not None and accuracy[-1] >= settings.stop:
                    break
            losses.append(_gradient(model, weights, pairs, settings, rng))
            if not math.isfinite(losses[-1]):
                raise FloatingPointError(
                    f"the loss is {losses[-1]} at tuning step {step}: lower the learning rate "
                    f"({settings.lr})"
                )
            state.step(weights)
        else:
            if validation is not None:
                accuracy.append(_accuracy(model, validation))
        delta = weights.delta_from(base)
    return Tuned(delta, tuple(losses), tuple(accuracy))


def ordinary(settings: TuneSettings) -> TuneSettings:
    """The baseline: fine-tuning of all weights on the acceptable sentences only."""
    return replace(settings, objective="acceptable", hinge=None, top=1.0, mask="gradient")


class _State:
    """Which weights move, and the optimiser's moments."""

    def __init__(
        self, settings: TuneSettings, weights: ResidentWeights, rng: np.random.Generator
    ) -> None:
        self.settings, self.places = settings, weights.movable(settings.exclude)
        self.at: Tensor | slice | None = None
        if settings.mask == "random":
            self.at = _random_places(settings.top, len(weights), self.places, rng)
        self.first = torch.zeros_like(weights.flat) if settings.optimiser == "adam" else None
        self.second = torch.zeros_like(weights.flat) if settings.optimiser == "adam" else None
        self.count = 0

    def step(self, weights: ResidentWeights) -> None:
        """Move the chosen weights against the gradient that stands in ``weights.grad``."""
        s, grad = self.settings, weights.grad
        self.count += 1
        if self.at is None or (s.remask and s.mask == "gradient"):
            chosen = top_places(grad, s.top, self.places)
            self.at = slice(None) if chosen is None else chosen
        at = self.at
        if self.first is None or self.second is None:
            weights.flat[at] -= s.lr * grad[at]
            return
        self.first.lerp_(grad, 0.1)
        self.second.lerp_(grad * grad, 0.001)
        size = (self.second[at] / (1 - 0.999**self.count)).sqrt_() + 1e-8
        weights.flat[at] -= s.lr * (self.first[at] / (1 - 0.9**self.count)) / size


def _random_places(
    share: float, n_weights: int, places: Tensor | None, rng: np.random.Generator
) -> Tensor:
    """So many of the places (all when None), drawn without order or repetition."""
    n = n_weights if places is None else len(places)
    drawn = rng.choice(n, min(n, max(1, round(share * n_weights))), replace=False)
    chosen = torch.from_numpy(np.sort(drawn))
    return chosen if places is None else places[chosen.to(places.device)]


def _gradient(
    model: HookedModel, weights: ResidentWeights, pairs: EncodedPairs, settings: TuneSettings,
    rng: np.random.Generator,
) -> float:
    """Put the gradient of a step's batch into ``weights.grad``; returns the loss."""
    chosen = np.arange(len(pairs))
    if settings.batch and settings.batch < len(pairs):
        chosen = np.sort(rng.choice(len(pairs), settings.batch, replace=False))
    weights.grad.zero_()
    batch = pair_batch(pairs, chosen, settings).to(weights.flat.device)
    loss, _ = pair_loss(model, batch, settings)
    loss.backward()
    return float(loss.detach())


def _accuracy(model: HookedModel, pairs: EncodedPairs) -> float:
    return float((pair_margins(model, pairs) > 0).mean())

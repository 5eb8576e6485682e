"""Adam for all probes at once, with a learning rate and a stop for each."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.probes.activations import WordVectors
from mechprobe.probes.objective import Objective, Side


@dataclass(frozen=True)
class ProbeSettings:
    """How a bank is trained; the defaults are those of Hewitt and Manning 2019.

    Args:
        lr: learning rate of Adam at the start.
        batch_size: sentences a step.
        epochs: at most this many passes over the training sentences.
        patience: a probe stops after this many epochs in a row without a better held-out loss.
        plateau: factor on a probe's learning rate after each epoch without a better loss.
        min_gain: how much smaller a loss must be to count as better.
        weight_decay: decoupled, as in AdamW.

    Raises:
        InputError: a number that cannot work.
    """

    lr: float = 1e-3
    batch_size: int = 20
    epochs: int = 40
    patience: int = 5
    plateau: float = 0.1
    min_gain: float = 1e-4
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if min(self.batch_size, self.epochs, self.patience) < 1:
            raise InputError("batch_size, epochs and patience must each be at least 1")
        if self.lr <= 0 or not 0 < self.plateau <= 1 or self.min_gain < 0 or self.weight_decay < 0:
            raise InputError(
                f"lr {self.lr} must be above 0, plateau {self.plateau} in (0, 1], min_gain "
                f"{self.min_gain} and weight_decay {self.weight_decay} not below 0"
            )


class Fitting:
    """Parameters, Adam's moments and the stopping of every probe.

    ``live``, the moments and ``lr`` hold the sites still in training, ``active`` says which;
    ``best``, ``best_loss`` and ``epochs`` hold all.
    """

    def __init__(
        self,
        objective: Objective,
        data: WordVectors,
        settings: ProbeSettings,
        seed: int,
        device: torch.device,
    ) -> None:
        n_sites, dtype = len(data.streams), data.storage.dtype
        generator = torch.Generator().manual_seed(seed)
        first = objective.start(data.storage.shape[-1], generator)
        self.objective, self.settings, self.device = objective, settings, device
        self.streams = data.streams
        self.live = {
            name: value.to(device, dtype).expand(n_sites, *value.shape).clone().requires_grad_()
            for name, value in first.items()
        }
        self.mean = {name: torch.zeros_like(value) for name, value in self.live.items()}
        self.square = {name: torch.zeros_like(value) for name, value in self.live.items()}
        self.best = {name: value.detach().clone() for name, value in self.live.items()}
        self.lr = torch.full((n_sites,), settings.lr, dtype=torch.float64)
        self.active = torch.arange(n_sites)
        self.best_loss = torch.full((n_sites,), torch.inf, dtype=torch.float64)
        self.since = torch.zeros(n_sites, dtype=torch.long)
        self.epochs = torch.zeros(n_sites, dtype=torch.long)
        self.steps = 0

    def step(self, vectors: Tensor, side: Side, targets: Tensor | None) -> None:
        """One step of Adam (Kingma and Ba 2015, algorithm 1) for every probe in training."""
        losses = self.objective.losses(self.live, vectors, side, targets)
        losses = losses / side.count(self.objective.per)
        if not bool(losses.isfinite().all()):
            bad = self.streams[int(self.active[~losses.isfinite().cpu()][0])]
            raise FloatingPointError(
                f"the loss of the {self.objective.name} probe at {bad} is not finite after "
                f"{self.steps} steps; lower lr ({self.settings.lr}) or look at its vectors"
            )
        names = list(self.live)
        grads = torch.autograd.grad(losses.sum(), [self.live[name] for name in names])
        self.steps += 1
        first, second = 1 - 0.9**self.steps, 1 - 0.999**self.steps
        with torch.no_grad():
            for name, grad in zip(names, grads, strict=True):
                self._move(name, grad, first, second)

    def _move(self, name: str, grad: Tensor, first: float, second: float) -> None:
        value, mean, square = self.live[name], self.mean[name], self.square[name]
        lr = self.lr.to(value).view(-1, *[1] * (value.dim() - 1))
        if self.settings.weight_decay:
            value.mul_(1 - lr * self.settings.weight_decay)
        mean.lerp_(grad, 0.1)
        square.mul_(0.999).addcmul_(grad, grad, value=0.001)
        scale = (square / second).sqrt_().add_(1e-8)
        value.sub_(mean.div(scale).mul_(lr / first))

    def judge(self, held_out: Float[Tensor, " active"], epoch: int) -> None:
        """Keep what became better, slow down what did not, and let go of what stopped."""
        better = held_out < self.best_loss[self.active] - self.settings.min_gain
        self.epochs[self.active] = epoch
        sites = self.active[better]
        self.best_loss[sites] = held_out[better]
        for name, value in self.live.items():
            chosen = better.to(value.device)
            self.best[name][sites.to(value.device)] = value.detach()[chosen]
        self.lr[~better] *= self.settings.plateau
        self.since = torch.where(better, 0, self.since + 1)
        keep = self.since < self.settings.patience
        if keep.all():
            return
        self.active, self.lr, self.since = self.active[keep], self.lr[keep], self.since[keep]
        for store in (self.live, self.mean, self.square):
            for name, value in store.items():
                kept = value.detach()[keep.to(value.device)]
                store[name] = kept.requires_grad_(store is self.live)

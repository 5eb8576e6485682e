"""The state of K masks in training, and one optimiser step of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mechprobe.errors import InputError
from mechprobe.gates.kernels.hard_concrete import hard_concrete as sample_all
from mechprobe.locate import hard_concrete
from mechprobe.locate.mask_settings import MaskSettings, Member, target_at


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

"""The state of K masks in training, and one optimiser step of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mechprobe.errors import InputError
from mechprobe.gates.kernels.hard_concrete import hard_concrete as sample_all
from mechprobe.locate import hard_concrete
from mechprobe.locate.mask_settings import MaskSettings, Member, target_at
from mechprobe.locate.row_adamw import RowAdamW
from mechprobe.locate.share_held import along_the_share, held_at


def sparsity_penalty(
    closed: Float[Tensor, "k"], target: Float[Tensor, "k"], multipliers: Float[Tensor, "k 2"]
) -> Float[Tensor, "k"]:
    """Lagrangian lambda1 (t - s) + lambda2 (t - s)^2 per member."""
    gap = target - closed
    return multipliers[:, 0] * gap + multipliers[:, 1] * gap**2


class MaskTrainer:
    """State of K masks in training: log alpha [k, site], multipliers [k, 2], optimisers, step.

    Log alpha descends. With the rules "expected" and "published" the multipliers climb (gradient
    ascent by AdamW at ``lambda_lr``); with "held" they stay 0. All members step together; those
    that are done leave, and their rows stay as they are (NaN where a member diverged).

    Args:
        settings: of all members, or one for each; they differ in nothing that a step shares.

    Raises:
        InputError: no members, or settings that cannot run together.
    """

    def __init__(
        self, members: Sequence[Member], n_sites: int,
        settings: MaskSettings | Sequence[MaskSettings], device: torch.device | str = "cpu",
        about: Mapping[str, str] | None = None,
    ) -> None:
        if not members:
            raise InputError("mask search needs at least one member (a seed and a sparsity)")
        self.members, self.step_number, self.about = list(members), 0, dict(about or {})
        self.each = _one_each(settings, len(members))
        self.settings = self.each[0]
        starts = []
        for member, own in zip(self.members, self.each, strict=True):
            rng = np.random.Generator(np.random.Philox(key=[member.seed, 0x696E6974]))
            starts.append(own.init + own.init_sd * rng.standard_normal(n_sites))
        start = torch.from_numpy(np.stack(starts)).float().to(device)
        self.log_alpha = nn.Parameter(start)
        self.multipliers = nn.Parameter(torch.zeros(len(self.members), 2, device=device))
        decay = self.settings.weight_decay
        self.descent = RowAdamW(self.log_alpha, decay)
        self.ascent = RowAdamW(self.multipliers, decay, maximize=True)
        self.active = list(range(len(self.members)))

    def hold(self) -> None:
        """With the rule "held", move every active member's log alpha to its target at this step."""
        if self.settings.rule == "held":
            with torch.no_grad():
                self.log_alpha[self.active] = held_at(
                    self.log_alpha[self.active], self.targets()
                )

    def draw(self, micro: int = 0) -> tuple[Float[Tensor, "row site"], Float[Tensor, " row"]]:
        """Fresh gates of the active members and the closed shares that the rule looks at.

        Noise depends only on (member seed, step, micro-batch).
        """
        gates, closed = sample_all(
            self.log_alpha[self.active], self._noise(micro), left=hard_concrete.LEFT,
            right=hard_concrete.RIGHT, temperature=hard_concrete.TEMPERATURE,
            eps=hard_concrete.EPS,
        )
        return gates, 1 - gates.mean(-1) if self.settings.rule == "published" else closed

    def backward(
        self, gates: Float[Tensor, "row site"], closed: Float[Tensor, " row"],
        slopes: Float[Tensor, "row site"],
    ) -> None:
        """Add a micro-batch's gradient, from what ``draw`` gave and the loss's d / d gates."""
        share = 1 / self.settings.accumulation
        if self.settings.rule == "held":
            gates.backward(slopes * share)
            return
        penalty = sparsity_penalty(closed, self.targets(), self.multipliers[self.active])
        torch.autograd.backward(
            [gates, penalty], [slopes * share, torch.full_like(penalty, share)]
        )

    def update(self) -> None:
        """One optimiser step on the gradients at hand; members whose steps are done leave."""
        rows = torch.tensor(self.active, dtype=torch.long, device=self.log_alpha.device)
        rates = torch.tensor([self._factor(k) for k in self.active], device=rows.device)
        own = [self.each[k] for k in self.active]
        self.step_number += 1
        grad = _gradient(self.log_alpha)
        if self.settings.rule == "held":
            grad = along_the_share(self.log_alpha.detach(), grad)
        else:
            fast = rates * rates.new_tensor([s.lambda_lr for s in own])
            self.ascent.update(
                self.multipliers, _gradient(self.multipliers), self.step_number, fast, rows
            )
        fast = rates * rates.new_tensor([s.lr for s in own])
        self.descent.update(self.log_alpha, grad, self.step_number, fast, rows)
        self.log_alpha.grad = self.multipliers.grad = None
        self.active = [k for k in self.active if self.step_number < self.each[k].steps]

    def drop(self, places: Sequence[int]) -> None:
        """Members at these places among the active ones diverged: they leave, with rows of NaN."""
        gone = {self.active[place] for place in places}
        with torch.no_grad():
            self.log_alpha[sorted(gone)] = torch.nan
        self.active = [k for k in self.active if k not in gone]

    def targets(self) -> Float[Tensor, " row"]:
        """Each active member's target sparsity at this step."""
        now = [
            target_at(self.step_number, self.members[k].sparsity, self.each[k])
            for k in self.active
        ]
        return torch.tensor(now, device=self.log_alpha.device)

    def _noise(self, micro: int) -> Tensor:
        draw = self.step_number * self.settings.accumulation + micro
        n_sites = self.log_alpha.shape[1]
        seeds = [self.members[k].seed for k in self.active]
        u = torch.stack([hard_concrete.uniform_noise(seed, draw, n_sites) for seed in seeds])
        return u.to(self.log_alpha.device)

    def _factor(self, k: int) -> float:
        """Share of the peak learning rates at this step: up over the warm-up, then down to 0."""
        own = self.each[k]
        warm = min(1.0, (self.step_number + 1) / max(1, own.lr_warmup_steps))
        left = (own.steps - self.step_number) / max(1, own.steps - own.lr_warmup_steps)
        return min(warm, left, 1.0)

    def _made_by(self) -> dict:
        """What decides the numbers of a search, as plain values."""
        return {
            "seeds": [m.seed for m in self.members],
            "sparsities": [float(m.sparsity) for m in self.members],
            "sites": self.log_alpha.shape[1],
            **self.about,
            **_written(self.each),
        }

    def state(self) -> dict:
        """Everything a resumed run needs to go on with identical numbers."""
        return {
            "made_by": self._made_by(),
            "step": self.step_number,
            "active": self.active,
            "log_alpha": self.log_alpha.detach(),
            "multipliers": self.multipliers.detach(),
            "descent": self.descent.state(),
            "ascent": self.ascent.state(),
        }

    def restore(self, state: dict) -> None:
        """Continue from ``state()``; raises InputError when another search wrote it."""
        mine, saved = self._made_by(), state["made_by"]
        if changed := [name for name in mine if saved.get(name) != mine[name]]:
            raise InputError(
                f"the saved mask search has {changed[0]} {saved.get(changed[0])}, this one "
                f"{mine[changed[0]]}; go on with the same settings, or delete the saved state"
            )
        if "active" not in state:
            raise InputError(
                "the saved mask search is of an older version of mechprobe; delete the saved state"
            )
        self.step_number, self.active = int(state["step"]), list(state["active"])
        with torch.no_grad():
            self.log_alpha.copy_(state["log_alpha"])
            self.multipliers.copy_(state["multipliers"])
        self.descent.restore(state["descent"])
        self.ascent.restore(state["ascent"])


def _one_each(settings: MaskSettings | Sequence[MaskSettings], n: int) -> list[MaskSettings]:
    """One member's settings each, when they can step together."""
    each = [settings] * n if isinstance(settings, MaskSettings) else list(settings)
    if len(each) != n:
        raise InputError(f"{len(each)} settings for {n} members; give one for all, or one each")
    for name in ("rule", "objective", "accumulation", "weight_decay"):
        if len(found := {getattr(own, name) for own in each}) > 1:
            raise InputError(
                f"members of one search share their {name}, here {sorted(found)}; search apart"
            )
    return each


def _written(each: Sequence[MaskSettings]) -> dict:
    """Settings as plain values, one a member where they differ."""
    out = {}
    for field in fields(MaskSettings):
        values = [getattr(own, field.name) for own in each]
        out[field.name] = values[0] if len(set(values)) == 1 else values
    return out


def _gradient(values: nn.Parameter) -> Tensor:
    return torch.zeros_like(values) if values.grad is None else values.grad

"""AdamW on a matrix whose rows are separate runs, each with its own rate, which may stop."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

BETAS = (0.9, 0.999)
EPS = 1e-8


class RowAdamW:
    """AdamW (Loshchilov, Hutter 2019, algorithm 2), one run a row; rows never mix.

    Args:
        like: the values to be learned, [k, ...].
        weight_decay: decoupled, times the learning rate.
        maximize: climb instead of descending.
    """

    def __init__(
        self, like: Float[Tensor, "k n"], weight_decay: float, *, maximize: bool = False
    ) -> None:
        self.weight_decay, self.sign = weight_decay, 1.0 if maximize else -1.0
        self.first, self.second = torch.zeros_like(like), torch.zeros_like(like)

    @torch.no_grad()
    def update(
        self, values: Float[Tensor, "k n"], grad: Float[Tensor, "k n"], step: int,
        rates: Float[Tensor, " row"], rows: Int[Tensor, " row"],
    ) -> None:
        """Move these rows of the values, in place; the others stay.

        Args:
            step: how many updates these rows have had, this one included.
            rates: learning rate of each row.
        """
        g, rate = grad[rows], rates[:, None]
        self.first[rows] = BETAS[0] * self.first[rows] + (1 - BETAS[0]) * g
        self.second[rows] = BETAS[1] * self.second[rows] + (1 - BETAS[1]) * g * g
        mean = self.first[rows] / (1 - BETAS[0] ** step)
        spread = (self.second[rows] / (1 - BETAS[1] ** step)).sqrt() + EPS
        values[rows] = values[rows] * (1 - rate * self.weight_decay) + self.sign * rate * (
            mean / spread
        )

    def state(self) -> dict:
        """What a resumed run needs."""
        return {"first": self.first, "second": self.second}

    def restore(self, state: dict) -> None:
        """Go on from ``state()``."""
        self.first.copy_(state["first"])
        self.second.copy_(state["second"])

"""What a kind of probe is: its parameters, its loss for all sites at once, its targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechprobe.probes.activations import WordVectors

Params = Mapping[str, Tensor]
"""Parameters by name, each [site, ...]."""


@dataclass(frozen=True)
class Side:
    """How the units of a few sentences lie side by side.

    Attributes:
        place: position of each unit in [batch * word].
        real: which places hold a unit.
    """

    place: Int[Tensor, " unit"]
    real: Bool[Tensor, "batch word"]

    def count(self, per: str) -> int:
        """How many sentences, or units, there are."""
        return self.real.shape[0] if per == "sentence" else len(self.place)

    def pad(self, flat: Float[Tensor, "site unit *r"]) -> Float[Tensor, "site batch word *r"]:
        """Units of the batch, one sentence a row, 0 where a row has ended."""
        room = flat.new_zeros(flat.shape[0], self.real.numel(), *flat.shape[2:])
        return room.index_copy(1, self.place, flat).unflatten(1, self.real.shape)


@dataclass(frozen=True)
class Objective:
    """What a kind of probe is and learns.

    Attributes:
        name: for tables.
        start: from (width of the vectors, generator) the parameters of one probe, without a site
            axis.
        losses: from (parameters, vectors [site, unit, d], where the units lie, targets) the loss
            of each probe [site], summed over the sentences or units of the batch.
        targets: one array a sentence, over its units (and units): [unit] or [unit, unit]; None for
            a probe without labels.
        per: "sentence" or "unit": what the loss is a mean over.
        predict: from (parameters, vectors, where the units lie) the label of each unit
            [site, unit]; None where a probe gives no labels.
    """

    name: str
    start: Callable[[int, torch.Generator], Params]
    losses: Callable[[Params, Tensor, Side, Tensor | None], Tensor]
    targets: Callable[[WordVectors], Sequence[np.ndarray]] | None
    per: str
    predict: Callable[[Params, Tensor, Side], Tensor] | None = None

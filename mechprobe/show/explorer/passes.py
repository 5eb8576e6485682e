"""One batch of examples with any sites closed: logits, and how far every other site has moved.

The engine goes on from the kept untouched run, at the first stage with a closed site; a model that
the engine does not know is run whole each time, under hooks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.gates.baselines import Baseline
from mechprobe.gates.engine import Engine
from mechprobe.gates.engine_replay import Own, Replay
from mechprobe.gates.reference import gate_edits
from mechprobe.models.edits import HookedModel, run_with_cache
from mechprobe.sites import Site, SiteGrid
from mechprobe.tasks.batches import Batch


@dataclass(frozen=True)
class Passed:
    """One batch with a set of sites closed.

    Attributes:
        logits: [batch, ...].
        moved: squared differences of each site's own output from the untouched run's, summed over
            real tokens, examples and width; what a closed site would give counts for nothing.
    """

    logits: Float[Tensor, "batch ..."]
    moved: Float[Tensor, " site"]


class Passes(Protocol):
    """A batch that can be run with any sites closed.

    Attributes:
        size: squares of each site's own output in the untouched run, summed like ``Passed.moved``.
    """

    size: Float[Tensor, " site"]

    def run(self, gates: Float[Tensor, " site"]) -> Passed:
        """The batch with these gates, columns in the order of the grid."""
        ...


class EnginePasses:
    """A batch through the engine."""

    def __init__(self, engine: Engine, batch: Batch) -> None:
        self._batch, self._grid = batch, engine.grid
        self._replay = Replay(engine, batch)
        self.size = self._zeros()
        for site, own in self._replay.full.own.items():
            self.size[self._columns(site, own)] = self._summed(site, own.values)

    def run(self, gates: Float[Tensor, " site"]) -> Passed:
        """The batch with these gates."""
        found, moved = self._replay.run(gates), self._zeros()
        for site, own in found.own.items():
            before = self._replay.full.own[site].values
            gap = own.values - (before if len(before) == len(own.units) else before[[*own.units]])
            moved[self._columns(site, own)] = self._summed(site, gap)
        return Passed(found.logits, moved)

    def _zeros(self) -> Tensor:
        return torch.zeros(len(self._grid), dtype=torch.float64)

    def _columns(self, site: Site, own: Own) -> Tensor:
        return self._grid.layer_columns[site].start + torch.tensor(own.units, dtype=torch.long)

    def _summed(self, site: Site, values: Float[Tensor, "unit batch pos width"]) -> Tensor:
        real = self._batch.real(site.stack).to(values)
        return torch.einsum("ubpw,ubpw,bp->u", values, values, real).double().cpu()


class HookPasses:
    """A batch through hooks; slower, and for every model."""

    @torch.no_grad()
    def __init__(
        self, model: HookedModel, grid: SiteGrid, baseline: Baseline, batch: Batch
    ) -> None:
        self._model, self._grid, self._batch = model, grid, batch
        stands = baseline.values(model, batch, grid)
        self._fixed = Baseline(baseline.kind, lambda *_: stands)
        self._own: Mapping[Site, Tensor] = {}
        logits, self._own = run_with_cache(model, batch, grid.layer_columns)
        self._untouched = Passed(logits, torch.zeros(len(grid), dtype=torch.float64))
        self.size = self._summed(self._own)

    @torch.no_grad()
    def run(self, gates: Float[Tensor, " site"]) -> Passed:
        """The batch with these gates."""
        edits = self._edits(gates)
        if not edits:
            return self._untouched
        logits, cache = run_with_cache(self._model, self._batch, self._grid.layer_columns, edits)
        return Passed(logits, self._summed({s: cache[s] - own for s, own in self._own.items()}))

    def _edits(self, gates: Tensor) -> Mapping[Site, Any]:
        """Edits of the layers where something is closed; the others run untouched."""
        edits = gate_edits(self._model, gates, self._grid, self._fixed)(self._batch)
        return {
            site: edit for site, edit in edits.items()
            if not bool(gates[self._grid.layer_columns[site]].all())
        }

    def _summed(self, values: Mapping[Site, Tensor]) -> Tensor:
        out = torch.zeros(len(self._grid), dtype=torch.float64)
        for site, columns in self._grid.layer_columns.items():
            real: Int[Tensor, "b p"] = self._batch.real(site.stack)
            shape = "bphd,bp->h" if values[site].dim() == 4 else "bpd,bp->"
            squares = values[site].double().square()
            out[columns] = torch.einsum(shape, squares, real.double()).cpu()
        return out

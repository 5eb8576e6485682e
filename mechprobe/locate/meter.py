"""What localisers share that run many gate vectors: a prepared behaviour, a count of passes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from mechprobe.gates.baselines import Baseline
from mechprobe.gates.engine import Engine, engine_for
from mechprobe.locate.behaviours import AnyTask, behaviour_of
from mechprobe.locate.measure import BATCH, baseline_for, difference, grid_for, measure
from mechprobe.models.edits import HookedModel
from mechprobe.runs import progress as progress_bar
from mechprobe.sites import Site, SiteGrid, SiteName
from mechprobe.tasks.batches import Batch
from mechprobe.tasks.behaviour import Behaviour


@dataclass
class Meter:
    """Measures one behaviour of one model under gates, and counts what it cost.

    Attributes:
        sites: the chosen ones.
        batch_size: examples a batch.
        passes: model passes over each batch so far.
        show: what the progress bar says; None: no bar.
    """

    model: HookedModel
    behaviour: Behaviour
    grid: SiteGrid
    sites: list[Site]
    baseline: Baseline
    batch_size: int
    passes: int = 0
    show: str | None = None

    @cached_property
    def engine(self) -> Engine | Literal[False]:
        """What runs the gate vectors; False, after one warning: hooks."""
        return engine_for(self.model, self.grid, self.baseline) or False

    def __call__(self, gates: Bool[np.ndarray, "k site"]) -> Float[np.ndarray, "k example"]:
        """The metric of each gate vector (1 open) on each example."""
        n_batches = -(-len(self.behaviour) // self.batch_size)
        with nullcontext() if self.show is None else progress_bar(n_batches, self.show) as bar:
            values = measure(
                self.model, self.behaviour, gates.astype(np.float32), self.grid, self.baseline,
                batch_size=self.batch_size, engine=self.engine,
                on_batch=None if bar is None else bar.update,
            )
        self.passes += len(gates) + (self.baseline.kind in ("resample", "paired"))
        return values

    def closing(self, sets: Iterable[Iterable[SiteName]]) -> Float[np.ndarray, "k example"]:
        """The metric with each set of sites closed and everything else open."""
        return self(np.stack([self.grid.mask(closed=closed) for closed in sets]))

    def on(self, rows: np.ndarray) -> Meter:
        """The same on some of the examples, its passes counted anew."""
        part = self.behaviour.take(rows)
        stands = self.baseline
        if stands.kind == "paired" and part.corrupt is not None:
            stands = baseline_for("paired", self.model, part, self.grid)
        size = even_batches(len(part), self.batch_size)
        return Meter(self.model, part, self.grid, self.sites, stands, size, 0, self.show)


def meter_for(
    model: HookedModel,
    task: AnyTask,
    sites: str | Sequence[SiteName],
    baseline: str | Baseline,
    *,
    metric: str | Callable[..., Tensor] | None = None,
    n: int | None = 512,
    split: str = "dev",
    seed: int = 0,
    reference: Sequence[Batch] | Behaviour | None = None,
    batch_size: int = BATCH,
    show: str | None = None,
) -> Meter:
    """A meter for what a user gave; raises as ``behaviour_of``, ``grid_for``, ``baseline_for``."""
    grid, chosen = grid_for(model, sites)
    behaviour = behaviour_of(model, task, metric=metric, split=split, n=n, seed=seed)
    if isinstance(reference, Behaviour):
        reference = reference.batches(BATCH)
    stands = baseline_for(baseline, model, behaviour, grid, reference=reference, seed=seed)
    fitted = int(isinstance(baseline, str) and stands.kind in ("mean", "mean_position"))
    size = even_batches(len(behaviour), batch_size)
    return Meter(model, behaviour, grid, chosen, stands, size, fitted, show)


def even_batches(n: int, batch_size: int) -> int:
    """The batch size, less a little where its last batch would be a single example.

    A single example has no other to donate it a value, which the resample baseline needs.
    """
    while n % batch_size == 1 and 2 < batch_size < n:
        batch_size -= 1
    return batch_size


def single_effects(meter: Meter) -> Float[np.ndarray, "site example"]:
    """metric(all open) - metric(the site closed), of every chosen site."""
    values = meter.closing([(), *((site,) for site in meter.sites)])
    return difference(np.broadcast_to(values[0], values[1:].shape), values[1:], meter.model)

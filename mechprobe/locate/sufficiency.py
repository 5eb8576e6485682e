"""Does a model with only some sites open still show a behaviour? Asked about many sets at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.gates.baselines import Baseline
from mechprobe.gates.engine import Engine, engine_for
from mechprobe.gates.reference import gated_logits
from mechprobe.locate.behaviours import refuse_nan
from mechprobe.locate.measure import BATCH
from mechprobe.models.edits import HookedModel, forward
from mechprobe.sites import Site, SiteGrid
from mechprobe.tasks.answers import (
    accepted,
    accepted_probability,
    accuracy,
    exact_match,
    negative_kl,
    probability,
)
from mechprobe.tasks.batches import Batch
from mechprobe.tasks.behaviour import Behaviour, Metric, take_rows, trimmed

HIGHEST: dict[Metric, float] = {
    accuracy: 1.0, exact_match: 1.0, probability: 1.0, accepted: 1.0, accepted_probability: 1.0,
    negative_kl: 0.0,
}  # fmt: skip
"""The most an example can score; a set is given up once even that could not save it."""
SLACK = 1e-6
_FIRST = 8
_TOKENS_AT_ONCE = 2048
_KEPT_VALUES = 1 << 28


class BoundMet(Exception):
    """As many model passes were made as were allowed."""


class Sufficiency:
    """Answers, and remembers, which sets of sites keep a behaviour while the others are closed.

    A set keeps it when the metric's mean over ``rows`` is at least the full model's less
    ``tolerance`` (and less 1e-6 of its size, for rounding). Sets are integers, bit i for the i-th
    of ``candidates``; sites of the grid that are not candidates stay open.

    Args:
        rows: the examples that decide.
        max_forwards: passes over up to 64 examples; more raise ``BoundMet``.
        on_sets: called with the number of sets decided, for a progress bar.
    """

    def __init__(
        self,
        model: HookedModel,
        behaviour: Behaviour,
        grid: SiteGrid,
        candidates: Sequence[Site],
        baseline: Baseline,
        *,
        rows: Int[np.ndarray, " row"],
        tolerance: float = 0.0,
        max_forwards: int | None = None,
        on_sets: Callable[[int], object] | None = None,
    ) -> None:
        self.model, self.behaviour, self.grid = model, behaviour, grid
        self.columns = [grid.index(site) for site in candidates]
        self.baseline = _remembering(baseline)
        self.rows, self.on_sets = rows, on_sets
        self.max_forwards: int | None = None  # what the search is held against is always measured
        self.batches = _batches(behaviour, rows)
        self.examples = 0  # passes of one example
        self.known: dict[int, bool] = {}
        self.highest = HIGHEST.get(behaviour.metric, float("inf"))
        self.full = self._full()
        everything = (1 << len(self.columns)) - 1
        (self.open,) = self.values([everything])
        self.level = min(float(self.full.mean()), float(self.open.mean()))
        self.target = self.level - tolerance - SLACK * max(1.0, abs(self.level))
        self.known[everything] = bool(self.open.mean() >= self.target)
        self.max_forwards = max_forwards

    @property
    def forwards(self) -> int:
        """Model passes so far, over 64 examples each."""
        return -(-self.examples // BATCH)

    def __call__(self, sets: Sequence[int]) -> list[bool]:
        """Whether each set keeps the behaviour.

        Raises:
            BoundMet: ``max_forwards`` was reached.
            InputError: a metric that is NaN.
        """
        new = list(dict.fromkeys(mask for mask in sets if mask not in self.known))
        if new:
            sums = np.zeros(len(new))
            alive, left = np.arange(len(new)), len(self.rows)
            for i, batch in enumerate(self.batches):
                values = self._on_batch([new[k] for k in alive], batch)
                sums[alive] += values.sum(1)
                left -= len(batch)
                most = sums[alive] + (left * self.highest if left else 0.0)
                alive = alive[most >= self.target * len(self.rows)]
                if not len(alive):
                    self.batches.insert(0, self.batches.pop(i))  # it decides: first next time
                    break
            keep = set(alive.tolist())
            self.known.update((mask, k in keep) for k, mask in enumerate(new))
            if self.on_sets is not None:
                self.on_sets(len(new))
        return [self.known[mask] for mask in sets]

    def values(self, sets: Sequence[int]) -> Float[np.ndarray, "set row"]:
        """The metric of each set on every one of ``rows``, in their order."""
        place = {int(row): i for i, row in enumerate(self.rows)}
        out = np.zeros((len(sets), len(self.rows)))
        for batch in self.batches if sets else ():
            out[:, [place[int(row)] for row in batch.index]] = self._on_batch(sets, batch)
        return out

    @torch.no_grad()
    def _full(self) -> Float[np.ndarray, " row"]:
        place = {int(row): i for i, row in enumerate(self.rows)}
        out = np.zeros(len(self.rows))
        for batch in self.batches:
            self.examples += len(batch)
            values = self.behaviour.measure(forward(self.model, batch), batch)
            values = values.double().cpu().numpy()
            refuse_nan(values, batch, self.behaviour)
            out[[place[int(row)] for row in batch.index]] = values
        return out

    @torch.no_grad()
    def _on_batch(self, sets: Sequence[int], batch: Batch) -> Float[np.ndarray, "set row"]:
        if self.max_forwards is not None and self.forwards >= self.max_forwards:
            raise BoundMet
        gates = self.gates(sets).to(next(self.model.parameters()).device)
        self.examples += len(sets) * len(batch)
        if self._engine is not None:
            found = self._engine.outcomes(batch, gates, self.behaviour.measure)
            rows = [*found.double().cpu().numpy()]
        else:
            rows = self._by_reference(batch, gates)
        for row in rows:
            refuse_nan(row, batch, self.behaviour)
        return np.stack(rows)

    @cached_property
    def _engine(self) -> Engine | None:
        return engine_for(self.model, self.grid, self.baseline)

    def _by_reference(self, batch: Batch, gates: Tensor) -> list[np.ndarray]:
        rows = []
        for part in gates.split(max(1, _TOKENS_AT_ONCE // batch.n_positions)):  # few logits at once
            logits = gated_logits(self.model, batch, part, self.grid, self.baseline)
            rows += [self.behaviour.measure(one, batch).double().cpu().numpy() for one in logits]
        return rows

    def over(self, rows: Int[np.ndarray, " row"]) -> Sufficiency:
        """The same question on other rows; passes are counted on, and no bound is left."""
        other = copy(self)
        other.rows, other.max_forwards, other.known = rows, None, {}
        if not np.array_equal(rows, self.rows):
            held = np.setdiff1d(rows, self.rows)
            other.batches = [*self.batches, *(_batches(self.behaviour, held) if len(held) else [])]
            other.full = other._full()
        return other

    def gates(self, sets: Sequence[int]) -> Float[Tensor, "set site"]:
        """One gate vector a set: candidates outside it closed, all else open."""
        gates = torch.ones(len(sets), len(self.grid))
        for row, mask in zip(gates, sets, strict=True):
            row[self.columns] = torch.tensor([float(mask >> i & 1) for i in range(
                len(self.columns)
            )])
        return gates


def _batches(behaviour: Behaviour, rows: np.ndarray) -> list[Batch]:
    """The rows in a fixed shuffle, in batches of 8, 16, 32, then 64: most sets fall in the first.

    A last batch of one example is put to the one before it (resampling needs two).
    """
    order = rows[np.random.default_rng(0).permutation(len(rows))]
    sizes, size = [], _FIRST
    while (left := len(rows) - sum(sizes)) > 0:
        sizes.append(left if left <= size + 1 else size)
        size = min(BATCH, 2 * size)
    out = []
    for part in np.split(order, np.cumsum(sizes)[:-1]):
        chosen = torch.as_tensor(np.sort(part), dtype=torch.long)
        batch = take_rows(behaviour.inputs, chosen)
        out.append(trimmed(batch, int(batch.attention_mask.sum(1).max())))
    return out


def _remembering(baseline: Baseline) -> Baseline:
    """The baseline, its values kept for each batch as long as they are few."""
    kept: dict[tuple[int, ...], Mapping[Site, Tensor]] = {}
    room = _KEPT_VALUES

    def values(model: HookedModel, batch: Batch, grid: SiteGrid) -> Mapping[Site, Tensor]:
        nonlocal room
        key = tuple(batch.index.tolist())
        if key not in kept:
            found = baseline.values(model, batch, grid)
            room -= sum(value.numel() * value.element_size() for value in found.values())
            if room < 0:
                return found
            kept[key] = found
        return kept[key]

    return Baseline(baseline.kind, values)

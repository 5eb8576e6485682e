"""A behaviour of one model, measured with any set of sites closed, as fast as a click needs.

The untouched model and what stands in for closed sites are run once; on the engine a set of closed
sites costs what comes after its first closed site. What was measured is remembered, up to a limit
of memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.gates.baselines import Baseline
from mechprobe.gates.context import CONSTANT, gated
from mechprobe.gates.engine import engine_for
from mechprobe.gates.reference import gated_logits
from mechprobe.models.edits import HookedModel, forward, site_grid
from mechprobe.show.attention import head_weights
from mechprobe.show.explorer.outputs import Output, places_read, read_out, told
from mechprobe.show.explorer.passes import EnginePasses, HookPasses, Passes
from mechprobe.show.explorer.remembered import Remembered
from mechprobe.show.tokens_read import Reading, read_text
from mechprobe.sites import Site
from mechprobe.stats import bootstrap_mean
from mechprobe.stats.intervals import Interval
from mechprobe.tasks.behaviour import Behaviour

BATCH = 64
REMEMBERED = 256 * 2**20
"""Bytes of measured sets that a circuit keeps: of GPT-2 on 64 examples one set takes 13 MB."""
UNCHANGED = 1e-5
"""A relative change below this is rounding."""


@dataclass(frozen=True, eq=False)
class Measured:
    """What closing a set of sites does.

    Attributes:
        values: the metric of each example.
        metric: its mean, with a 95 % bootstrap interval over examples.
        change: its mean change against the untouched model, paired by example.
        changed: how far each site's value moved: the root of the summed squared difference over
            real tokens and examples, as a share of the untouched value's. NaN where closed.
        log_p: log probability of each output at the place read, [example, output].
    """

    values: Float[np.ndarray, " example"]
    metric: Interval
    change: Interval
    changed: Float[np.ndarray, " site"]
    log_p: Float[Tensor, "example output"]

    @property
    def nbytes(self) -> int:
        """Memory of its arrays, nearly all of it ``log_p`` where outputs are a vocabulary."""
        return self.values.nbytes + self.changed.nbytes + self.log_p.nbytes


class Circuit:
    """One model on one behaviour, its heads and MLP layers open or closed.

    Args:
        baseline: what stands in a closed site's place.
        engine: run the engine where it knows the model; else hooks, with the same numbers.
    """

    def __init__(
        self, model: HookedModel, behaviour: Behaviour, baseline: Baseline, *, engine: bool = True
    ) -> None:
        self.model, self.behaviour, self.baseline = model, behaviour, baseline
        self.grid = site_grid(model)
        self.names = [str(site) for site in self.grid]
        self._batches = behaviour.batches(BATCH)
        fast = engine_for(model, self.grid, baseline) if engine else None
        self._passes: list[Passes] = [
            HookPasses(model, self.grid, baseline, batch) if fast is None
            else EnginePasses(fast, batch) for batch in self._batches
        ]
        self._size = torch.stack([passes.size for passes in self._passes]).sum(0).numpy()
        self._place = places_read(behaviour)
        self._known: Remembered[Measured] = Remembered(REMEMBERED)
        self.full = self._measure(frozenset())

    def measure(self, closed: Iterable[str]) -> Measured:
        """The behaviour with these sites closed; raises InputError for a site that is not here."""
        key = frozenset(closed)
        return self._known.get(key, lambda: self._measure(key)) if key else self.full

    @torch.no_grad()
    def _measure(self, closed: frozenset[str]) -> Measured:
        gates = self._gates(closed)
        n = len(self.behaviour)
        values, moved = np.empty(n), np.zeros(len(self.grid))
        log_p: list[Tensor] = [torch.empty(0)] * n
        for batch, passes in zip(self._batches, self._passes, strict=True):
            passed = passes.run(gates)
            moved += passed.moved.numpy()
            rows = batch.index.cpu()
            measured = self.behaviour.measure(passed.logits, batch)
            values[rows.numpy()] = measured.double().cpu().numpy()
            read = read_out(passed.logits, self._place[rows])
            for row, line in zip(rows.tolist(), read):
                log_p[row] = line
        changed = np.sqrt(moved / np.maximum(self._size, np.finfo(float).tiny))
        changed = np.where(changed < UNCHANGED, 0.0, changed)
        changed[~self.grid.mask(closed=closed)] = np.nan
        before = values if not closed else self.full.values
        return Measured(
            values, bootstrap_mean(values), bootstrap_mean(values - before), changed,
            torch.stack(log_p),
        )

    def compare(self, first: Iterable[str], second: Iterable[str]) -> Interval:
        """The second set's metric minus the first's, paired by example."""
        return bootstrap_mean(self.measure(second).values - self.measure(first).values)

    def reading(self, reads: int | list[str]) -> Reading:
        """An example by its number, or a text (or pair) of the user's own."""
        if isinstance(reads, int):
            return read_text(self.model, self.behaviour.inputs, reads)
        if len(reads) == 2:
            return read_text(self.model, (reads[0], reads[1]))
        return read_text(self.model, reads[0])

    @torch.no_grad()
    def outputs(self, reads: int | list[str], closed: Iterable[str]) -> list[Output]:
        """What the model gives one example (or a text of the user's own), before and after.

        Raises:
            InputError: a text of one's own with a baseline that is made from the examples' own
                batch or counterfactuals.
        """
        if isinstance(reads, int):
            before, after = self.full.log_p[reads], self.measure(closed).log_p[reads]
            return told(self.model, self.behaviour, reads, before, after)
        batch = self.reading(reads).batch
        place = batch.real("dec").sum(1).cpu() - 1
        before = read_out(forward(self.model, batch), place)[0]
        closed = frozenset(closed)
        if not closed:
            return told(self.model, self.behaviour, None, before, before)
        self._check_constant()
        gates = self._gates(closed)[None]
        logits = gated_logits(self.model, batch, gates, self.grid, self.baseline)[0]
        return told(self.model, self.behaviour, None, before, read_out(logits, place)[0])

    def attention(
        self, reads: int | list[str], closed: Iterable[str], heads: list[Site]
    ) -> Float[np.ndarray, "head query key"]:
        """Attention weights of heads of one stack on one example, with the set closed.

        With a baseline that depends on the batch (resample, paired): of the untouched model.
        """
        shut = sorted(closed) if self.closes_anywhere else []
        closing = gated(self.model, shut, baseline=self.baseline) if shut else nullcontext()
        with closing:
            return head_weights(self.model, self.reading(reads), heads)

    def _gates(self, closed: Iterable[str]) -> Float[Tensor, " site"]:
        like = next(self.model.parameters())
        return torch.from_numpy(self.grid.mask(closed=closed)).to(like)

    @property
    def unknown_token(self) -> str:
        """What the tokenizer puts in place of a word it does not know."""
        return str(getattr(self.model.tokenizer, "unk_token", None))

    @property
    def closes_anywhere(self) -> bool:
        """Whether the baseline does not depend on the examples' own batch."""
        return self.baseline.kind in CONSTANT

    def _check_constant(self) -> None:
        if not self.closes_anywhere:
            raise InputError(
                f"the {self.baseline.kind!r} baseline is made for the task's examples; for a text "
                "of your own explore with baseline='mean' or 'zero'"
            )


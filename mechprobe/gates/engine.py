"""The engine: K gate vectors through one frozen model, without hooks and without a tape.

It gives the numbers of ``mechprobe.gates.reference``, and skips what is not needed: the embedding
and the first layer's attention are computed once, gate vectors share what they have in common, a
head or MLP whose gate is 0 is not run, weights get no gradient, and where the read-out looks at one
position the last block computes that one.

What bounds the rest, profiled on one core with half of the gates closed (4 layers, d 256, 32 x 64
tokens, float32): products with weights take 68 % of a step and run at what oneDNN reaches on these
shapes; products inside attention 11 %, at MKL's third of that (torch has no other batched product
in float32); GELU and its derivative 9 %; norms, softmax, sums and copies 9 %. Batches of 128 tokens
run stacked, each vector skipping its own closed units: 1.4 times as fast at half closed as on the
union of what the stack has open.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.gates.baselines import Baseline
from mechprobe.gates.engine_attention import Heads
from mechprobe.gates.engine_stage import Computed, GatedStage, Stands, State, written_stands
from mechprobe.gates.engine_walk import Handover, Leaf, Walk
from mechprobe.gates.kernels.allocator import keep_freed_memory
from mechprobe.models.edits import HookedModel
from mechprobe.models.freeze import freeze
from mechprobe.models.frozen import MLP, CannotFreeze, Frozen, Start
from mechprobe.sites import SiteGrid
from mechprobe.tasks.batches import Batch

Loss = Callable[[Tensor, Batch], Tensor]


class Engine:
    """Runs gate vectors of one grid and one baseline through a frozen copy of a model.

    Args:
        model: any supported model; its weights are copied now, later changes are not seen.
        grid: the gated sites; sites outside it stay open.
        baseline: what a closed gate puts in place.
        remember: bytes of first-layer results kept, for batches that come again.
        precision: of products and attention; None: the model's. With torch.bfloat16 gates, the
            residual stream, norms and the read-out stay float32. Logits are then about 0.5 %, gate
            gradients 1 to 2 % off, and a step takes 0.60 (all gates open) to 0.68 (half closed)
            times as long on one core with AVX512-BF16 (4 layers, d 256, 32 x 64 tokens, medians of
            5 interleaved rounds); a CPU without bfloat16 products is slower with it.

    Raises:
        CannotFreeze: a setting of the model that the engine does not know; ``engine_for`` catches
            it.
        InputError: another precision, or bfloat16 for a model that is not float32.
    """

    def __init__(
        self, model: HookedModel, grid: SiteGrid, baseline: Baseline, *, remember: int = 0,
        precision: torch.dtype | None = None,
    ) -> None:
        self.model, self.grid, self.baseline = model, grid, baseline
        self.frozen: Frozen = freeze(model)
        self.precision = _checked(precision, self.frozen.dtype)
        if self.frozen.device.type == "cpu":
            keep_freed_memory()
        self.stages: list[GatedStage | Handover] = []
        for place, stack in enumerate(self.frozen.stacks):
            if place:
                self.stages.append(Handover(self.frozen.stacks[0].norm))
            self.stages += [GatedStage(stage, grid, self.precision) for stage in stack.stages]
        self._stands: Stands | None = None
        self._room = remember
        self._known: dict[int, tuple[Batch, Start, Computed]] = {}

    def logits(
        self, batch: Batch, gates: Float[Tensor, "k site"], *, at_once: int | None = None
    ) -> Float[Tensor, "k batch ..."]:
        """Logits of K gated copies of the model, as ``gated_logits`` gives them, without gradient.

        Args:
            gates: one row a gate vector, columns in the order of ``grid.sites``.
            at_once: gate vectors that run stacked (None: by their size and the device).

        Raises:
            InputError: gates that are not [k, site] of this grid.
        """
        return self.outcomes(batch, gates, lambda logits, _: logits, at_once=at_once)

    def outcomes(
        self, batch: Batch, gates: Float[Tensor, "k site"], metric: Loss, *,
        at_once: int | None = None,
    ) -> Shaped[Tensor, "k ..."]:
        """A metric [batch] of each gate vector's logits [batch, ...], which are not kept.

        Raises:
            InputError: gates that are not [k, site] of this grid.
        """
        rows: dict[int, Tensor] = {}

        def keep(members: list[int], logits: Tensor) -> None:
            for member, row in zip(members, logits, strict=True):
                rows[member] = metric(row, batch)

        self._run(batch, gates, torch.zeros_like(gates, dtype=torch.bool), keep, at_once)
        return torch.stack([rows[k] for k in range(len(gates))])

    def gradients(
        self,
        batch: Batch,
        gates: Float[Tensor, "k site"],
        loss: Loss,
        *,
        wanted: Bool[Tensor, "k site"] | None = None,
        at_once: int | None = None,
        recompute: bool = False,
    ) -> tuple[Float[Tensor, " k"], Float[Tensor, "k site"]]:
        """The loss of each gate vector, and its gradient with respect to its gates.

        Args:
            loss: from logits [batch, ...] and the batch to one number; differentiable in torch.
            wanted: the gates whose gradient is asked for; the others' are 0, and what only they
                need is not computed. None: all.
            recompute: keep only what enters each stage, and compute the stage again on the way
                back: the same numbers to the last bit, for less memory and more time (12 layers, d
                256, 4 vectors stacked: 302 instead of 796 MiB, 1.44 times the seconds on a CPU).

        Raises:
            InputError: gates that are not [k, site] of this grid.
        """
        losses, slopes = self._slopes(batch, gates, loss, wanted, at_once, recompute, each=False)
        return losses, slopes[:, 0]

    def each_gradients(
        self,
        batch: Batch,
        gates: Float[Tensor, "k site"],
        metric: Loss,
        *,
        wanted: Bool[Tensor, "k site"] | None = None,
        at_once: int | None = None,
        recompute: bool = False,
    ) -> tuple[Float[Tensor, "k batch"], Float[Tensor, "k batch site"]]:
        """A metric [batch] of each gate vector, and each example's gradient with respect to gates.

        The same work as ``gradients``, as long as a metric of an example depends on it alone.

        Args:
            metric: as ``loss`` of ``gradients``, of each example; ``wanted`` and the rest as there.

        Raises:
            InputError: gates that are not [k, site] of this grid.
        """
        return self._slopes(batch, gates, metric, wanted, at_once, recompute, each=True)

    def _slopes(
        self, batch: Batch, gates: Tensor, metric: Loss, wanted: Tensor | None,
        at_once: int | None, recompute: bool, *, each: bool,
    ) -> tuple[Tensor, Tensor]:
        """Values [k] or [k, batch] and gradients [k, 1 or batch, site]."""
        found: dict[int, Tensor] = {}

        def leaf(members: list[int], logits: Tensor) -> Tensor:
            with torch.enable_grad():
                leaf_logits = logits.detach().requires_grad_()
                values = [metric(row, batch) for row in leaf_logits]
                total = torch.stack(values).sum()
                (grad,) = torch.autograd.grad(total, leaf_logits)
            for member, value in zip(members, values, strict=True):
                found[member] = value.detach()
            return grad

        if wanted is None:
            wanted = torch.ones_like(gates, dtype=torch.bool)
        slopes = self._run(batch, gates, wanted, leaf, at_once, each, recompute)
        values = torch.stack([found[k] for k in range(len(gates))])
        return values.to(gates), slopes.to(gates)

    def _run(
        self, batch: Batch, gates: Tensor, wanted: Tensor, leaf: Leaf, at_once: int | None,
        each: bool = False, recompute: bool = False,
    ) -> Tensor:
        """Walk all gate vectors; fewer at once, and then recomputing, where memory is too small."""
        with torch.no_grad():
            walk = self._walk(batch, gates, wanted, leaf, at_once, each, recompute)
            while True:
                try:
                    return walk.run()
                except torch.OutOfMemoryError:
                    if walk.at_once == 1 and (walk.recompute or not wanted.any()):
                        raise
                    recompute, at_once = walk.at_once == 1 or recompute, max(1, walk.at_once // 2)
                walk = self._walk(batch, gates, wanted, leaf, at_once, each, recompute)

    def _walk(
        self, batch: Batch, gates: Tensor, wanted: Tensor, leaf: Leaf, at_once: int | None,
        each: bool, recompute: bool,
    ) -> Walk:
        if gates.dim() != 2 or not len(gates) or gates.shape[1] != len(self.grid):
            raise InputError(
                f"gates of shape {list(gates.shape)} for a grid of {len(self.grid)} sites; give "
                f"[k, {len(self.grid)}], one row a gate vector"
            )
        frozen = self.frozen
        start, first = self._begin(batch)
        stands = self.stand_ins(batch)
        return Walk(
            frozen, self.stages, self.cut(start), start, stands,
            {site: stand.at(start.read) for site, stand in stands.items()},
            gates.detach().to(frozen.device, frozen.dtype), wanted.to(frozen.device), leaf,
            at_once or stacked_at_once(start), first, each, recompute,
        )

    def start(self, batch: Batch) -> Start:
        """What a batch brings to the stages; the same again where it is remembered."""
        return self._begin(batch)[0]

    def _begin(self, batch: Batch) -> tuple[Start, Computed | None]:
        """The embedded batch, and what the first stage makes of it where that is remembered."""
        if (known := self._known.get(id(batch))) is not None and known[0] is batch:
            return known[1], known[2]
        start, stage = self.frozen.start(batch), self.stages[0]
        if self._room <= 0 or not isinstance(stage, GatedStage):
            return start, None
        if self.cut(start) == 0:
            return start, None
        every = np.ones((1, len(self.grid)), dtype=bool)
        first = stage.compute(State(start.streams[0]), every, start, False, False)
        kept = [*start.streams, *(part.z for part in first.found if isinstance(part, Heads))]
        self._room -= sum(tensor.numel() * tensor.element_size() for tensor in kept)
        self._known[id(batch)] = (batch, start, first)
        return start, first

    def cut(self, start: Start) -> int:
        """The stage from which on only the read-out's position goes on (past the end: none)."""
        if start.read is None:
            return len(self.stages)
        return max(
            i for i, stage in enumerate(self.stages)
            if isinstance(stage, GatedStage)
            and any(not isinstance(part.layer, MLP) for part in stage.stage.parts)
        )

    def stand_ins(self, batch: Batch) -> Stands:
        """Stand-ins of each layer; those that no batch changes are made once."""
        constant = self.baseline.kind in ("zero", "mean")
        if constant and self._stands is not None:
            return self._stands
        values = self.baseline.values(self.model, batch, self.grid)
        stands = written_stands((s for s in self.stages if isinstance(s, GatedStage)), values)
        if constant:
            self._stands = stands
        return stands


def _checked(precision: torch.dtype | None, own: torch.dtype) -> torch.dtype:
    """The precision asked for, where a model of this one allows it."""
    if precision in (None, own):
        return own
    if (precision, own) != (torch.bfloat16, torch.float32):
        raise InputError(
            f"precision {precision} for a model in {own}; give None, or torch.bfloat16 for a model "
            "in torch.float32"
        )
    return torch.bfloat16


def tokens_at_once(device: torch.device) -> int:
    """Tokens of a stack of gate vectors beyond which stacking more of them gains little."""
    return 1024 if device.type == "cpu" else 2**15


def stacked_at_once(start: Start) -> int:
    """How many gate vectors run stacked: one on CPUs unless a batch is tiny, many on GPUs."""
    stream = start.streams[-1]
    tokens = stream.shape[0] * stream.shape[1]
    return max(1, tokens_at_once(stream.device) // max(1, tokens))


class EngineFallback(UserWarning):
    """The engine cannot run a model as it is set, and the slower reference path runs instead."""


def engine_for(
    model: HookedModel, grid: SiteGrid, baseline: Baseline, *, remember: int = 0,
    precision: torch.dtype | None = None,
) -> Engine | None:
    """An engine, or None after one warning where a setting of the model is not known to it."""
    try:
        return Engine(model, grid, baseline, remember=remember, precision=precision)
    except CannotFreeze as error:
        warnings.warn(
            f"the engine does not run this {type(model).__name__} ({error}); the slower reference "
            "path runs instead, with the same numbers",
            EngineFallback, stacklevel=2,
        )
        return None

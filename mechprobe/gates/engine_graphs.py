"""Gate gradients by recorded CUDA graphs, one for each size of step; off unless asked for.

Not measured, and the recording itself never run: no GPU was at hand when it was written. What is
recorded, the choice of sizes and the copies into buffers are tested on a CPU, where each step is
run anew instead. ``MECHPROBE_CUDA_GRAPHS=1`` switches it on for mask searches on a CUDA device.
"""

from __future__ import annotations

import os

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mechprobe.gates.engine import Engine, Loss, stacked_at_once
from mechprobe.gates.engine_rooms import Rooms, units_of
from mechprobe.gates.engine_stage import GatedStage
from mechprobe.gates.engine_static import StaticStep, shape_of
from mechprobe.models.frozen import Start
from mechprobe.tasks.batches import Batch

WARM = 3  # runs before one is recorded, as PyTorch's notes on CUDA graphs ask for


class Recorded:
    """A step's way forward and its way back, each as one CUDA graph."""

    def __init__(self, step: StaticStep) -> None:
        here, aside = torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            for _ in range(WARM):
                step.forward()
                step.back()
        here.wait_stream(aside)
        pool = torch.cuda.graph_pool_handle()
        self._forward, self._back = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._forward, pool=pool):
            step.forward()
        with torch.cuda.graph(self._back, pool=pool):
            step.back()

    def forward(self) -> None:
        """Fill the step's ``logits`` again."""
        self._forward.replay()

    def back(self) -> None:
        """Fill the step's ``slopes`` again."""
        self._back.replay()


class GraphedEngine:
    """An engine's ``gradients`` in steps of few fixed sizes.

    Args:
        engine: one that ``can_be_static``.
        rooms: which sizes there are.
    """

    def __init__(self, engine: Engine, rooms: Rooms | None = None) -> None:
        self.engine, self.rooms = engine, rooms or Rooms()
        self.steps: dict[tuple, tuple[StaticStep, StaticStep | Recorded]] = {}

    def gradients(
        self, batch: Batch, gates: Float[Tensor, "k site"], loss: Loss, *,
        wanted: Bool[Tensor, "k site"], at_once: int | None = None,
    ) -> tuple[Float[Tensor, " k"], Float[Tensor, "k site"]]:
        """As ``Engine.gradients``; the last stack is filled up with its last vector."""
        start = self.engine.start(batch)
        size = min(len(gates), at_once or stacked_at_once(start))
        losses, slopes = [], []
        for some, asked in zip(gates.split(size), wanted.split(size), strict=True):
            rows = torch.arange(size, device=gates.device).clamp(max=len(some) - 1)
            values, found = self._stack(batch, start, some[rows], asked[rows], loss)
            losses.append(values[: len(some)])
            slopes.append(found[: len(some)])
        return torch.cat(losses).to(gates), torch.cat(slopes).to(gates) * wanted

    def _stack(
        self, batch: Batch, start: Start, gates: Tensor, wanted: Tensor, loss: Loss
    ) -> tuple[Tensor, Tensor]:
        active = ((gates != 0) | wanted).cpu().numpy()
        stages = [s for s in self.engine.stages if isinstance(s, GatedStage)]
        units = units_of(stages, active)
        room = self.rooms.choose(units)
        key = (len(gates), room, shape_of(start))
        self.steps = {k: v for k, v in self.steps.items() if k[1] in self.rooms.there}
        if key not in self.steps:
            stands = self.engine.stand_ins(batch)
            step = StaticStep(
                self.engine.frozen, stages, self.engine.cut(start), start, stands, len(gates), room
            )
            step.fill(start, gates, units)
            self.steps[key] = step, Recorded(step) if gates.is_cuda else step
        step, runs = self.steps[key]
        step.fill(start, gates, units)
        runs.forward()
        assert step.logits is not None
        assert step.into_logits is not None
        leaf = step.logits.detach().requires_grad_()
        with torch.enable_grad():
            values = torch.stack([loss(row, batch) for row in leaf])
        step.into_logits.copy_(torch.autograd.grad(values.sum(), leaf)[0])
        runs.back()
        assert step.slopes is not None
        return values.detach(), step.slopes.clone()


def can_be_static(engine: Engine) -> bool:
    """Whether fixed steps know all of it: one stack, no neurons, stand-ins alike everywhere."""
    neurons = any(site.kind == "neuron" for site in engine.grid.layer_columns)
    one = len(engine.frozen.stacks) == 1
    return one and not neurons and engine.baseline.kind in ("zero", "mean")


def graphed(engine: Engine) -> GraphedEngine | None:
    """Recorded steps of an engine where they are asked for, on a CUDA device, and possible."""
    asked = os.environ.get("MECHPROBE_CUDA_GRAPHS") == "1"
    on = asked and engine.frozen.device.type == "cuda"
    return GraphedEngine(engine) if on and can_be_static(engine) else None

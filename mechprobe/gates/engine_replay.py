"""One batch again and again, each time with other sites closed, from where they first differ.

The untouched run is kept stage by stage, so a gate vector costs only the stages from its first
closed gate on. Unlike ``Engine.outcomes`` it also tells what every site itself gave, which is what
one looks at to see who follows whom.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.gates.engine import Engine
from mechprobe.gates.engine_attention import Heads
from mechprobe.gates.engine_mlp import Neurons
from mechprobe.gates.engine_rows import Rows, rows_of
from mechprobe.gates.engine_stage import Computed, GatedStage, State, normed
from mechprobe.models.frozen import Start
from mechprobe.sites import Site
from mechprobe.tasks.batches import Batch


@dataclass(frozen=True)
class Own:
    """What units of a layer themselves gave, before their gates.

    Attributes:
        units: which heads of the layer; (0,) for its MLP.
        values: [unit, batch, pos, width]; width is d_head of heads, d_model of an MLP.
    """

    units: tuple[int, ...]
    values: Float[Tensor, "unit batch pos width"]


@dataclass(frozen=True)
class Replayed:
    """A gated run.

    Attributes:
        logits: [batch, ...], as ``Engine.logits`` gives them for one gate vector.
        own: by layer, what its open units gave; only layers whose input differs from the untouched
            run's. Of the untouched run itself: every layer.
    """

    logits: Float[Tensor, "batch ..."]
    own: Mapping[Site, Own]


class Replay:
    """A batch's untouched run through an engine, from which gated runs go on.

    Args:
        engine: of a grid of heads and MLP layers.

    Raises:
        InputError: a grid with neurons.
    """

    @torch.no_grad()
    def __init__(self, engine: Engine, batch: Batch) -> None:
        if any(site.kind == "neuron" for site in engine.grid.layer_columns):
            raise InputError("a replay gates heads and MLP layers; give a grid without neurons")
        self.engine = engine
        self._start: Start = engine.frozen.start(batch)
        self._stands = engine.stand_ins(batch)
        self._kept: list[Computed | None] = []
        every = rows_of(torch.ones(1, len(engine.grid), dtype=engine.frozen.dtype))
        self.full: Replayed = self._go_on(0, State(self._start.streams[0]), every, self._kept)

    @torch.no_grad()
    def run(self, gates: Float[Tensor, " site"]) -> Replayed:
        """The run with these gates, columns in the order of the engine's grid."""
        frozen = self.engine.frozen
        rows = rows_of(gates.detach().to(frozen.device, frozen.dtype)[None])
        for i, stage in enumerate(self.engine.stages):
            kept = self._kept[i]
            if kept is None or not isinstance(stage, GatedStage):
                continue
            if any((rows.host[0, columns] != 1).any() for columns in stage.own):
                active = rows.host != 0
                state, _ = stage.apply(kept, rows, active, self._start, self._stands)
                return self._go_on(i + 1, state, rows)
        return Replayed(self.full.logits, {})

    def _go_on(
        self, first: int, state: State, rows: Rows, keep: list[Computed | None] | None = None
    ) -> Replayed:
        """From a stage to the end; what each stage computed goes into ``keep``."""
        active = rows.host != 0
        own: dict[Site, Own] = {}
        for stage in self.engine.stages[first:]:
            if not isinstance(stage, GatedStage):
                memory, _ = normed(stage.norm, state.x)
                state = State(self._start.streams[1], memory)
                if keep is not None:
                    keep.append(None)
                continue
            computed = stage.compute(state, active, self._start, False, False)
            if keep is not None:
                keep.append(computed)
            own |= _own(stage, computed)
            state, _ = stage.apply(computed, rows, active, self._start, self._stands)
        return Replayed(self._read_out(state.x), own)

    def _read_out(self, x: Tensor) -> Tensor:
        frozen = self.engine.frozen
        read = self._start.read
        if read is not None:
            x = x[torch.arange(len(x), device=x.device), read].unsqueeze(1)
        return frozen.read_out(normed(frozen.stacks[-1].norm, x)[0])


def _own(stage: GatedStage, computed: Computed) -> dict[Site, Own]:
    batch, pos = computed.state.x.shape[:2]
    out: dict[Site, Own] = {}
    for layer, found in zip(stage.layers, computed.found, strict=True):
        match found:
            case Heads():
                out[layer.layer.site] = Own(found.pairs.heads, found.z)
            case Neurons():
                assert found.out is not None
                out[layer.layer.site] = Own((0,), found.out.view(1, batch, pos, -1))
    return out

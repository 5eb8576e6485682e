"""The same gates with pyvene's interventions, where it is installed and knows the architecture.

pyvene 0.1.8 maps no BERT; on GPT-2 a gate on all heads' z and on the MLP's output is an
intervention without a source. NeuroSurgeon 0.1.0 masks single weights, or the rows of a weight
matrix, with zeros: neither a gate a head nor a mean in its place can be said with it.
"""

from __future__ import annotations

import copy
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from mechprobe.sites import Site
from mechprobe.studies.mask_speed.rivals import Result, inputs_of, means, split
from mechprobe.studies.mask_speed.shapes import Case


def installed() -> bool:
    """Whether pyvene can be imported."""
    return find_spec("pyvene") is not None


class Pyvene:
    """One gate vector a run; the full logits are known."""

    def __init__(self, case: Case) -> None:
        import pyvene  # pyright: ignore[reportMissingImports]

        class Gate(pyvene.SourcelessIntervention):
            """(own - mean) g + mean."""

            def __init__(self, mean: Tensor) -> None:
                super().__init__(keep_last_dim=True)
                self.mean, self.gate = mean, torch.ones_like(mean)

            def forward(self, base: Tensor, source: Any = None, subspaces: Any = None, **_: Any
                        ) -> Tensor:
                return (base - self.mean) * self.gate + self.mean

        self.case, values, config = case, means(case), []
        self.gates: list[tuple[Any, Any]] = []
        for layer in range(case.shape.n_layers):
            heads = Gate(values[Site("head", layer)].flatten(-2).flatten())
            mlp = Gate(values[Site("mlp", layer)].flatten())
            self.gates.append((heads, mlp))
            for part, gate in (("attention_value_output", heads), ("mlp_output", mlp)):
                config.append({"layer": layer, "component": part, "intervention": gate})
        hf = copy.deepcopy(case.hf)  # pyvene takes every hook off a model it is done with
        hf.set_attn_implementation("eager")  # it changes a result in place; the fused one forbids
        self.model = pyvene.IntervenableModel(pyvene.IntervenableConfig(config), hf)

    def __call__(self, gates: Tensor) -> Result:
        leaf = gates.clone().requires_grad_()
        heads, mlps = split(self.case.grid, leaf)
        for layer, (on_heads, on_mlp) in enumerate(self.gates):
            width = on_heads.mean.numel() // heads.shape[-1]
            on_heads.gate = heads[layer].repeat_interleave(width)
            on_mlp.gate = mlps[layer]
        _, gated = self.model(base=inputs_of(self.case.hf, self.case.batch), unit_locations=None)
        loss = self.case.loss(gated.logits, self.case.batch)
        (slope,) = torch.autograd.grad(loss, leaf)
        return loss.detach(), slope

"""Which heads, MLP layers and embeddings a decoder's weights belong to."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens import HookedTransformer

from mechprobe.errors import InputError
from mechprobe.models.edits import HookedModel

_PLACE = re.compile(r"blocks\.(\d+)\.(attn|mlp)\.(\w+)")


@dataclass(frozen=True)
class PartSums:
    """What a value of every weight adds up to.

    Attributes:
        heads: over each head's query, key, value and output weights (keys and values that heads
            share are divided among them).
        mlps: over each MLP layer; zero without MLPs.
        other: over the rest: "embed", "pos_embed", "unembed", "norm", "attention output bias".
    """

    heads: Float[np.ndarray, "layer head"]
    mlps: Float[np.ndarray, " layer"]
    other: dict[str, float]

    @property
    def layers(self) -> Float[np.ndarray, " layer"]:
        """Over each layer's heads and MLP."""
        return self.heads.sum(1) + self.mlps

    @property
    def total(self) -> float:
        """Over all weights."""
        return float(self.layers.sum() + sum(self.other.values()))


def part_sums(model: HookedModel, values: Float[Tensor, " weight"]) -> PartSums:
    """Sum a value of each weight (in the order of ``named_parameters``) over a decoder's parts.

    Raises:
        InputError: not a decoder, or another number of values than weights.
    """
    if not isinstance(model, HookedTransformer):
        raise InputError(f"a {type(model).__name__} is no decoder; give one to tell its parts")
    named = list(model.named_parameters())
    if (n := sum(p.numel() for _, p in named)) != len(values):
        raise InputError(f"{len(values)} values for {n} weights; give one of each weight")
    cfg = model.cfg
    heads, mlps = np.zeros((cfg.n_layers, cfg.n_heads)), np.zeros(cfg.n_layers)
    other: dict[str, float] = {}
    start = 0
    for name, p in named:
        part = values[start : start + p.numel()].view(p.shape).to(torch.float64)
        start += p.numel()
        found = _PLACE.match(name)
        if found is None or found[3].startswith("ln"):
            kind = "norm" if ".ln" in name or name.startswith("ln") else name.split(".")[0]
            other[kind] = other.get(kind, 0.0) + float(part.sum())
        elif found[2] == "mlp":
            mlps[int(found[1])] += float(part.sum())
        elif found[3] == "b_O":
            kind = "attention output bias"
            other[kind] = other.get(kind, 0.0) + float(part.sum())
        else:
            own = part.flatten(1).sum(1).cpu().numpy()
            group = cfg.n_heads // len(own)
            heads[int(found[1])] += np.repeat(own / group, group)
    return PartSums(heads, mlps, other)

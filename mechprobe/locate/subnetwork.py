"""One subnetwork: a learned gate vector with what made it, and its file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.locate.kept import grid_of
from mechprobe.runs import atomic_write
from mechprobe.sites import Site, SiteGrid

FORMAT = "mechprobe subnetworks 1"
ARRAYS = ("soft", "binary", "log_alpha")


@dataclass(frozen=True, eq=False)
class Subnetwork:
    """A learned mask over a model's sites; tables, cores and overlaps use its binary gates.

    Args:
        soft: deterministic gates in [0, 1].
        binary: kept sites; their closed share is ``sparsity``.
        log_alpha: learned parameters of the hard concrete gates.
        sites: what the entries stand for.
        sparsity_target: share of sites asked to be closed.
        seed: of the gate noise.
        settings: what made it (rule, baseline, steps, ...), plain JSON values.
        scores: measured values by name.

    Raises:
        InputError: gate vectors of another length than ``sites``.
    """

    soft: Float[np.ndarray, "site"]
    binary: Bool[np.ndarray, "site"]
    log_alpha: Float[np.ndarray, "site"]
    sites: SiteGrid
    sparsity_target: float
    sparsity: float
    seed: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ARRAYS:
            if len(getattr(self, name)) != len(self.sites):
                raise InputError(
                    f"{name} has {len(getattr(self, name))} gates, the model has "
                    f"{len(self.sites)} sites ({self.sites.n_layers} layers x "
                    f"{self.sites.n_heads} heads); give one gate a site"
                )

    @property
    def heads(self) -> list[Site]:
        """The heads kept."""
        return [site for site in self.kept if site.kind == "head"]

    @property
    def mlps(self) -> list[Site]:
        """The MLP layers kept."""
        return [site for site in self.kept if site.kind == "mlp"]

    @property
    def neurons(self) -> list[Site]:
        """The MLP neurons kept."""
        return [site for site in self.kept if site.kind == "neuron"]

    @property
    def kept(self) -> list[Site]:
        """Every site kept."""
        return self.sites.select(self.binary)

    def gates(self, kind: str = "binary") -> Float[Tensor, "site"]:
        """The "binary" (0 or 1) or "soft" gates as float32; raises InputError for another kind."""
        if kind not in ("binary", "soft"):
            raise InputError(f"unknown gates {kind!r}; expected 'binary' or 'soft'")
        return torch.from_numpy(getattr(self, kind).astype(np.float32))

    def with_scores(self, scores: Mapping[str, float]) -> Subnetwork:
        """The same subnetwork with these scores added."""
        return replace(self, scores={**self.scores, **scores})

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file whose header holds the rest as JSON; never half a file."""
        path = Path(path)
        atomic_write(path, pack([self]))
        return path

    @classmethod
    def load(cls, path: str | Path) -> Subnetwork:
        """Read a file of ``save``; raises InputError when it is not one."""
        members = unpack(Path(path))
        if len(members) != 1:
            raise InputError(f"{path} holds {len(members)} subnetworks; use SubnetworkSet.load")
        return members[0]


def pack(members: Sequence[Subnetwork]) -> bytes:
    """One safetensors file of stacked gates [k, site]; the rest is JSON in its header.

    Raises:
        InputError: settings that are not plain JSON values.
    """
    described = [
        {
            "sparsity_target": m.sparsity_target, "sparsity": m.sparsity, "seed": m.seed,
            "settings": dict(m.settings), "scores": {k: float(v) for k, v in m.scores.items()},
        }
        for m in members
    ]
    try:
        sites = asdict(members[0].sites)
        if members[0].sites.stacks == ("",):
            del sites["stacks"]  # as files of models with one stack always were
        text = json.dumps({"format": FORMAT, "sites": sites, "members": described})
    except TypeError as error:
        raise InputError(
            f"a subnetwork's settings must be plain JSON values ({error}); convert them first"
        ) from None
    arrays = {name: np.stack([getattr(m, name) for m in members]) for name in ARRAYS}
    return save(arrays, metadata={"subnetworks": text})


def unpack(path: Path) -> list[Subnetwork]:
    """The subnetworks of a file that holds ``pack``'s bytes.

    Raises:
        InputError: no such file, or another kind of file.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            described = json.loads(header.get("subnetworks", "{}"))
            if described.get("format") != FORMAT:
                raise InputError(f"{path} is no file of subnetworks; give one that save() wrote")
            arrays = {name: file.get_tensor(name) for name in ARRAYS}
        grid = grid_of(described["sites"])
        return [
            Subnetwork(sites=grid, **{name: arrays[name][i] for name in ARRAYS}, **rest)
            for i, rest in enumerate(described["members"])
        ]
    except FileNotFoundError:
        raise InputError(f"no subnetworks at {path}; give a path that save() wrote") from None
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read as subnetworks ({error}); write it anew") from None

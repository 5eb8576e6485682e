"""Names of the components a gate can stand on, and the order they are kept in.

A site is written as in the field: head ``5.1`` (layer 5, head 1), MLP layer ``mlp.3``, MLP
neuron ``mlp.3.17``; in an encoder-decoder a stack comes first: ``enc 2.0``, ``dec 2.0``,
``cross 4.7``, ``enc mlp.3``. This file knows no model and no hook name.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from mechprobe.errors import InputError

Kind = Literal["head", "mlp", "neuron"]
Stack = Literal["", "enc", "dec", "cross"]

_FORM = re.compile(
    r"(?:(?P<stack>enc|dec|cross) )?"
    r"(?:mlp\.(?P<mlp>\d+)(?:\.(?P<neuron>\d+))?|(?P<layer>\d+)\.(?P<head>\d+|\*))"
)


@dataclass(frozen=True, order=True)
class Site:
    """One component: a head, an MLP layer, an MLP neuron, or all heads of a layer.

    ``index`` is the head or neuron number; ``None`` for an MLP layer, and for all heads of a layer
    (written ``5.*``).
    """

    kind: Kind
    layer: int
    index: int | None = None
    stack: Stack = ""

    def __str__(self) -> str:
        prefix = f"{self.stack} " if self.stack else ""
        match self.kind:
            case "mlp":
                return f"{prefix}mlp.{self.layer}"
            case "neuron":
                return f"{prefix}mlp.{self.layer}.{self.index}"
            case _:
                return f"{prefix}{self.layer}.{'*' if self.index is None else self.index}"

    @classmethod
    def parse(cls, text: str | Site) -> Site:
        """Read ``"5.1"``, ``"mlp.3"``, ``"mlp.3.17"``, ``"cross 4.7"``.

        >>> Site.parse("5.1")
        Site(kind='head', layer=5, index=1, stack='')
        """
        if isinstance(text, Site):
            return text
        found = _FORM.fullmatch(text.strip())
        if found is None:
            raise InputError(
                f"{text!r} is not a site; write a head as '5.1', an MLP as 'mlp.3', a neuron as "
                "'mlp.3.17', with 'enc ', 'dec ' or 'cross ' before it in an encoder-decoder"
            )
        stack: Stack = found["stack"] or ""  # pyright: ignore[reportAssignmentType]
        if found["mlp"] is not None:
            layer = int(found["mlp"])
            if found["neuron"] is not None:
                return cls("neuron", layer, int(found["neuron"]), stack)
            return cls("mlp", layer, None, stack)
        head = None if found["head"] == "*" else int(found["head"])
        return cls("head", int(found["layer"]), head, stack)


@dataclass(frozen=True)
class SiteGrid:
    """The gated sites of a model, in the order of a gate vector: heads layer by layer, then MLPs.

    Args:
        n_layers: number of blocks.
        n_heads: heads a block.
        heads: whether heads are gated.
        mlps: whether MLP layers are gated.
    """

    n_layers: int
    n_heads: int
    heads: bool = True
    mlps: bool = True

    def __post_init__(self) -> None:
        if not (self.heads or self.mlps):
            raise InputError("a SiteGrid needs heads, MLPs or both; both are switched off")

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        layers = range(self.n_layers)
        heads = [Site("head", layer, h) for layer in layers for h in range(self.n_heads)]
        mlps = [Site("mlp", layer) for layer in layers]
        return (*(heads if self.heads else ()), *(mlps if self.mlps else ()))

    def __len__(self) -> int:
        return len(self.sites)

    def __iter__(self) -> Iterator[Site]:
        return iter(self.sites)

    @property
    def n_head_sites(self) -> int:
        """How many of the sites are heads; they come first."""
        return self.n_layers * self.n_heads if self.heads else 0

    @cached_property
    def _position(self) -> dict[Site, int]:
        return {site: i for i, site in enumerate(self.sites)}

    def index(self, site: Site | str) -> int:
        """Position of a site in a gate vector; raises InputError naming the nearest sites."""
        parsed = Site.parse(site)
        if parsed not in self._position:
            names = [str(s) for s in self.sites]
            near = difflib.get_close_matches(str(parsed), names, n=3, cutoff=0.0)
            raise InputError(
                f"no site {str(parsed)!r} here ({self.n_layers} layers x {self.n_heads} heads, "
                f"heads {'on' if self.heads else 'off'}, MLPs {'on' if self.mlps else 'off'}); "
                f"nearest: {', '.join(near)}"
            )
        return self._position[parsed]

    def mask(self, closed: Iterable[Site | str] = (), *, kept: Iterable[Site | str] | None = None
             ) -> np.ndarray:
        """Boolean gate vector [site]: all open but ``closed``, or only ``kept`` open."""
        if kept is not None:
            gates = np.zeros(len(self), dtype=bool)
            gates[[self.index(s) for s in kept]] = True
            return gates
        gates = np.ones(len(self), dtype=bool)
        gates[[self.index(s) for s in closed]] = False
        return gates

    def select(self, gates: Sequence[bool] | np.ndarray) -> list[Site]:
        """The sites whose gate is true."""
        return [site for site, keep in zip(self.sites, gates, strict=True) if keep]

    def head_array(self, values: np.ndarray) -> np.ndarray:
        """The head part of a [..., site] array as [..., layer, head]."""
        part = np.asarray(values)[..., : self.n_head_sites]
        return part.reshape(*part.shape[:-1], self.n_layers, self.n_heads)

    def mlp_array(self, values: np.ndarray) -> np.ndarray:
        """The MLP part of a [..., site] array as [..., layer] (empty when MLPs are not gated)."""
        return np.asarray(values)[..., self.n_head_sites :]

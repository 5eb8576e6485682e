"""Names of the components a gate can stand on, and the order they are kept in.

A site is written as in the field: head ``5.1`` (layer 5, head 1), MLP layer ``mlp.3``, MLP
neuron ``mlp.3.17``; all heads or all neurons of a layer ``5.*`` and ``mlp.3.*``; in an
encoder-decoder a stack comes first: ``enc 2.0``, ``dec 2.0``, ``cross 4.7``, ``enc mlp.3``. This
file knows no model and no hook name.
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
    r"(?:mlp\.(?P<mlp>\d+)(?:\.(?P<neuron>\d+|\*))?|(?P<layer>\d+)\.(?P<head>\d+|\*))"
)


@dataclass(frozen=True)
class Site:
    """One component: a head, an MLP layer, an MLP neuron, or all heads or neurons of a layer.

    ``index`` is the head or neuron number; ``None`` for an MLP layer, and for all heads or all
    neurons of a layer (written ``5.*`` and ``mlp.3.*``). Sites sort by kind, layer, index.
    """

    kind: Kind
    layer: int
    index: int | None = None
    stack: Stack = ""

    def __str__(self) -> str:
        prefix = f"{self.stack} " if self.stack else ""
        index = "*" if self.index is None else self.index
        match self.kind:
            case "mlp":
                return f"{prefix}mlp.{self.layer}"
            case "neuron":
                return f"{prefix}mlp.{self.layer}.{index}"
            case _:
                return f"{prefix}{self.layer}.{index}"

    def __lt__(self, other: Site) -> bool:
        return self._rank < other._rank

    @property
    def _rank(self) -> tuple[str, int, int, str]:
        """Where the site sorts; a whole layer stands before its heads or neurons."""
        return self.kind, self.layer, -1 if self.index is None else self.index, self.stack

    @classmethod
    def parse(cls, text: str | Site) -> Site:
        """Read ``"5.1"``, ``"5.*"``, ``"mlp.3"``, ``"mlp.3.17"``, ``"mlp.3.*"``, ``"cross 4.7"``.

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
                return cls("neuron", layer, _number(found["neuron"]), stack)
            return cls("mlp", layer, None, stack)
        return cls("head", int(found["layer"]), _number(found["head"]), stack)


def _number(text: str) -> int | None:
    return None if text == "*" else int(text)


@dataclass(frozen=True)
class SiteGrid:
    """The gated sites of a model, in the order of a gate vector.

    All heads layer by layer, then MLP layers, then neurons layer by layer. Two grids are equal when
    they gate the same sites.

    Args:
        n_layers: number of blocks.
        n_heads: heads a block.
        heads: whether heads are gated.
        mlps: whether MLP layers are gated.
        n_neurons: neurons an MLP layer; 0 where unknown or without MLPs.
        neurons: whether MLP neurons are gated, layer by layer.

    Raises:
        InputError: nothing is gated, or something of which the model has none.
    """

    n_layers: int
    n_heads: int
    heads: bool = True
    mlps: bool = True
    n_neurons: int = 0
    neurons: bool = False

    def __post_init__(self) -> None:
        if not (self.heads or self.mlps or self.neurons):
            raise InputError("a SiteGrid gates heads, MLPs or neurons; all are switched off")
        asked = {"layers": self.n_layers}
        asked |= {"heads": self.n_heads} if self.heads else {}
        asked |= {"neurons": self.n_neurons} if self.neurons else {}
        for name, number in asked.items():
            if number < 1:
                raise InputError(f"a SiteGrid was given {number} {name} to gate; give 1 or more")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SiteGrid) and self._gated == other._gated

    def __hash__(self) -> int:
        return hash(self._gated)

    @property
    def _gated(self) -> tuple[int, ...]:
        """Layers, and gates a layer of each kind."""
        return (
            self.n_layers, self.heads * self.n_heads, int(self.mlps), self.neurons * self.n_neurons
        )

    @cached_property
    def layer_columns(self) -> dict[Site, slice]:
        """Layer-wide sites (``5.*``, ``mlp.5``, ``mlp.5.*``) and their columns in a gate vector."""
        _, *widths = self._gated
        columns: dict[Site, slice] = {}
        start = 0
        kinds: tuple[Kind, ...] = ("head", "mlp", "neuron")
        for kind, width in zip(kinds, widths, strict=True):
            for layer in range(self.n_layers if width else 0):
                columns[Site(kind, layer)] = slice(start, start + width)
                start += width
        return columns

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """Every gated site; the i-th entry of a gate vector stands on the i-th."""
        return tuple(
            site if site.kind == "mlp" else Site(site.kind, site.layer, i)
            for site, columns in self.layer_columns.items()
            for i in range(columns.stop - columns.start)
        )

    def __len__(self) -> int:
        return len(self.sites)

    def __iter__(self) -> Iterator[Site]:
        return iter(self.sites)

    @property
    def n_head_sites(self) -> int:
        """How many of the sites are heads; they come first."""
        return self.n_layers * self.n_heads if self.heads else 0

    @property
    def n_mlp_sites(self) -> int:
        """How many of the sites are MLP layers; they come after the heads."""
        return self.n_layers if self.mlps else 0

    @cached_property
    def _position(self) -> dict[Site, int]:
        return {site: i for i, site in enumerate(self.sites)}

    def index(self, site: Site | str) -> int:
        """Position of a site in a gate vector; raises InputError naming the nearest sites."""
        parsed = Site.parse(site)
        if parsed not in self._position:
            names = [str(s) for s in self.sites if s.kind != "neuron" or s.layer == parsed.layer]
            near = difflib.get_close_matches(str(parsed), names, n=3, cutoff=0.0)
            gated = {"heads": self.heads, "MLPs": self.mlps, "neurons": self.neurons}
            switches = ", ".join(f"{kind} {'on' if on else 'off'}" for kind, on in gated.items())
            raise InputError(
                f"no site {str(parsed)!r} here ({self.n_layers} layers x {self.n_heads} heads, "
                f"{switches}); nearest: {', '.join(near)}"
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
        return part.reshape(*part.shape[:-1], self.n_layers, self.heads * self.n_heads)

    def mlp_array(self, values: np.ndarray) -> np.ndarray:
        """The MLP part of a [..., site] array as [..., layer] (empty when MLPs are not gated)."""
        return np.asarray(values)[..., self.n_head_sites : self.n_head_sites + self.n_mlp_sites]

    def neuron_array(self, values: np.ndarray) -> np.ndarray:
        """The neuron part of a [..., site] array as [..., layer, neuron]."""
        part = np.asarray(values)[..., self.n_head_sites + self.n_mlp_sites :]
        return part.reshape(*part.shape[:-1], self.n_layers, self.neurons * self.n_neurons)

"""Names of the components a gate can stand on, and the order they are kept in.

A site is written as in the field: head ``5.1`` (layer 5, head 1), MLP layer ``mlp.3``, MLP
neuron ``mlp.3.17``; all heads or all neurons of a layer ``5.*`` and ``mlp.3.*``; in an
encoder-decoder a stack comes first: ``enc 2.0``, ``dec 2.0``, ``cross 4.7``, ``enc mlp.3``. A head
may also be given as ``(5, 1)`` or ``"L5H1"``. This file knows no model and no hook name.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, SupportsIndex, TypeAlias, get_args

import numpy as np

from mechprobe.errors import InputError

Kind = Literal["head", "mlp", "neuron"]
Stack = Literal["", "enc", "dec", "cross"]
STACKS: tuple[Stack, ...] = get_args(Stack)
ENCODER_DECODER: tuple[Stack, ...] = ("enc", "dec", "cross")

_FORM = re.compile(
    r"(?:(?P<stack>enc|dec|cross) )?"
    r"(?:mlp\.(?P<mlp>\d+)(?:\.(?P<neuron>\d+|\*))?|(?P<layer>\d+)\.(?P<head>\d+|\*))"
)
_LETTERS = re.compile(r"(?<![^ ])L(\d+)H(\d+)$")


@dataclass(frozen=True)
class Site:
    """One component: a head, an MLP layer, an MLP neuron, or all heads or neurons of a layer.

    ``index`` is the head or neuron number; ``None`` for an MLP layer, and for all heads or all
    neurons of a layer (written ``5.*`` and ``mlp.3.*``). Sites sort as a ``SiteGrid`` holds them:
    by kind, stack (encoder, decoder, cross), layer, index.
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
    def _rank(self) -> tuple[str, int, int, int]:
        """Where the site sorts; a whole layer stands before its heads or neurons."""
        index = -1 if self.index is None else self.index
        return self.kind, STACKS.index(self.stack), self.layer, index

    @classmethod
    def parse(cls, text: SiteName) -> Site:
        """Read ``"5.1"``, ``"5.*"``, ``"mlp.3"``, ``"mlp.3.17"``, ``"mlp.3.*"``, ``"cross 4.7"``.

        A head may also be ``(5, 1)`` or ``"L5H1"``.

        >>> Site.parse("5.1") == Site.parse("L5H1") == Site.parse((5, 1))
        True

        Raises:
            InputError: not a site.
        """
        if isinstance(text, Site):
            return text
        if is_site_name(text) and not isinstance(text, str):
            return cls("head", int(text[0]), int(text[1]))
        written = _LETTERS.sub(r"\1.\2", text.strip()) if isinstance(text, str) else ""
        found = _FORM.fullmatch(written)
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


SiteName: TypeAlias = Site | str | tuple[SupportsIndex, SupportsIndex]
"""How a site may be given: a ``Site``, ``"5.1"`` or ``"L5H1"``, or a head as ``(5, 1)``."""


def is_site_name(given: Any) -> bool:
    """Whether this names one site: a ``Site``, a text, or two whole numbers (layer, head)."""
    if isinstance(given, Site | str):
        return True
    return isinstance(given, tuple) and len(given) == 2 and all(map(_is_count, given))


def _is_count(number: Any) -> bool:
    whole = isinstance(number, int | np.integer) and not isinstance(number, bool)
    return whole and bool(number >= 0)


def _number(text: str) -> int | None:
    return None if text == "*" else int(text)


@dataclass(frozen=True)
class SiteGrid:
    """The gated sites of a model, in the order of a gate vector.

    All heads, then MLP layers, then neurons; within a kind stack by stack (encoder self-attention,
    decoder self-attention, cross-attention), and within a stack layer by layer. Two grids are equal
    when they gate the same sites.

    Args:
        n_layers: number of blocks of a stack.
        n_heads: heads a block.
        heads: whether heads are gated.
        mlps: whether MLP layers are gated.
        n_neurons: neurons an MLP layer; 0 where unknown or without MLPs.
        neurons: whether MLP neurons are gated, layer by layer.
        stacks: ``("",)`` for a model of one stack; any of "enc", "dec" and "cross" for an
            encoder-decoder. "cross" has heads and no MLPs (those of its blocks are "dec").

    Raises:
        InputError: nothing is gated, or something of which the model has none; or impossible
            stacks.
    """

    n_layers: int
    n_heads: int
    heads: bool = True
    mlps: bool = True
    n_neurons: int = 0
    neurons: bool = False
    stacks: tuple[Stack, ...] = ("",)

    def __post_init__(self) -> None:
        self._check_stacks()
        if not (self.heads or self.mlps or self.neurons):
            raise InputError("a SiteGrid gates heads, MLPs or neurons; all are switched off")
        if not (self.heads or self._stacks_of("mlp")):
            raise InputError("cross-attention has no MLPs of its own; gate heads, or MLPs of 'dec'")
        asked = {"layers": self.n_layers}
        asked |= {"heads": self.n_heads} if self.heads else {}
        asked |= {"neurons": self.n_neurons} if self.neurons else {}
        for name, number in asked.items():
            if number < 1:
                raise InputError(f"a SiteGrid was given {number} {name} to gate; give 1 or more")

    def _check_stacks(self) -> None:
        if self.stacks == ("",):
            return
        ordered = tuple(stack for stack in ENCODER_DECODER if stack in self.stacks)
        if not ordered or len(ordered) != len(self.stacks):
            raise InputError(
                f"a SiteGrid was given the stacks {self.stacks!r}; give ('',) for a model of one "
                "stack, or some of 'enc', 'dec', 'cross', each once"
            )
        object.__setattr__(self, "stacks", ordered)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SiteGrid) and self._gated == other._gated

    def __hash__(self) -> int:
        return hash(self._gated)

    @property
    def _widths(self) -> dict[Kind, int]:
        """Gates a layer of each kind."""
        return {
            "head": self.heads * self.n_heads,
            "mlp": int(self.mlps),
            "neuron": self.neurons * self.n_neurons,
        }

    @property
    def _gated(self) -> tuple[object, ...]:
        """Layers, and for each kind its gates a layer and the stacks that have them."""
        kinds = [(width, self._stacks_of(kind)) for kind, width in self._widths.items()]
        return self.n_layers, *(gated if all(gated) else None for gated in kinds)

    def _stacks_of(self, kind: Kind) -> tuple[Stack, ...]:
        """The stacks that have components of a kind."""
        return tuple(s for s in self.stacks if kind == "head" or s != "cross")

    @cached_property
    def layer_columns(self) -> dict[Site, slice]:
        """Layer-wide sites (``5.*``, ``mlp.5``, ``mlp.5.*``) and their columns in a gate vector."""
        columns: dict[Site, slice] = {}
        start = 0
        for kind, width in self._widths.items():
            for stack in self._stacks_of(kind) if width else ():
                for layer in range(self.n_layers):
                    columns[Site(kind, layer, None, stack)] = slice(start, start + width)
                    start += width
        return columns

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """Every gated site; the i-th entry of a gate vector stands on the i-th."""
        return tuple(
            site if site.kind == "mlp" else Site(site.kind, site.layer, i, site.stack)
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
        return len(self.stacks) * self.n_layers * self.n_heads if self.heads else 0

    @property
    def n_mlp_sites(self) -> int:
        """How many of the sites are MLP layers; they come after the heads."""
        return len(self._stacks_of("mlp")) * self.n_layers if self.mlps else 0

    @cached_property
    def _position(self) -> dict[Site, int]:
        return {site: i for i, site in enumerate(self.sites)}

    def index(self, site: SiteName) -> int:
        """Position of a site in a gate vector; raises InputError naming the nearest sites."""
        parsed = Site.parse(site)
        if parsed not in self._position:
            names = [str(s) for s in self.sites if s.kind != "neuron" or s.layer == parsed.layer]
            near = difflib.get_close_matches(str(parsed), names, n=3, cutoff=0.0)
            gated = {"heads": self.heads, "MLPs": self.mlps, "neurons": self.neurons}
            switches = ", ".join(f"{kind} {'on' if on else 'off'}" for kind, on in gated.items())
            stacks = "" if self.stacks == ("",) else f"stacks {' '.join(self.stacks)}, each "
            raise InputError(
                f"no site {str(parsed)!r} here ({stacks}{self.n_layers} layers x {self.n_heads} "
                f"heads, {switches}); nearest: {', '.join(near)}"
            )
        return self._position[parsed]

    def mask(self, closed: Iterable[SiteName] = (), *, kept: Iterable[SiteName] | None = None
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

    def rows(self, kind: Kind) -> list[Site]:
        """The layer-wide site of each row of ``head_array``, ``mlp_array`` or ``neuron_array``."""
        return [site for site in self.layer_columns if site.kind == kind]

    def head_array(self, values: np.ndarray, stack: Stack | None = None) -> np.ndarray:
        """The head part of a [..., site] array as [..., layer, head].

        Of an encoder-decoder the layers of all its stacks, one stack after the other, in the order
        of ``rows("head")``; only those of one ``stack`` when it is given.
        """
        part = np.asarray(values)[..., : self.n_head_sites]
        return self._by_layer(part, "head", stack)

    def mlp_array(self, values: np.ndarray, stack: Stack | None = None) -> np.ndarray:
        """The MLP part of a [..., site] array as [..., layer] (empty when MLPs are not gated).

        ``stack`` as in ``head_array``.
        """
        part = np.asarray(values)[..., self.n_head_sites : self.n_head_sites + self.n_mlp_sites]
        return self._by_layer(part, "mlp", stack)[..., 0] if self.mlps else part

    def neuron_array(self, values: np.ndarray, stack: Stack | None = None) -> np.ndarray:
        """The neuron part of a [..., site] array as [..., layer, neuron].

        ``stack`` as in ``head_array``.
        """
        part = np.asarray(values)[..., self.n_head_sites + self.n_mlp_sites :]
        return self._by_layer(part, "neuron", stack)

    def _by_layer(self, part: np.ndarray, kind: Kind, stack: Stack | None) -> np.ndarray:
        """[..., stack x layer x unit] as [..., layer, unit], of all stacks or of one."""
        stacks = self._stacks_of(kind)
        if stack is not None and stack not in stacks:
            there = ", ".join(map(repr, stacks))
            raise InputError(f"no {kind} sites in a stack {stack!r} here; stacks: {there}")
        n_rows = len(stacks) * self.n_layers
        by_layer = part.reshape(*part.shape[:-1], n_rows, self._widths[kind])
        if stack is None:
            return by_layer
        first = stacks.index(stack) * self.n_layers
        return by_layer[..., first : first + self.n_layers, :]

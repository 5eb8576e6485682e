"""Places that are no gate sites: the residual stream at a position, and a head's attention pattern.

A place is written ``resid 3 @ 5`` (what block 3 leaves at token position 5; ``@ -1`` is an
example's last token, ``@ all`` every position) or ``pattern 3.1`` (attention weights of head 3.1);
in an encoder-decoder a stack comes first: ``dec resid 3 @ 0``, ``cross pattern 2.1``. In an encoder
with LayerNorm after each sum (BERT) what a block leaves is taken after its LayerNorm.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal

import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.models.edits import HookedModel, hook_name, run_with_named_hooks, site_grid
from mechprobe.sites import Site, Stack
from mechprobe.tasks.batches import Batch

_FORM = re.compile(
    r"(?:(?P<stack>enc|dec|cross) )?"
    r"(?:resid (?P<layer>\d+)(?: @ (?P<position>-?\d+|all))?|pattern (?P<block>\d+)\.(?P<head>\d+))"
)


@dataclass(frozen=True)
class Place:
    """One place: ``resid`` with a position (None: all of them), or ``pattern`` with a head."""

    kind: Literal["resid", "pattern"]
    layer: int
    position: int | None = None
    head: int | None = None
    stack: Stack = ""

    def __str__(self) -> str:
        prefix = f"{self.stack} " if self.stack else ""
        if self.kind == "pattern":
            return f"{prefix}pattern {self.layer}.{self.head}"
        at = "all" if self.position is None else self.position
        return f"{prefix}resid {self.layer} @ {at}"

    @classmethod
    def parse(cls, text: str | Place) -> Place:
        """Read ``"resid 3 @ 5"``, ``"resid 3 @ all"`` (or ``"resid 3"``), ``"pattern 3.1"``.

        Raises:
            InputError: not a place.
        """
        if isinstance(text, Place):
            return text
        found = _FORM.fullmatch(text.strip())
        if found is None:
            raise InputError(
                f"{text!r} is not a place; write 'resid 3 @ 5' (block 3, position 5), 'resid 3 @ "
                "all' or 'pattern 3.1' (head 3.1)"
            )
        stack: Stack = found["stack"] or ""  # pyright: ignore[reportAssignmentType]
        if found["layer"] is None:
            return cls("pattern", int(found["block"]), None, int(found["head"]), stack)
        at = found["position"]
        position = None if at in (None, "all") else int(at)
        return cls("resid", int(found["layer"]), position, None, stack)


def residual_places(model: HookedModel, n_positions: Mapping[str, int]) -> list[Place]:
    """Every block's output at every position; ``n_positions`` by stack ("" or "enc" and "dec")."""
    grid = site_grid(model)
    return [
        Place("resid", layer, at, None, stack)
        for stack in grid.stacks if stack != "cross"
        for layer in range(grid.n_layers)
        for at in range(n_positions[stack])
    ]


def pattern_places(model: HookedModel) -> list[Place]:
    """The attention pattern of every head."""
    heads = [site for site in site_grid(model).sites if site.kind == "head"]
    return [Place("pattern", site.layer, None, site.index, site.stack) for site in heads]


def place_hook(model: HookedModel, place: Place) -> str:
    """Where a place lives in this model, as a TransformerLens hook name.

    Raises:
        InputError: the model has no such place; the message lists the nearest.
    """
    if place.kind == "resid" and place.stack == "cross":
        raise InputError(f"no {str(place)!r}: cross-attention writes to the stream 'dec resid'")
    try:
        z = hook_name(model, Site("head", place.layer, place.head, place.stack))
    except InputError as error:
        raise InputError(f"no {str(place)!r} in this model: {error}") from None
    attention = z.removesuffix(".hook_z")
    if place.kind == "pattern":
        return f"{attention}.hook_pattern"
    block = attention.rpartition(".")[0]
    normalised = f"{block}.hook_normalized_resid_post"
    return normalised if normalised in model.hook_dict else f"{block}.hook_resid_post"


def place_positions(place: Place, batch: Batch) -> Int[Tensor, " batch"]:
    """The position of a residual place in each example, counted from the start.

    Raises:
        InputError: an example that has no such position.
    """
    length = batch.real(place.stack).sum(1)
    at = place.position
    assert at is not None
    places = torch.full_like(length, at) if at >= 0 else length + at
    if (bad := (places < 0) | (places >= length)).any():
        row = int(bad.nonzero()[0])
        raise InputError(
            f"example {int(batch.index[row])} has {int(length[row])} tokens, so no {str(place)!r}; "
            "name positions that every example has ('@ -1' is the last token)"
        )
    return places


def read_places(
    model: HookedModel, batch: Batch, places: Iterable[Place]
) -> tuple[Float[Tensor, "batch ..."], dict[str, Tensor]]:
    """Logits, and what stands at the places' hooks, by hook name; raises as ``place_hook``."""
    found: dict[str, Tensor] = {}

    def keep(name: str, value: Tensor) -> None:
        found[name] = value

    names = dict.fromkeys(place_hook(model, place) for place in places)
    return run_with_named_hooks(model, batch, names, keep), found


def run_with_places(
    model: HookedModel, batch: Batch, places: Sequence[Place], values: Mapping[str, Tensor]
) -> Float[Tensor, "k batch ..."]:
    """Logits of K runs, stacked along the batch, the k-th with the k-th place taken from elsewhere.

    Args:
        batch: what the runs read.
        places: one a run.
        values: whole hook values of another run on a batch of the same shape (``read_places``).

    Raises:
        InputError: as ``place_hook`` and ``place_positions``; values of another shape.
    """
    k, n = len(places), len(batch)
    rows_at: dict[str, list[tuple[int, Place, Tensor | None]]] = {}
    for i, place in enumerate(places):
        residual = place.kind == "resid" and place.position is not None
        at = place_positions(place, batch) if residual else None
        rows_at.setdefault(place_hook(model, place), []).append((i, place, at))

    def visit(name: str, value: Tensor) -> Tensor:
        given = values[name]
        if given.shape[1:] != value.shape[1:] or len(given) != n:
            raise InputError(
                f"values at {name} have shape {list(given.shape)}, the run has "
                f"{[n, *value.shape[1:]]}; give pairs of equal length"
            )
        value = value.clone()
        for i, place, at in rows_at[name]:
            own = value[i * n : (i + 1) * n]
            if place.kind == "pattern":
                own[:, place.head] = given[:, place.head]
            elif at is None:
                own[:] = given
            else:
                rows, at = torch.arange(n, device=value.device), at.to(value.device)
                own[rows, at] = given[rows, at]
        return value

    logits = run_with_named_hooks(model, _stacked(batch, k), rows_at, visit)
    return rearrange(logits, "(k batch) ... -> k batch ...", k=k)


def _stacked(batch: Batch, k: int) -> Batch:
    named = {f.name: getattr(batch, f.name) for f in fields(batch)}
    return type(batch)(**{n: repeat(v, "b ... -> (k b) ...", k=k) for n, v in named.items()})

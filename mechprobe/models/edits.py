"""Run a model while chosen sites are edited or read; sites in, hook names inside.

Every value has the batch first: a head is z [batch, pos, d_head] (before W_O), all heads of a layer
[batch, pos, head, d_head], an MLP layer's output [batch, pos, d_model], an MLP neuron after its
activation [batch, pos], all neurons of a layer [batch, pos, neuron]. In an encoder-decoder pos is
the encoder's for ``enc`` sites and the decoder's for ``dec`` and ``cross`` sites. Gradients flow
through edits and into read values.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens import HookedEncoderDecoder

from mechprobe.errors import InputError
from mechprobe.models.given import as_batch, as_edit, check_model
from mechprobe.models.named_hooks import (
    HookDidNotFire,
    HookedModel,
    forward,
    run_with_named_hooks,
)
from mechprobe.sites import ENCODER_DECODER, Site, SiteGrid, SiteName, Stack, is_site_name
from mechprobe.tasks.batches import Batch

__all__ = [
    "Edit",
    "HookDidNotFire",
    "HookedModel",
    "attention_patterns",
    "forward",
    "hook_name",
    "run_with_cache",
    "run_with_edits",
    "run_with_named_hooks",
    "site_grid",
]

Edit: TypeAlias = Callable[[Tensor], Tensor]
Given: TypeAlias = Edit | Tensor | float | int
Inputs: TypeAlias = Batch | Int[Tensor, "batch pos"]


@lru_cache(maxsize=64)
def _grid(n_layers: int, n_heads: int, n_neurons: int, stacks: tuple[Stack, ...]) -> SiteGrid:
    return SiteGrid(n_layers, n_heads, mlps=n_neurons > 0, n_neurons=n_neurons, stacks=stacks)


def site_grid(model: HookedModel) -> SiteGrid:
    """The heads and MLP layers of a model; an attention-only model has no MLPs.

    ``dataclasses.replace(grid, neurons=True)`` gates the neurons too.
    """
    check_model(model)
    cfg = model.cfg
    stacks = ENCODER_DECODER if isinstance(model, HookedEncoderDecoder) else ("",)
    return _grid(cfg.n_layers, cfg.n_heads, 0 if cfg.attn_only else cfg.d_mlp or 0, stacks)


def hook_name(model: HookedModel, site: SiteName) -> str:
    """Where a site lives in this model, as a TransformerLens hook name.

    Raises:
        InputError: the model has no such site; the message lists the nearest ones.
    """
    site = Site.parse(site)
    grid = site_grid(model)
    mlp = Site("mlp", site.layer, None, site.stack)
    neurons = site.kind == "neuron" and mlp in grid.layer_columns
    if neurons and site.index is not None and not 0 <= site.index < grid.n_neurons:
        last = Site("neuron", site.layer, grid.n_neurons - 1, site.stack)
        raise InputError(f"no neuron {str(site)!r} here; the last neuron of a layer is {last}")
    if not (neurons or site in grid.layer_columns):
        grid.index(site)  # raises with the nearest sites
    block = f"{_BLOCKS[site.stack]}.{site.layer}"
    match site.kind:
        case "neuron":
            return f"{block}.mlp.hook_post"
        case "mlp":
            return f"{block}.hook_mlp_out"
        case _:
            return f"{block}.{_attention(site.stack)}.hook_z"


_BLOCKS = {"": "blocks", "enc": "encoder", "dec": "decoder", "cross": "decoder"}


def _attention(stack: Stack) -> str:
    """What a block calls the attention a stack's heads belong to."""
    return "cross_attn" if stack == "cross" else "attn"


def _read(value: Tensor, site: Site) -> Tensor:
    """The site's part of its hook's value: one head, one neuron, or all of it."""
    if site.index is None:
        return value
    return value.select(2, site.index)


def _checked(fn: Edit, site: Site, own: Tensor) -> Tensor:
    out = fn(own)
    if not isinstance(out, Tensor) or out.shape != own.shape:
        got = f"shape {list(out.shape)}" if isinstance(out, Tensor) else f"{out!r}"
        raise InputError(
            f"the edit at {site} gave {got}; it must return a tensor of the shape it was given, "
            f"{list(own.shape)}"
        )
    return out


def _apply(value: Tensor, edits: list[tuple[Site, Edit]]) -> Tensor:
    """All edits that live on one hook: whole-layer ones first, then single heads or neurons."""
    parts: dict[int, Tensor] = {}
    for site, fn in sorted(edits, key=lambda pair: pair[0].index is not None):
        if site.index is None:
            value = _checked(fn, site, value)
        else:
            parts[site.index] = _checked(fn, site, _read(value, site))
    if not parts:
        return value
    indices = torch.tensor(list(parts), device=value.device)
    return value.index_copy(2, indices, torch.stack(list(parts.values()), 2).to(value.dtype))


def _run(
    model: HookedModel,
    batch: Batch,
    edits: Mapping[Site, Edit],
    reads: Iterable[Site],
) -> tuple[Tensor, dict[Site, Tensor]]:
    edits_at: dict[str, list[tuple[Site, Edit]]] = defaultdict(list)
    reads_at: dict[str, list[Site]] = defaultdict(list)
    for site, fn in edits.items():
        site = Site.parse(site)
        edits_at[hook_name(model, site)].append((site, fn))
    for site in reads:
        site = Site.parse(site)
        reads_at[hook_name(model, site)].append(site)
    values: dict[Site, Tensor] = {}

    def visit(name: str, value: Tensor) -> Tensor | None:
        if edits_here := edits_at.get(name):
            value = _apply(value, edits_here)
        for site in reads_at.get(name, ()):
            values[site] = _read(value, site)
        return value if edits_here else None

    return run_with_named_hooks(model, batch, {*edits_at, *reads_at}, visit), values


def run_with_edits(
    model: HookedModel, batch: Inputs, edits: Mapping[SiteName, Given] | Mapping[Site, Edit]
) -> Float[Tensor, "batch ..."]:
    """Logits of the model with each site's value replaced by ``fn(value)``, or by a constant.

    >>> tokens = model.to_tokens("The cat sat")  # doctest: +SKIP
    >>> logits = run_with_edits(model, tokens, {"0.1": 0.0, "mlp.1": lambda x: x / 2})

    Args:
        model: any supported model; its parameters may be frozen.
        batch: what it reads: token ids [batch, pos] without padding, or a ``Batch``.
        edits: site -> function from the site's value to one of the same shape; or a number, or a
            tensor that broadcasts to that shape, in its place. A whole-layer site (index None) is
            edited before single heads or neurons of that layer.

    Returns:
        As ``forward``.

    Raises:
        InputError: a site outside the model, an edit that is or returns something else, or tokens
            that the model cannot read (an encoder-decoder reads a ``seq2seq_batch``).
        HookDidNotFire: the model never called a hook an edit needs.
    """
    return _run(model, as_batch(model, batch), _functions(edits), ())[0]


def _functions(edits: Any) -> dict[Site, Edit]:
    if not isinstance(edits, Mapping):
        raise InputError(f"edits are a {type(edits).__name__}; give a mapping such as {{'0.1': 0}}")
    return {(at := Site.parse(site)): as_edit(given, at) for site, given in edits.items()}


class Values(dict[Site, Tensor]):
    """Values by site; ``values["0.1"]`` and ``values[(0, 1)]`` find them too."""

    def __missing__(self, key: Any) -> Tensor:
        site = Site.parse(key)
        if site not in self:
            raise KeyError(f"{site} was not read; name it in sites=")
        return self[site]


def run_with_cache(
    model: HookedModel,
    batch: Inputs,
    sites: Iterable[SiteName] | SiteName | None = None,
    edits: Mapping[SiteName, Given] | Mapping[Site, Edit] | None = None,
) -> tuple[Float[Tensor, "batch ..."], dict[Site, Tensor]]:
    """Logits and the values at the given sites (after ``edits``, when some are given).

    >>> tokens = model.to_tokens("The cat sat")  # doctest: +SKIP
    >>> logits, values = run_with_cache(model, tokens, ["0.1", "mlp.1"]); values["0.1"]

    Without ``sites`` every head and MLP layer is read; ``batch`` and ``edits`` as there.
    Values are not detached; run under ``torch.no_grad()`` to keep memory small. Raises as
    ``run_with_edits``.
    """
    batch = as_batch(model, batch)
    if sites is None:
        sites = site_grid(model)
    named: Any = [sites] if is_site_name(sites) else sites
    logits, values = _run(model, batch, _functions(edits or {}), map(Site.parse, named))
    return logits, Values(values)


def attention_patterns(
    model: HookedModel, batch: Batch, layers: Iterable[int] | None = None, *, stack: Stack = ""
) -> dict[int, Float[Tensor, "batch head query key"]]:
    """Attention weights of each layer (all when None), without gradient; rows sum to 1.

    Args:
        stack: of an encoder-decoder "enc", "dec" or "cross" (queries in the decoder, keys in the
            encoder); left out for models of one stack.

    Raises:
        InputError: a layer or stack outside the model.
    """
    if stack not in (stacks := site_grid(model).stacks):
        raise InputError(
            f"no attention of a stack {stack!r} here; give stack="
            f"{' or '.join(map(repr, stacks))}"
        )
    wanted = range(model.cfg.n_layers) if layers is None else list(layers)
    found: dict[str, Tensor] = {}
    names = {
        layer: hook_name(model, Site("head", layer, None, stack)).replace("hook_z", "hook_pattern")
        for layer in wanted
    }

    def keep(name: str, value: Tensor) -> None:
        found[name] = value

    with torch.no_grad():
        run_with_named_hooks(model, batch, names.values(), keep)
    return {layer: found[name] for layer, name in names.items()}

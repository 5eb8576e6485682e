"""Direct paths between components: what a head's query, key or value would read, and patching it.

A sender's output is replaced while every other head keeps its value, so that only what goes along
the residual stream (and through MLPs, unless they are kept too) arrives. Queries, keys and values
are read and replaced after their projection: TransformerLens' split inputs, which encoder-decoders
refuse, are not needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor

from mechprobe.models.edits import HookedModel, hook_name, run_with_named_hooks
from mechprobe.sites import Site
from mechprobe.tasks.batches import Batch
from mechprobe.tasks.behaviour import take_rows

INPUTS = ("q", "k", "v")


@dataclass(frozen=True)
class HeadInput:
    """The query, key or value of one head."""

    head: Site
    which: str

    def __str__(self) -> str:
        return f"{self.head} {self.which}"


def reaches(sender: Site, receiver: HeadInput | None) -> bool:
    """Whether a sender's output enters a head's input, or the logits (None), past no other head.

    Within a stack that is so for heads of later layers, and for cross-attention's queries also in
    the layer of a self-attention sender; encoder heads enter cross-attention's keys and values,
    and nothing else of the decoder.
    """
    if receiver is None:
        return sender.stack != "enc"
    head = receiver.head
    if head.stack == "cross" and receiver.which != "q":
        return sender.stack == "enc"
    if head.stack in ("dec", "cross"):
        before = head.stack == "cross" and sender.stack == "dec" and sender.kind == "head"
        in_decoder = sender.stack in ("dec", "cross")
        return in_decoder and (sender.layer < head.layer or (before and sender.layer == head.layer))
    return sender.stack == head.stack and sender.layer < head.layer


def stacked(batch: Batch, k: int) -> Batch:
    """The batch k times over, [k * batch, pos]."""
    return take_rows(batch, torch.arange(len(batch), device=batch.index.device).repeat(k))


@contextmanager
def separate_heads(model: HookedModel) -> Iterator[None]:
    """Within it every head has keys and values of its own, also where a group of heads shares them.

    Numbers stay the same; the model is put back afterwards.
    """
    before = model.cfg.ungroup_grouped_query_attention
    try:
        if model.cfg.n_key_value_heads is not None:
            model.cfg.ungroup_grouped_query_attention = True
        yield
    finally:
        model.cfg.ungroup_grouped_query_attention = before


def send(
    model: HookedModel,
    batch: Batch,
    senders: Sequence[Site],
    instead: Mapping[Site, Tensor],
    keep: Mapping[Site, Tensor],
    reads: Iterable[HeadInput],
) -> tuple[Float[Tensor, "k batch ..."], dict[HeadInput, Float[Tensor, "k batch _ d_head"]]]:
    """Run once per sender with only its output replaced and the kept components held.

    Args:
        senders: heads or MLP layers; the i-th alone in the i-th run.
        instead: by layer-wide site, what replaces senders; broadcasts as ``Baseline.values``.
        keep: by layer-wide site, values of the components that are held (senders excepted).
        reads: the inputs to read, computed from the residual stream as it then is.

    Returns:
        Logits, and each input, of every run; positions are those of the input's own side.
    """
    k, n = len(senders), len(batch)
    sites = {_layer_of(sender) for sender in senders} | set(keep)
    edited = {hook_name(model, site): site for site in sites}
    wanted: dict[str, list[HeadInput]] = {}
    for read in reads:
        wanted.setdefault(_input_hook(model, read), []).append(read)
    found: dict[HeadInput, Tensor] = {}

    def visit(name: str, value: Tensor) -> Tensor | None:
        for read in wanted.get(name, ()):
            found[read] = value[:, :, read.head.index].unflatten(0, (k, n))
        if (site := edited.get(name)) is None:
            return None
        value = repeat(keep[site], "b ... -> k b ...", k=k) if site in keep else value.unflatten(
            0, (k, n)
        )
        return _replaced(value, site, senders, instead).flatten(0, 1)

    logits = run_with_named_hooks(model, stacked(batch, k), {*edited, *wanted}, visit)
    return logits.unflatten(0, (k, n)), found


def receive(
    model: HookedModel,
    batch: Batch,
    patches: Sequence[Mapping[HeadInput, Float[Tensor, "batch _ d_head"]]],
) -> Float[Tensor, "k batch ..."]:
    """Logits of one run per patch, where heads get the given inputs and all else is recomputed."""
    k, n = len(patches), len(batch)
    at: dict[str, list[tuple[int, int | None, Tensor]]] = {}
    for run, patch in enumerate(patches):
        for place, value in patch.items():
            at.setdefault(_input_hook(model, place), []).append((run, place.head.index, value))

    def visit(name: str, value: Tensor) -> Tensor:
        value = value.clone()
        for run, head, new in at[name]:
            value[run * n : (run + 1) * n, :, head] = new
        return value

    logits = run_with_named_hooks(model, stacked(batch, k), at, visit)
    return logits.unflatten(0, (k, n))


def _replaced(
    value: Float[Tensor, "k batch ..."], site: Site, senders: Sequence[Site],
    instead: Mapping[Site, Tensor],
) -> Float[Tensor, "k batch ..."]:
    """The value with each run's sender replaced, where it lives at this site."""
    value = value.clone()
    for run, sender in enumerate(senders):
        if _layer_of(sender) == site:
            if sender.index is None:
                value[run] = instead[site]
            else:
                value[run, :, :, sender.index] = instead[site][:, :, sender.index]
    return value


def _layer_of(site: Site) -> Site:
    return Site(site.kind, site.layer, None, site.stack)


def _input_hook(model: HookedModel, place: HeadInput) -> str:
    name = hook_name(model, _layer_of(place.head))
    return name.removesuffix("hook_z") + f"hook_{place.which}"

"""Edits that stand for every call of a model, until the block they were made in ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, TypeAlias

from torch import Tensor, nn

from mechprobe.models.edits import HookedModel, hook_name
from mechprobe.sites import Site

StandingEdit: TypeAlias = Callable[[Tensor, int], Tensor]


@contextmanager
def standing_edits(model: HookedModel, edits: Mapping[Site, StandingEdit]) -> Iterator[None]:
    """Every call of the model inside the block runs with these edits, ``model.generate`` too.

    Blocks may be nested; the inner one's edits see what the outer ones left. Nothing stays when a
    block ends, by an exception too.

    Args:
        edits: layer-wide site (``5.*``, ``mlp.3``) -> function of its value (a decoder's has only
            the new tokens when it generates with a cache) and of the position of the first token
            in it, to a value of the same shape.

    Raises:
        InputError: a site outside the model.
    """
    named = {hook_name(model, site): fn for site, fn in edits.items()}
    start = 0

    def note_start(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        nonlocal start
        entry = kwargs.get("past_kv_cache_entry")
        start = 0 if entry is None else int(entry.past_keys.shape[1])

    def hook_for(fn: StandingEdit) -> Callable[[nn.Module, Any, Tensor], Tensor]:
        def hook(module: nn.Module, args: Any, value: Tensor) -> Tensor:
            return fn(value, start)

        return hook

    with ExitStack() as hooks:
        blocks = getattr(model, "blocks", None)
        if blocks is not None:
            handle = blocks[0].register_forward_pre_hook(note_start, with_kwargs=True)
            hooks.callback(handle.remove)
        for name, fn in named.items():
            hooks.callback(model.hook_dict[name].register_forward_hook(hook_for(fn)).remove)
        yield

"""A decoder whose weights were changed and whose function was not, and where its parts went."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from mechprobe.errors import InputError
from mechprobe.models.edits import HookedModel
from mechprobe.models.weights import decoder_from_weights, decoder_weights
from mechprobe.sites import Site, SiteName

HEAD = ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V")
"""A head's arrays; the head is their first axis."""
WRITERS = ("embed.W_E", "pos_embed.W_pos")
"""Arrays outside the blocks whose last axis is the residual stream."""


@dataclass(frozen=True, eq=False)
class Disguised:
    """A disguised decoder.

    Attributes:
        config: fields of its ``HookedTransformerConfig``.
        arrays: its weights in float64 (the model runs in float32).
        sites: where each head and MLP layer of the model that was disguised is now.
        copies: heads that were added as inert copies, and the head each copies, by today's places.
    """

    config: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]
    sites: Mapping[Site, Site]
    copies: Mapping[Site, Site] = field(default_factory=dict)

    @cached_property
    def model(self) -> HookedModel:
        """The decoder itself."""
        return decoder_from_weights(self.config, self.arrays)

    @property
    def n_layers(self) -> int:
        """Blocks it has now."""
        return self.config["n_layers"]

    @property
    def n_heads(self) -> int:
        """Heads a block."""
        return self.config["n_heads"]

    def now(self, sites: Iterable[SiteName]) -> frozenset[Site]:
        """Where these sites of the original are in the disguised model."""
        return frozenset(self.sites[Site.parse(site)] for site in sites)

    def moved(
        self, arrays: Mapping[str, np.ndarray], places: Mapping[Site, Site] | None = None,
        copies: Mapping[Site, Site] | None = None, **config: Any,
    ) -> Disguised:
        """The next disguise: new weights, new config fields, and where today's sites go.

        Sites that ``places`` does not name stay where they are.
        """
        go = places or {}
        all_copies = {**self.copies, **(copies or {})}
        return replace(
            self, config={**self.config, **config}, arrays=dict(arrays),
            sites={old: go.get(site, site) for old, site in self.sites.items()},
            copies={go.get(a, a): go.get(b, b) for a, b in all_copies.items()},
        )


def undisguised(model: HookedModel | Disguised) -> Disguised:
    """The model's own weights, every site in its place; a disguised one as it is.

    Raises:
        InputError: a model whose weights these disguises do not understand.
    """
    if isinstance(model, Disguised):
        return model
    cfg = model.cfg
    if not hasattr(model, "unembed") or cfg.n_key_value_heads or cfg.gated_mlp:
        raise InputError(
            "only decoders with plain attention heads and MLPs are disguised, without grouped "
            "queries and gates"
        )
    config, arrays = decoder_weights(model)  # pyright: ignore[reportArgumentType]
    kinds = [Site("head", layer, i) for layer in range(cfg.n_layers) for i in range(cfg.n_heads)]
    if not cfg.attn_only:
        kinds += [Site("mlp", layer) for layer in range(cfg.n_layers)]
    return Disguised(config, arrays, {site: site for site in kinds})


def unnormalised(given: Disguised, what: str) -> None:
    """Refuse a model with LayerNorm, whose residual stream cannot be turned or widened."""
    if given.config["normalization_type"] is not None:
        raise InputError(
            f"{what} changes what a model with {given.config['normalization_type']} computes; give "
            "one without normalisation"
        )


def residual_axes(name: str) -> dict[int, bool]:
    """Axes of a weight that are the residual stream, and whether the weight reads there."""
    leaf = name.rsplit(".", 1)[-1]
    if name in WRITERS or leaf in ("W_O", "b_O", "W_out", "b_out"):
        return {-1: False}
    if leaf in ("W_Q", "W_K", "W_V"):
        return {1: True}
    return {0: True} if leaf in ("W_in", "W_U") else {}

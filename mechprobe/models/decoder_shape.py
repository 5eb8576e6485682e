"""Whether a decoder of ours has the shape of a Hugging Face class; else, which field differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformer_lens import HookedTransformerConfig

from mechprobe.errors import InputError


def require_shape(cfg: HookedTransformerConfig, kind: str, needed: Mapping[str, Any]) -> None:
    """Refuse a config with another value in one of these fields, or another attention scale.

    Raises:
        InputError: names the field, its value and the one that is needed.
    """
    for name, value in needed.items():
        if getattr(cfg, name) != value:
            raise InputError(
                f"a decoder with {name}={getattr(cfg, name)!r} is not {kind}-shaped ({name}="
                f"{value!r}), so it has no counterpart there"
            )
    if cfg.d_vocab_out not in (-1, cfg.d_vocab):
        raise InputError(
            f"{kind} has as many outputs as tokens; this decoder has {cfg.d_vocab_out} outputs "
            f"for {cfg.d_vocab} tokens"
        )
    scale = cfg.d_head**0.5
    if cfg.attn_scale not in (-1, None) and abs(cfg.attn_scale - scale) > 1e-6:
        raise InputError(
            f"{kind} scales attention by {scale:.4g}; this decoder by {cfg.attn_scale}"
        )


def refuse_biases(weights: Mapping[str, Tensor], ends: tuple[str, ...], kind: str) -> None:
    """Refuse biases, named by how they end, that are not zero where the class has none.

    Raises:
        InputError: names the first one.
    """
    for name, value in weights.items():
        if name.endswith(ends) and bool(value.any()):
            raise InputError(
                f"{kind} has no bias for {name}, and this decoder's is not zero; close MLP layers "
                "there by the zero baseline"
            )

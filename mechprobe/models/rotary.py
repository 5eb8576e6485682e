"""Rotary positions (Su et al. 2021, "RoFormer"): settings from Hugging Face, and exact tables."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformer_lens import HookedTransformerConfig
from transformer_lens.components.abstract_attention import AbstractAttention

from mechprobe.errors import InputError


def rotary_settings(rope: Any, *, local: bool = False) -> dict[str, Any]:
    """Config fields of rotary positions from a Hugging Face ``rope_parameters``.

    Args:
        rope: its fields by name.
        local: whether attention has a window.

    Raises:
        InputError: a kind of scaling other than none, "linear" and "llama3".
    """
    kind = rope.get("rope_type", "default")
    settings: dict[str, Any] = {
        "positional_embedding_type": "rotary",
        "rotary_base": rope["rope_theta"],
    }
    match kind:
        case "default":
            return settings
        case "linear" if not local:  # TransformerLens scales global attention only
            return settings | {"rotary_scaling_factor": float(rope["factor"])}
        case "llama3":
            return settings | {
                "use_NTK_by_parts_rope": True,
                "NTK_by_parts_factor": float(rope["factor"]),
                "NTK_by_parts_low_freq_factor": float(rope["low_freq_factor"]),
                "NTK_by_parts_high_freq_factor": float(rope["high_freq_factor"]),
                "NTK_original_ctx_len": int(rope["original_max_position_embeddings"]),
            }
        case _:
            raise InputError(
                f"rotary positions of kind {kind!r}{' with a window' if local else ''} are not "
                "supported; supported are default, llama3 and, without a window, linear"
            )


def rope_parameters(cfg: HookedTransformerConfig) -> dict[str, Any]:
    """The ``rope_parameters`` of Hugging Face for a config of ours: ``rotary_settings`` undone."""
    found: dict[str, Any] = {"rope_type": "default", "rope_theta": float(cfg.rotary_base)}
    if cfg.use_NTK_by_parts_rope:
        return found | {
            "rope_type": "llama3",
            "factor": cfg.NTK_by_parts_factor,
            "low_freq_factor": cfg.NTK_by_parts_low_freq_factor,
            "high_freq_factor": cfg.NTK_by_parts_high_freq_factor,
            "original_max_position_embeddings": cfg.NTK_original_ctx_len,
        }
    factor = getattr(cfg, "rotary_scaling_factor", None)
    if factor not in (None, 1.0):
        return found | {"rope_type": "linear", "factor": factor}
    return found


def renew_rotary_tables(model: nn.Module) -> None:
    """Compute the tables of sines and cosines anew, in place, in the dtype of the weights.

    A model whose dtype was changed would otherwise keep angles rounded to its former one.
    """
    for attn in model.modules():
        if not isinstance(attn, AbstractAttention) or attn.cfg.rotary_dim is None:
            continue
        if attn.cfg.positional_embedding_type == "rotary":
            weight, rows = attn.W_Q, attn.rotary_cos.shape[0]
            sin, cos = attn.calculate_sin_cos_rotary(
                attn.cfg.rotary_dim, rows, base=attn._rotary_base(), dtype=weight.dtype
            )
            attn.rotary_sin, attn.rotary_cos = sin.to(weight.device), cos.to(weight.device)

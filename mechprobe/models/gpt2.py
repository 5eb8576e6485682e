"""GPT-2 decoders of Hugging Face as our config and weights."""

from __future__ import annotations

from collections.abc import Mapping

from einops import rearrange
from torch import Tensor
from transformer_lens import HookedTransformerConfig
from transformers import GPT2Config

from mechprobe.errors import InputError
from mechprobe.models.bert import LAYER_NORM, activation
from mechprobe.models.build import make_config


def config_from_hf(config: GPT2Config) -> HookedTransformerConfig:
    """Our config for a Hugging Face GPT-2 config.

    Raises:
        InputError: cross-attention, unscaled attention, or an activation without counterpart.
    """
    if config.add_cross_attention or not config.scale_attn_weights:
        raise InputError("a GPT-2 with cross-attention or unscaled attention is not supported")
    return make_config(
        n_layers=config.n_layer,
        n_heads=config.n_head,
        d_model=config.n_embd,
        d_mlp=config.n_inner or 4 * config.n_embd,
        d_vocab=config.vocab_size,
        n_ctx=config.n_positions,  # configs saved by transformers 5 have no n_ctx
        eps=config.layer_norm_epsilon,
        act_fn=activation(config.activation_function),
        scale_attn_by_inverse_layer_idx=config.scale_attn_by_inverse_layer_idx,
        normalization_type="LN",
        original_architecture="GPT2LMHeadModel",
    )


def weights(state: Mapping[str, Tensor], cfg: HookedTransformerConfig) -> dict[str, Tensor]:
    """Every weight below the unembedding."""
    found = {
        "embed.W_E": state["transformer.wte.weight"],
        "pos_embed.W_pos": state["transformer.wpe.weight"],
    }
    norms = {"ln_final": "transformer.ln_f"}
    for layer in range(cfg.n_layers):
        ours, theirs = f"blocks.{layer}", f"transformer.h.{layer}"
        norms |= {f"{ours}.ln1": f"{theirs}.ln_1", f"{ours}.ln2": f"{theirs}.ln_2"}
        weight, bias = (state[f"{theirs}.attn.c_attn.{part}"] for part in ("weight", "bias"))
        weight = rearrange(weight, "m (qkv i h) -> qkv i m h", qkv=3, i=cfg.n_heads)
        bias = rearrange(bias, "(qkv i h) -> qkv i h", qkv=3, i=cfg.n_heads)
        for letter, w, b in zip("QKV", weight, bias, strict=True):
            found[f"{ours}.attn.W_{letter}"], found[f"{ours}.attn.b_{letter}"] = w, b
        out = state[f"{theirs}.attn.c_proj.weight"]
        found[f"{ours}.attn.W_O"] = rearrange(out, "(i h) m -> i h m", i=cfg.n_heads)
        found[f"{ours}.attn.b_O"] = state[f"{theirs}.attn.c_proj.bias"]
        for here, there in (("in", "c_fc"), ("out", "c_proj")):
            found[f"{ours}.mlp.W_{here}"] = state[f"{theirs}.mlp.{there}.weight"]
            found[f"{ours}.mlp.b_{here}"] = state[f"{theirs}.mlp.{there}.bias"]
    for ours, theirs in norms.items():
        for here, there in LAYER_NORM:
            found[f"{ours}.{here}"] = state[f"{theirs}.{there}"]
    return found

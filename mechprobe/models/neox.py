"""GPT-NeoX decoders (Pythia) of Hugging Face as our config and weights.

Attention and MLP read the same residual stream (or, in some models, one after the other); rotary
positions turn only the first part of each head (Black et al. 2022, "GPT-NeoX-20B").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from transformer_lens import HookedTransformerConfig
from transformers import GPTNeoXConfig

from mechprobe.errors import InputError
from mechprobe.models.bert import LAYER_NORM, activation
from mechprobe.models.build import make_config
from mechprobe.models.rotary import rotary_settings


def config_from_hf(config: GPTNeoXConfig) -> HookedTransformerConfig:
    """Our config for a Hugging Face GPT-NeoX config.

    Raises:
        InputError: rotary positions that have no counterpart here.
    """
    d_head = config.hidden_size // config.num_attention_heads
    rope: Any = config.rope_parameters
    rotary_dim = int(d_head * rope.get("partial_rotary_factor", 1.0))
    if rotary_dim < 2 or rotary_dim % 2:
        raise InputError(
            f"rotary positions on {rotary_dim} of the {d_head} dimensions of a head are not "
            "supported; the number must be even and above 0"
        )
    return make_config(
        n_layers=config.num_hidden_layers,
        n_heads=config.num_attention_heads,
        d_model=config.hidden_size,
        d_mlp=config.intermediate_size,
        d_vocab=config.vocab_size,
        n_ctx=config.max_position_embeddings,
        eps=config.layer_norm_eps,
        act_fn=activation(config.hidden_act),
        normalization_type="LN",
        parallel_attn_mlp=config.use_parallel_residual,
        rotary_dim=rotary_dim,
        original_architecture="GPTNeoXForCausalLM",
        **rotary_settings(rope),
    )


def weights(state: Mapping[str, Tensor], cfg: HookedTransformerConfig) -> dict[str, Tensor]:
    """Every weight below the unembedding; biases that the state lacks are 0."""
    none = torch.zeros(cfg.d_model, dtype=cfg.dtype)
    found = {"embed.W_E": state["gpt_neox.embed_in.weight"]}
    norms = {"ln_final": "final_layer_norm"}
    for layer in range(cfg.n_layers):
        ours, theirs = f"blocks.{layer}", f"gpt_neox.layers.{layer}"
        norms[f"{ours}.ln1"] = f"layers.{layer}.input_layernorm"
        norms[f"{ours}.ln2"] = f"layers.{layer}.post_attention_layernorm"
        linear, out = f"{theirs}.attention.query_key_value", f"{theirs}.attention.dense"
        bias = state.get(f"{linear}.bias", none.repeat(3))
        # the rows of this one matrix are sorted by head first
        parts = rearrange(
            state[f"{linear}.weight"], "(i qkv h) m -> qkv i m h", i=cfg.n_heads, qkv=3
        )
        biases = rearrange(bias, "(i qkv h) -> qkv i h", i=cfg.n_heads, qkv=3)
        for letter, part, b in zip("QKV", parts, biases, strict=True):
            found[f"{ours}.attn.W_{letter}"], found[f"{ours}.attn.b_{letter}"] = part, b
        found[f"{ours}.attn.W_O"] = rearrange(
            state[f"{out}.weight"], "m (i h) -> i h m", i=cfg.n_heads
        )
        found[f"{ours}.attn.b_O"] = state.get(f"{out}.bias", none)
        for here, there in (("in", "dense_h_to_4h"), ("out", "dense_4h_to_h")):
            found[f"{ours}.mlp.W_{here}"] = state[f"{theirs}.mlp.{there}.weight"].T
            found[f"{ours}.mlp.b_{here}"] = state[f"{theirs}.mlp.{there}.bias"]
    for ours, theirs in norms.items():
        for here, there in LAYER_NORM:
            found[f"{ours}.{here}"] = state[f"gpt_neox.{theirs}.{there}"]
    return found

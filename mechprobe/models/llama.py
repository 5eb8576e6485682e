"""Llama and Mistral decoders of Hugging Face as our config and weights.

Rotary positions, grouped-query attention, RMSNorm, gated MLP (Touvron et al. 2023, "LLaMA"; Jiang
et al. 2023, "Mistral 7B", whose sliding window is TransformerLens' local attention).
TransformerLens converts these too, but drops attention biases and takes the head width from
d_model.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from einops import rearrange
from torch import Tensor
from transformer_lens import HookedTransformerConfig
from transformers import LlamaConfig, MistralConfig

from mechprobe.errors import InputError
from mechprobe.models.bert import activation
from mechprobe.models.build import make_config
from mechprobe.models.rotary import rotary_settings


def config_from_hf(config: LlamaConfig | MistralConfig) -> HookedTransformerConfig:
    """Our config for a Hugging Face Llama or Mistral config.

    Raises:
        InputError: biases in the MLP, or a scaling of the rotary angles, that have no counterpart.
    """
    if getattr(config, "mlp_bias", False):
        raise InputError("a Llama with biases in its MLP is not supported; give one without")
    n_kv, n_heads = config.num_key_value_heads, config.num_attention_heads
    window = getattr(config, "sliding_window", None)
    if window is not None and window >= config.max_position_embeddings:
        window = None  # never reached
    return make_config(
        n_layers=config.num_hidden_layers,
        n_heads=n_heads,
        n_key_value_heads=None if n_kv == n_heads else n_kv,
        d_model=config.hidden_size,
        d_head=config.head_dim or config.hidden_size // n_heads,
        d_mlp=config.intermediate_size,
        d_vocab=config.vocab_size,
        n_ctx=config.max_position_embeddings,
        eps=config.rms_norm_eps,
        act_fn=activation(config.hidden_act),
        gated_mlp=True,
        normalization_type="RMS",
        final_rms=True,
        use_local_attn=window is not None,
        window_size=window,
        attn_types=None if window is None else ["local"] * config.num_hidden_layers,
        original_architecture=(
            "MistralForCausalLM" if isinstance(config, MistralConfig) else "LlamaForCausalLM"
        ),
        **rotary_settings(config.rope_parameters, local=window is not None),
    )


def weights(state: Mapping[str, Tensor], cfg: HookedTransformerConfig) -> dict[str, Tensor]:
    """Every weight below the unembedding; biases that the state lacks are 0."""

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(shape, dtype=cfg.dtype)

    assert cfg.d_mlp is not None
    n_heads, n_kv = cfg.n_heads, cfg.n_key_value_heads or cfg.n_heads
    mark = "_" if cfg.n_key_value_heads else ""  # TransformerLens' own for grouped keys and values
    found = {
        "embed.W_E": state["model.embed_tokens.weight"],
        "ln_final.w": state["model.norm.weight"],
    }
    for layer in range(cfg.n_layers):
        ours, theirs = f"blocks.{layer}", f"model.layers.{layer}"
        attn, linear = f"{ours}.attn", f"{theirs}.self_attn"
        found[f"{ours}.ln1.w"] = state[f"{theirs}.input_layernorm.weight"]
        found[f"{ours}.ln2.w"] = state[f"{theirs}.post_attention_layernorm.weight"]
        for letter, first, n in (("Q", "", n_heads), ("K", mark, n_kv), ("V", mark, n_kv)):
            there = f"{linear}.{letter.lower()}_proj"
            weight = state[f"{there}.weight"]
            bias = state.get(f"{there}.bias", zeros(n * cfg.d_head))
            found[f"{attn}.{first}W_{letter}"] = rearrange(weight, "(i h) m -> i m h", i=n)
            found[f"{attn}.{first}b_{letter}"] = rearrange(bias, "(i h) -> i h", i=n)
        out = state[f"{linear}.o_proj.weight"]
        found[f"{attn}.W_O"] = rearrange(out, "m (i h) -> i h m", i=n_heads)
        found[f"{attn}.b_O"] = state.get(f"{linear}.o_proj.bias", zeros(cfg.d_model))
        for here, there in (("gate", "gate_proj"), ("in", "up_proj"), ("out", "down_proj")):
            found[f"{ours}.mlp.W_{here}"] = state[f"{theirs}.mlp.{there}.weight"].T
        found[f"{ours}.mlp.b_in"], found[f"{ours}.mlp.b_out"] = zeros(cfg.d_mlp), zeros(cfg.d_model)
    return found

"""Llama-shaped decoders of ours as Hugging Face modules: Llama, Mistral, llama2.c checkpoints."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from mechprobe.errors import InputError
from mechprobe.models.bert import activation
from mechprobe.models.decoder_shape import refuse_biases, require_shape
from mechprobe.models.rotary import rope_parameters

NEEDED = {
    "normalization_type": "RMS", "final_rms": True, "positional_embedding_type": "rotary",
    "gated_mlp": True, "attn_only": False, "attention_dir": "causal", "parallel_attn_mlp": False,
    "use_attn_scale": True,
}


def llama_to_hf(model: HookedTransformer) -> LlamaForCausalLM | MistralForCausalLM:
    """The same decoder as a Hugging Face module, in eval mode; a Mistral where it has a window.

    Adjacent rotary pairs (llama2.c) become Hugging Face's pairs of halves: the same function.

    Raises:
        InputError: a decoder that is not Llama-shaped, one with MLP biases, or a Mistral with
            biases.
    """
    cfg, ours = model.cfg, model.state_dict()
    refuse_biases(ours, ("mlp.b_in", "mlp.b_out", "mlp.b_gate", "unembed.b_U"), "Llama")
    config = _config(cfg, _has_biases(ours))
    config.tie_word_embeddings = torch.equal(ours["unembed.W_U"].T, ours["embed.W_E"])
    with torch.random.fork_rng(devices=[]):  # its constructor draws weights that are overwritten
        if isinstance(config, MistralConfig):
            module = MistralForCausalLM(config)
        else:
            module = LlamaForCausalLM(config)
    nn.Module.to(module, device=ours["embed.W_E"].device, dtype=ours["embed.W_E"].dtype)
    module.load_state_dict(_weights(ours, cfg, _has_biases(ours)))
    return module.eval()


def _has_biases(ours: dict[str, Tensor]) -> bool:
    return any(
        bool(value.any()) for name, value in ours.items()
        if ".attn.b_" in name or ".attn._b_" in name
    )


def _config(cfg: HookedTransformerConfig, biases: bool) -> LlamaConfig | MistralConfig:
    require_shape(cfg, "Llama", NEEDED)
    shared = {
        "vocab_size": cfg.d_vocab, "hidden_size": cfg.d_model, "intermediate_size": cfg.d_mlp,
        "num_hidden_layers": cfg.n_layers, "num_attention_heads": cfg.n_heads,
        "num_key_value_heads": cfg.n_key_value_heads or cfg.n_heads, "head_dim": cfg.d_head,
        "max_position_embeddings": cfg.n_ctx, "rms_norm_eps": cfg.eps,
        "hidden_act": activation(cfg.act_fn), "rope_parameters": rope_parameters(cfg),
        "bos_token_id": None, "eos_token_id": None,
    }  # fmt: skip
    if cfg.rotary_dim not in (None, cfg.d_head):
        raise InputError(f"Llama turns whole heads; this decoder {cfg.rotary_dim} of {cfg.d_head}")
    if not cfg.use_local_attn:
        return LlamaConfig(attention_bias=biases, **shared)
    if biases or set(cfg.attn_types or ()) != {"local"}:
        raise InputError(
            "attention with a window is Mistral's, which has it in every layer and has no biases; "
            "this decoder differs"
        )
    return MistralConfig(sliding_window=cfg.window_size, **shared)


def _weights(
    ours: dict[str, Tensor], cfg: HookedTransformerConfig, biases: bool
) -> dict[str, Tensor]:
    found = {
        "model.embed_tokens.weight": ours["embed.W_E"],
        "model.norm.weight": ours["ln_final.w"],
        "lm_head.weight": ours["unembed.W_U"].T,
    }
    mark = "_" if cfg.n_key_value_heads else ""
    for layer in range(cfg.n_layers):
        here, there = f"blocks.{layer}", f"model.layers.{layer}"
        attn, linear = f"{here}.attn", f"{there}.self_attn"
        found[f"{there}.input_layernorm.weight"] = ours[f"{here}.ln1.w"]
        found[f"{there}.post_attention_layernorm.weight"] = ours[f"{here}.ln2.w"]
        for letter, first in (("Q", ""), ("K", mark), ("V", mark)):
            weight, bias = (ours[f"{attn}.{first}{part}_{letter}"] for part in ("W", "b"))
            if letter != "V" and cfg.rotary_adjacent_pairs:
                weight, bias = _halves(weight), _halves(bias)
            name = f"{linear}.{letter.lower()}_proj"
            found[f"{name}.weight"] = rearrange(weight, "i m h -> (i h) m")
            if biases:
                found[f"{name}.bias"] = rearrange(bias, "i h -> (i h)")
        found[f"{linear}.o_proj.weight"] = rearrange(ours[f"{attn}.W_O"], "i h m -> m (i h)")
        if biases:
            found[f"{linear}.o_proj.bias"] = ours[f"{attn}.b_O"]
        for own, theirs in (("gate", "gate_proj"), ("in", "up_proj"), ("out", "down_proj")):
            found[f"{there}.mlp.{theirs}.weight"] = ours[f"{here}.mlp.W_{own}"].T
    return found


def _halves(values: Tensor) -> Tensor:
    """The last axis sorted so that pairs (2k, 2k + 1) become pairs (k, k + half)."""
    return rearrange(values, "... (k two) -> ... (two k)", two=2)

"""GPT-2-shaped decoders of ours as Hugging Face modules."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformers import GPT2Config, GPT2LMHeadModel

from mechprobe.errors import InputError
from mechprobe.models.bert import LAYER_NORM, activation
from mechprobe.models.decoder_shape import require_shape


def gpt2_to_hf(model: HookedTransformer) -> GPT2LMHeadModel:
    """The same decoder as a Hugging Face module, in eval mode.

    Raises:
        InputError: a decoder that is not GPT-2-shaped, or has an unembedding bias.
    """
    cfg, ours = model.cfg, model.state_dict()
    config = _config(cfg)
    if (bias := ours.get("unembed.b_U")) is not None and bool(bias.any()):
        raise InputError("GPT-2 has no unembedding bias, and this decoder's is not zero")
    tied = torch.equal(ours["unembed.W_U"].T, ours["embed.W_E"])
    config.tie_word_embeddings = tied
    with torch.random.fork_rng(devices=[]):  # its constructor draws weights that are overwritten
        module = GPT2LMHeadModel(config)
    nn.Module.to(module, device=ours["embed.W_E"].device, dtype=ours["embed.W_E"].dtype)
    module.load_state_dict(_weights(ours, cfg))
    return module.eval()


def _config(cfg: HookedTransformerConfig) -> GPT2Config:
    needed = {
        "normalization_type": "LN", "positional_embedding_type": "standard", "gated_mlp": False,
        "attn_only": False, "attention_dir": "causal", "parallel_attn_mlp": False,
        "use_attn_scale": True, "final_rms": False,
    }
    require_shape(cfg, "GPT-2", needed)
    if cfg.n_heads * cfg.d_head != cfg.d_model:
        raise InputError(
            f"GPT-2 has d_model = n_heads x d_head; this decoder has d_model {cfg.d_model}, "
            f"{cfg.n_heads} heads of {cfg.d_head}"
        )
    return GPT2Config(
        vocab_size=cfg.d_vocab,
        n_positions=cfg.n_ctx,
        n_embd=cfg.d_model,
        n_layer=cfg.n_layers,
        n_head=cfg.n_heads,
        n_inner=cfg.d_mlp,
        activation_function=activation(cfg.act_fn),
        layer_norm_epsilon=cfg.eps,
        scale_attn_by_inverse_layer_idx=cfg.scale_attn_by_inverse_layer_idx,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        bos_token_id=None, eos_token_id=None,
    )


def _weights(ours: dict[str, Tensor], cfg: HookedTransformerConfig) -> dict[str, Tensor]:
    found = {
        "transformer.wte.weight": ours["embed.W_E"],
        "transformer.wpe.weight": ours["pos_embed.W_pos"],
        "lm_head.weight": ours["unembed.W_U"].T,
    }
    norms = {"ln_final": "transformer.ln_f"}
    for layer in range(cfg.n_layers):
        here, there = f"blocks.{layer}", f"transformer.h.{layer}"
        norms |= {f"{here}.ln1": f"{there}.ln_1", f"{here}.ln2": f"{there}.ln_2"}
        weight = torch.stack([ours[f"{here}.attn.W_{letter}"] for letter in "QKV"])
        bias = torch.stack([ours[f"{here}.attn.b_{letter}"] for letter in "QKV"])
        attention = f"{there}.attn"
        found[f"{attention}.c_attn.weight"] = rearrange(weight, "qkv i m h -> m (qkv i h)")
        found[f"{attention}.c_attn.bias"] = rearrange(bias, "qkv i h -> (qkv i h)")
        out = ours[f"{here}.attn.W_O"]
        found[f"{attention}.c_proj.weight"] = rearrange(out, "i h m -> (i h) m")
        found[f"{attention}.c_proj.bias"] = ours[f"{here}.attn.b_O"]
        for own, theirs in (("in", "c_fc"), ("out", "c_proj")):
            found[f"{there}.mlp.{theirs}.weight"] = ours[f"{here}.mlp.W_{own}"]
            found[f"{there}.mlp.{theirs}.bias"] = ours[f"{here}.mlp.b_{own}"]
    for here, there in norms.items():
        for own, theirs in LAYER_NORM:
            found[f"{there}.{theirs}"] = ours[f"{here}.{own}"]
    return found

"""NeoX-shaped decoders of ours (Pythia) as Hugging Face modules."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from mechprobe.errors import InputError
from mechprobe.models.bert import LAYER_NORM, activation
from mechprobe.models.decoder_shape import refuse_biases, require_shape
from mechprobe.models.rotary import rope_parameters

NEEDED = {
    "normalization_type": "LN", "final_rms": False, "positional_embedding_type": "rotary",
    "gated_mlp": False, "attn_only": False, "attention_dir": "causal", "use_attn_scale": True,
    "n_key_value_heads": None, "use_local_attn": False, "rotary_adjacent_pairs": False,
}


def neox_to_hf(model: HookedTransformer) -> GPTNeoXForCausalLM:
    """The same decoder as a Hugging Face module, in eval mode.

    Raises:
        InputError: a decoder that is not NeoX-shaped, or has an unembedding bias.
    """
    cfg, ours = model.cfg, model.state_dict()
    config = _config(cfg)
    refuse_biases(ours, ("unembed.b_U",), "NeoX")
    config.tie_word_embeddings = torch.equal(ours["unembed.W_U"].T, ours["embed.W_E"])
    with torch.random.fork_rng(devices=[]):  # its constructor draws weights that are overwritten
        module = GPTNeoXForCausalLM(config)
    nn.Module.to(module, device=ours["embed.W_E"].device, dtype=ours["embed.W_E"].dtype)
    head = next(n for n in module.state_dict() if n in ("lm_head.weight", "embed_out.weight"))
    module.load_state_dict({**_weights(ours, cfg), head: ours["unembed.W_U"].T})
    return module.eval()


def _config(cfg: HookedTransformerConfig) -> GPTNeoXConfig:
    require_shape(cfg, "NeoX", NEEDED)
    if cfg.n_heads * cfg.d_head != cfg.d_model:
        raise InputError(
            f"NeoX has d_model = n_heads x d_head; this decoder has d_model {cfg.d_model}, "
            f"{cfg.n_heads} heads of {cfg.d_head}"
        )
    assert cfg.d_mlp is not None  # it is not attn_only
    turned = (cfg.rotary_dim or cfg.d_head) / cfg.d_head
    return GPTNeoXConfig(
        vocab_size=cfg.d_vocab, hidden_size=cfg.d_model, intermediate_size=cfg.d_mlp,
        num_hidden_layers=cfg.n_layers, num_attention_heads=cfg.n_heads,
        max_position_embeddings=cfg.n_ctx, layer_norm_eps=cfg.eps,
        hidden_act=activation(cfg.act_fn), use_parallel_residual=cfg.parallel_attn_mlp,
        rope_parameters={**rope_parameters(cfg), "partial_rotary_factor": turned},
        attention_bias=True, hidden_dropout=0.0, attention_dropout=0.0,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip


def _weights(ours: dict[str, Tensor], cfg: HookedTransformerConfig) -> dict[str, Tensor]:
    found = {"gpt_neox.embed_in.weight": ours["embed.W_E"]}
    norms = {"ln_final": "final_layer_norm"}
    for layer in range(cfg.n_layers):
        here, there = f"blocks.{layer}", f"gpt_neox.layers.{layer}"
        norms[f"{here}.ln1"] = f"layers.{layer}.input_layernorm"
        norms[f"{here}.ln2"] = f"layers.{layer}.post_attention_layernorm"
        weight = torch.stack([ours[f"{here}.attn.W_{letter}"] for letter in "QKV"])
        bias = torch.stack([ours[f"{here}.attn.b_{letter}"] for letter in "QKV"])
        linear, out = f"{there}.attention.query_key_value", f"{there}.attention.dense"
        # the rows of this one matrix are sorted by head first
        found[f"{linear}.weight"] = rearrange(weight, "qkv i m h -> (i qkv h) m")
        found[f"{linear}.bias"] = rearrange(bias, "qkv i h -> (i qkv h)")
        found[f"{out}.weight"] = rearrange(ours[f"{here}.attn.W_O"], "i h m -> m (i h)")
        found[f"{out}.bias"] = ours[f"{here}.attn.b_O"]
        for own, theirs in (("in", "dense_h_to_4h"), ("out", "dense_4h_to_h")):
            found[f"{there}.mlp.{theirs}.weight"] = ours[f"{here}.mlp.W_{own}"].T
            found[f"{there}.mlp.{theirs}.bias"] = ours[f"{here}.mlp.b_{own}"]
    for here, there in norms.items():
        for own, theirs in LAYER_NORM:
            found[f"gpt_neox.{there}.{theirs}"] = ours[f"{here}.{own}"]
    return found

"""T5 between Hugging Face and TransformerLens: one table of names and layouts, read both ways.

TransformerLens' own conversion refuses gated T5 (1.1, Flan), takes the input embedding for the
output one, and reads the context length from a field that newer configs lack.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformer_lens import HookedEncoderDecoder, HookedTransformerConfig
from transformers import T5Config, T5ForConditionalGeneration

from mechprobe.errors import InputError
from mechprobe.models.bert import TRANSPOSED, Entry, activation
from mechprobe.models.encoder_decoder import encoder_decoder_config, is_bias

RELATIVE = "relative_attention_bias.weight"


def config_from_hf(config: T5Config) -> HookedTransformerConfig:
    """Our config for a Hugging Face T5 config (1.0 with ReLU or 1.1 with gated MLPs).

    Raises:
        InputError: stacks of different depth, or an activation that has no counterpart here.
    """
    if config.num_decoder_layers != config.num_layers:
        raise InputError(
            f"a T5 with {config.num_layers} encoder and {config.num_decoder_layers} decoder layers "
            "is not supported; give one with as many of each"
        )
    start = getattr(config, "decoder_start_token_id", None)
    return encoder_decoder_config(
        n_layers=config.num_layers,
        n_heads=config.num_heads,
        d_model=config.d_model,
        d_head=config.d_kv,
        d_mlp=config.d_ff,
        d_vocab=config.vocab_size,
        # no limit of the model: its positions are relative; transformers 5 does not save the field
        n_ctx=getattr(config, "n_positions", None) or 512,
        eps=config.layer_norm_epsilon,
        act_fn=activation(config.dense_act_fn),
        gated_mlp=config.is_gated_act,
        relative_attention_num_buckets=config.relative_attention_num_buckets,
        relative_attention_max_distance=config.relative_attention_max_distance,
        decoder_start_token_id=config.pad_token_id or 0 if start is None else start,
        tie_word_embeddings=_scales_output(config),
        original_architecture="T5ForConditionalGeneration",
    )


def _scales_output(config: T5Config) -> bool:
    """Whether the decoder's output is scaled by d_model^-1/2, as T5 1.0 does.

    In TransformerLens ``tie_word_embeddings`` means this and only this; transformers kept both in
    that field too until it gave the scale its own.
    """
    return bool(getattr(config, "scale_decoder_outputs", config.tie_word_embeddings))


def table(cfg: HookedTransformerConfig) -> Iterator[Entry]:
    """Every weight that T5 has; embeddings first."""
    yield Entry("embed.W_E", "shared.weight")
    yield Entry("unembed.W_U", "lm_head.weight", "vocab m -> m vocab")
    for stack in ("encoder", "decoder"):
        yield Entry(f"{stack}_final_ln.w", f"{stack}.final_layer_norm.weight")
        first = f"{stack}.block.0.layer.0.SelfAttention.{RELATIVE}"
        yield Entry(f"{stack}.0.attn.rel_pos_bias.weight", first)
        parts = [("attn", "SelfAttention")]
        parts += [("cross_attn", "EncDecAttention")] if stack == "decoder" else []
        for layer in range(cfg.n_layers):
            ours, theirs = f"{stack}.{layer}", f"{stack}.block.{layer}.layer"
            for i, (here, there) in enumerate(parts):
                yield from _attention(f"{ours}.{here}", f"{theirs}.{i}.{there}")
                yield Entry(f"{ours}.ln{i + 1}.w", f"{theirs}.{i}.layer_norm.weight")
            last = len(parts)
            yield from _mlp(f"{ours}.mlp", f"{theirs}.{last}.DenseReluDense", cfg.gated_mlp)
            yield Entry(f"{ours}.ln{last + 1}.w", f"{theirs}.{last}.layer_norm.weight")


def _attention(ours: str, theirs: str) -> Iterator[Entry]:
    for letter in "QKV":
        name = f"{theirs}.{letter.lower()}.weight"
        yield Entry(f"{ours}.W_{letter}", name, "(i h) m -> i m h")
    yield Entry(f"{ours}.W_O", f"{theirs}.o.weight", "m (i h) -> i h m")


def _mlp(ours: str, theirs: str, gated: bool) -> Iterator[Entry]:
    names = {"W_gate": "wi_0", "W_in": "wi_1"} if gated else {"W_in": "wi"}
    for here, there in (names | {"W_out": "wo"}).items():
        yield Entry(f"{ours}.{here}", f"{theirs}.{there}.weight", TRANSPOSED)


def weights(
    state: Mapping[str, Tensor], cfg: HookedTransformerConfig, model: HookedEncoderDecoder
) -> dict[str, Tensor]:
    """Every weight of our model from a Hugging Face state; biases, which T5 lacks, are zero."""
    given = {e.ours: e.to_ours(state[e.theirs], cfg.n_heads) for e in table(cfg)}
    return given | {
        name: torch.zeros_like(p) for name, p in model.named_parameters() if is_bias(name)
    }


def config_to_hf(cfg: HookedTransformerConfig) -> T5Config:
    """The Hugging Face config of our model; raises InputError where T5 has no such thing."""
    names = {"relu": "relu", "gelu_new": "gelu_new", "silu": "silu", "gelu": "gelu"}
    if cfg.act_fn not in names:
        raise InputError(f"T5 has no activation {cfg.act_fn!r}; one of {', '.join(names)}")
    form = f"gated-{cfg.act_fn}" if cfg.gated_mlp else str(cfg.act_fn)
    settings: dict[str, Any] = {
        "tie_word_embeddings": cfg.tie_word_embeddings,  # read as "scale the output"
        "decoder_start_token_id": cfg.decoder_start_token_id,
    }
    config = T5Config(
        vocab_size=cfg.d_vocab,
        d_model=cfg.d_model,
        d_kv=cfg.d_head,
        d_ff=cfg.d_mlp or 4 * cfg.d_model,
        num_layers=cfg.n_layers,
        num_heads=cfg.n_heads,
        relative_attention_num_buckets=cfg.relative_attention_num_buckets or 32,
        relative_attention_max_distance=cfg.relative_attention_max_distance or 128,
        layer_norm_epsilon=cfg.eps,
        feed_forward_proj=form,
        **settings,
    )
    config.dense_act_fn = cfg.act_fn  # "gated-gelu" means gelu_new there
    return config


def to_hf(model: HookedEncoderDecoder) -> T5ForConditionalGeneration:
    """The same model as a Hugging Face module, in eval mode.

    Raises:
        InputError: a bias that is not zero, which T5 cannot hold, or an unknown activation.
    """
    cfg, ours = model.cfg, model.state_dict()
    odd = [name for name, p in model.named_parameters() if is_bias(name) and bool(p.any())]
    if odd:
        raise InputError(f"T5 has no biases, and {odd[0]} is not zero; set it to zero first")
    with torch.random.fork_rng(devices=[]):  # its constructor draws weights that are overwritten
        module = T5ForConditionalGeneration(config_to_hf(cfg))
    state = {e.theirs: e.to_theirs(ours[e.ours], cfg.n_heads) for e in table(cfg)}
    if not torch.equal(state["lm_head.weight"], state["shared.weight"]):
        # transformers ties the two in every T5, also where a 1.1 has one of each
        module.lm_head.weight = nn.Parameter(torch.empty_like(module.shared.weight))
    nn.Module.to(module, device=model.embed.W_E.device, dtype=model.embed.W_E.dtype)
    module.load_state_dict(state, strict=False)  # the stacks' own names for the shared embedding
    return module.eval()

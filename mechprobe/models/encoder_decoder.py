"""T5-shaped encoder-decoders: fresh ones, empty ones to be filled, and how one is run."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens import HookedEncoderDecoder, HookedTransformerConfig
from transformers import PreTrainedTokenizerBase

from mechprobe.errors import InputError
from mechprobe.models.build import make_config, transformer_lens_quiet, with_vocabulary
from mechprobe.tasks.batches import Batch, Seq2SeqBatch

# what a T5 block does whatever its config says
_FIXED = {
    "normalization_type": "RMS",
    "positional_embedding_type": "relative_positional_bias",
    "attention_dir": "bidirectional",  # the decoder's self-attention is causal all the same
    "use_attn_scale": False,
    "attn_only": False,
    "n_key_value_heads": None,
    "use_split_qkv_input": False,
    "use_attn_in": False,
}


def encoder_decoder_config(**settings: Any) -> HookedTransformerConfig:
    """The config of a T5-shaped model; ReLU MLPs, or gated ones with ``gated_mlp`` (GELU).

    RMSNorm before each block, relative position biases in 32 buckets up to distance 128, no biases
    (Raffel et al. 2020, section 2.1); gated MLPs as in T5 1.1 (Shazeer 2020, "GLU variants").

    Raises:
        InputError: a setting is missing, unknown, or one that a T5 block does not have.
    """
    for name, value in _FIXED.items():
        if settings.get(name, value) != value:
            raise InputError(
                f"{name}={settings[name]!r} cannot be had in an encoder-decoder, which is "
                f"T5-shaped ({name}={value!r}); leave it out"
            )
    defaults = {
        "n_ctx": 512,
        "eps": 1e-6,
        "act_fn": "gelu_new" if settings.get("gated_mlp") else "relu",
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "decoder_start_token_id": 0,
    }
    return make_config(**(defaults | settings | _FIXED))


def empty_encoder_decoder(
    cfg: HookedTransformerConfig, tokenizer: PreTrainedTokenizerBase | None
) -> HookedEncoderDecoder:
    """A HookedEncoderDecoder whose weights are yet to be filled.

    The biases that TransformerLens gives it, and T5 does not have, take no gradient.
    """
    # its position biases are drawn from the process' generator
    with transformer_lens_quiet(), torch.random.fork_rng(devices=[]):
        model = HookedEncoderDecoder(cfg, tokenizer=tokenizer, move_to_device=False)
    nn.Module.to(model, cfg.dtype)  # the position biases ignore the config's dtype
    for name, parameter in model.named_parameters():
        if is_bias(name):
            parameter.requires_grad_(False)
    return model


def is_bias(name: str) -> bool:
    """Whether a parameter is one of the biases that T5 does not have."""
    return name.rsplit(".", 1)[-1].startswith("b_")


def build_encoder_decoder(
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    seed: int = 0,
    position_std: float | None = None,
    **settings: Any,
) -> HookedEncoderDecoder:
    """A fresh T5-shaped encoder-decoder, initialised to be trained from scratch.

    Weights are N(0, s) with T5's own s: 1 for embeddings, (d_model d_head)^-1/2 for queries,
    d_model^-1/2 for keys, values, position biases and the MLP's input, (n_heads d_head)^-1/2 and
    d_mlp^-1/2 for what writes to the residual stream (Mesh TensorFlow's rules, Raffel et al. 2020).
    The unembedding is d_model^-1/2; with ``tie_word_embeddings`` it starts as the transposed
    embedding and the decoder's output is scaled by d_model^-1/2, which gives logits of the same
    size. It is a parameter of its own, so in training the two part.

    Args:
        tokenizer: kept on the model; gives d_vocab when it is not in ``settings``, and its padding
            token is what the decoder starts with.
        seed: decides every weight.
        position_std: standard deviation of the position biases, when not T5's own. A small model
            trained briefly by Adam hardly moves them from near 0 and then confuses the order of
            words; from 1.5 its heads tell positions from the start.
        settings: n_layers (of each stack), n_heads, d_model, d_vocab; also d_head, d_mlp,
            gated_mlp, relative_attention_num_buckets and other fields of
            ``HookedTransformerConfig``.

    Raises:
        InputError: a setting is missing, unknown or impossible.
    """
    if position_std is not None and not position_std > 0:
        raise InputError(f"position_std is {position_std}; give more than 0, or None for T5's own")
    if tokenizer is not None and tokenizer.pad_token_id is not None:
        settings.setdefault("decoder_start_token_id", tokenizer.pad_token_id)
    cfg = encoder_decoder_config(**with_vocabulary(settings, tokenizer))
    model = empty_encoder_decoder(cfg, tokenizer)
    _initialise(model, seed, position_std)
    return model


def _initialise(model: HookedEncoderDecoder, seed: int, position_std: float | None) -> None:
    """Fill weights by T5's rule from a generator of its own, in place."""
    cfg = model.cfg
    assert cfg.d_mlp is not None
    stds = {
        "W_E": 1.0,
        "W_U": cfg.d_model**-0.5,
        "W_Q": (cfg.d_model * cfg.d_head) ** -0.5,
        "W_K": cfg.d_model**-0.5,
        "W_V": cfg.d_model**-0.5,
        "W_O": (cfg.n_heads * cfg.d_head) ** -0.5,
        "weight": position_std or cfg.d_model**-0.5,  # of the relative position biases
        "W_in": cfg.d_model**-0.5,
        "W_gate": cfg.d_model**-0.5,
        "W_out": cfg.d_mlp**-0.5,
    }
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            leaf = name.rsplit(".", 1)[-1]
            if leaf in stds:
                draw = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.copy_(draw * stds[leaf])
            else:
                parameter.fill_(1.0 if leaf == "w" else 0.0)
        if cfg.tie_word_embeddings:
            model.unembed.W_U.copy_(model.embed.W_E.T)


def encoder_decoder_logits(
    model: HookedEncoderDecoder, batch: Batch
) -> Float[Tensor, "batch dec_pos vocab"]:
    """Teacher-forced logits: at position t about decoder token t + 1.

    A greedy output equals a target exactly where every argmax of these equals the target's token.

    Raises:
        InputError: a batch without decoder tokens, or padded on the decoder's left.
    """
    if not isinstance(batch, Seq2SeqBatch):
        raise InputError(
            f"an encoder-decoder reads a source and decoder tokens, and a {type(batch).__name__} "
            "has only one side; give a Seq2SeqBatch (mechprobe.tasks.seq2seq_batch)"
        )
    if (batch.decoder_mask.diff(dim=1) > 0).any():
        raise InputError("a decoder side with padding before real tokens; pad it on the right")
    weight = model.embed.W_E
    # TransformerLens does not follow a model that was moved or cast
    model.cfg.device, model.cfg.dtype = str(weight.device), weight.dtype
    return model(
        batch.tokens.to(weight.device),
        decoder_input=batch.decoder_tokens.to(weight.device),
        # in the weights' precision: an integer mask times float64's smallest number is NaN
        one_zero_attention_mask=batch.attention_mask.to(weight),
    )

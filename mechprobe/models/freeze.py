"""Take the weights of any supported model out of its hooked classes (``mechprobe.models.frozen``).

Only settings that are known to change nothing, or that are carried over, are let through; any other
raises ``CannotFreeze``, so that a fast path never computes something else than the model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any

import torch
from torch import Tensor, nn
from transformer_lens import HookedEncoder, HookedEncoderDecoder, HookedTransformer
from transformer_lens.utilities.tensors import get_offset_position_ids

from mechprobe.models.classifier import HookedClassifier
from mechprobe.models.decoder_classifier import HookedDecoderClassifier
from mechprobe.models.edits import HookedModel
from mechprobe.models.fixed_length import HookedFixedLengthEncoder
from mechprobe.models.freeze_blocks import (
    bert_stack,
    decoder_stack,
    encoder_decoder_stacks,
    pre_norm_stack,
)
from mechprobe.models.frozen import CannotFreeze, Frozen, Stack, Start, Turn
from mechprobe.models.matmul import linear
from mechprobe.tasks.batches import Batch, Seq2SeqBatch

# settings that change nothing, or whose effect is carried over below and in freeze_blocks
_CARRIED = {
    "n_layers", "n_heads", "d_model", "d_head", "d_mlp", "n_ctx", "d_vocab", "d_vocab_out", "eps",
    "act_fn", "attn_scale", "dtype", "device", "n_params", "model_name", "tokenizer_name",
    "init_mode", "init_weights", "seed", "initializer_range", "default_prepend_bos",
    "tokenizer_prepends_bos", "from_checkpoint", "checkpoint_index", "checkpoint_label_type",
    "checkpoint_value", "use_attn_result", "use_split_qkv_input", "use_hook_mlp_in", "use_attn_in",
    "original_architecture", "attention_dir", "normalization_type", "positional_embedding_type",
    "rotary_dim", "rotary_base", "rotary_adjacent_pairs", "rotary_scaling_factor",
    "use_NTK_by_parts_rope", "NTK_by_parts_factor", "NTK_by_parts_low_freq_factor",
    "NTK_by_parts_high_freq_factor", "NTK_original_ctx_len", "rotary_base_local",
    "use_attn_scale", "scale_attn_by_inverse_layer_idx", "n_key_value_heads", "gated_mlp",
    "final_rms", "attn_only", "parallel_attn_mlp", "use_local_attn", "window_size", "attn_types",
    "tie_word_embeddings", "relative_attention_num_buckets", "relative_attention_max_distance",
    "decoder_start_token_id", "post_embedding_ln", "use_hook_tokens",
    "ungroup_grouped_query_attention", "n_devices",
}  # fmt: skip
_REARRANGED = ("Olmo2ForCausalLM", "Olmo3ForCausalLM", "OlmoeForCausalLM")


def freeze(model: HookedModel) -> Frozen:
    """The model's weights, copied, with how batches enter and leave them.

    Raises:
        CannotFreeze: a setting that is not carried over, or hooks that stand on the model.
    """
    _check(model)
    weight = next(model.parameters())
    with torch.no_grad():
        match model:
            case HookedClassifier():
                parts = (bert_stack(model.blocks),), _encoder_start(model), _classify(model)
            case HookedFixedLengthEncoder():
                parts = _fixed_length(model)
            case HookedEncoder():
                parts = (bert_stack(model.blocks),), _encoder_start(model), _masked_lm(model)
            case HookedDecoderClassifier():
                parts = (decoder_stack(model),), _decoder_start(model), _classify_last(model)
            case HookedTransformer():
                parts = (decoder_stack(model),), _decoder_start(model), _unembed(model)
            case _:
                parts = encoder_decoder_stacks(model), _seq2seq_start(model), _unembed_t5(model)
    stacks, start, read_out = parts
    return Frozen(stacks, start, read_out, weight.dtype, weight.device)


def hooked(model: nn.Module) -> bool:
    """Whether anything listens or edits inside the model."""
    return any(
        m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks
        for m in model.modules()
    )


def _check(model: HookedModel) -> None:
    if hooked(model):
        raise CannotFreeze("hooks stand on the model")
    if not getattr(model, "standard_blocks", True):
        raise CannotFreeze("its blocks are its own")
    weights = list(model.parameters())
    if weights[0].dtype not in (torch.float32, torch.float64):
        raise CannotFreeze(f"weights in {weights[0].dtype}")
    if any(w.dtype != weights[0].dtype or w.device != weights[0].device for w in weights):
        raise CannotFreeze("weights in several precisions or on several devices")
    if torch.is_autocast_enabled(weights[0].device.type):
        raise CannotFreeze("autocast is on")
    cfg: Any = model.cfg
    for field in fields(cfg):
        if field.name in _CARRIED or field.default is MISSING:
            continue
        if (value := getattr(cfg, field.name)) != field.default:
            raise CannotFreeze(f"setting {field.name}={value!r}")
    if cfg.original_architecture in _REARRANGED:
        raise CannotFreeze(f"architecture {cfg.original_architecture}")


def _padding(mask: Tensor, stream: Tensor, floor: float) -> Tensor | None:
    """What padded keys add to scores [batch, 1, 1, key]; None where nothing is padded."""
    if bool(mask.all()):
        return None
    none = torch.zeros((), dtype=stream.dtype, device=stream.device)
    return torch.where(mask[:, None, None, :] == 0, floor, none)


def _encoder_start(model: HookedClassifier | HookedEncoder) -> Callable[[Batch], Start]:
    classifier = isinstance(model, HookedClassifier)

    def start(batch: Batch) -> Start:
        device = next(model.parameters()).device
        if batch.tokens.shape[1] > model.cfg.n_ctx:
            model(batch.tokens.to(device))  # raises what the model says
        stream = model.embed(batch.tokens.to(device), batch.segments.to(device))
        mask = batch.attention_mask.to(device)
        floor = torch.finfo(stream.dtype).min if classifier else -torch.inf
        read = torch.zeros(len(stream), dtype=torch.long, device=device) if classifier else None
        nothing = not classifier and not bool(mask.any(1).all())
        return Start((stream,), {"keys": _padding(mask, stream, floor)}, nothing, {}, read)

    return start


def _classify(model: HookedClassifier) -> Callable[[Tensor], Tensor]:
    into, into_b = _copy(model.pooler.W.t()), _copy(model.pooler.b)
    weight, bias = _copy(model.classifier.weight), _copy(model.classifier.bias)

    def read_out(stream: Tensor) -> Tensor:
        return linear(torch.tanh(linear(stream[:, 0], into, into_b)), weight, bias)

    return read_out


def _masked_lm(model: HookedEncoder) -> Callable[[Tensor], Tensor]:
    m: Any = model  # without trained heads these modules are identities

    def read_out(stream: Tensor) -> Tensor:
        return m.unembed(m.mlm_head(stream))

    return read_out


Parts = tuple[tuple[Stack, ...], Callable[[Batch], Start], Callable[[Tensor], Tensor]]


def _fixed_length(model: HookedFixedLengthEncoder) -> Parts:
    pre = model.norm == "pre"
    stack = pre_norm_stack(model) if pre else bert_stack(model.blocks)
    weight, bias = _copy(model.classifier.weight), _copy(model.classifier.bias)
    flat = model.readout == "flat"

    def start(batch: Batch) -> Start:
        device = weight.device
        tokens, mask = batch.tokens.to(device), batch.attention_mask.to(device)
        if tokens.shape[1] != model.cfg.n_ctx:
            model(tokens)  # raises what the model says
        stream = model.embed(tokens) + model.pos_embed(tokens)
        keys = _padding(mask, stream, torch.finfo(stream.dtype).min)
        return Start((stream,), {"keys": keys}, False, {}, None)

    def read_out(stream: Tensor) -> Tensor:
        return linear(stream.flatten(1) if flat else stream, weight, bias)

    return (stack,), start, read_out


def _decoder_start(model: HookedTransformer | HookedDecoderClassifier) -> Callable[[Batch], Start]:
    classifier = isinstance(model, HookedDecoderClassifier)
    parts: Any = model

    def start(batch: Batch) -> Start:
        device = next(model.parameters()).device
        tokens, mask = batch.tokens.to(device), batch.attention_mask.to(device)
        if classifier:
            if tokens.shape[1] > model.cfg.n_ctx:
                parts(tokens)  # raises what the model says
            stream = parts.embed(tokens)
            if parts.absolute:
                stream = stream + parts.pos_embed(tokens, 0, mask)
        else:
            stream = parts.input_to_embed(tokens, attention_mask=mask)[0]
        biases, nothing = _causal(model, mask, stream)
        order = torch.arange(tokens.shape[1], device=device)
        read = (mask * order).argmax(-1) if classifier else None
        return Start((stream,), biases, nothing, _turns(model, mask), read)

    return start


def _causal(
    model: HookedTransformer | HookedDecoderClassifier, mask: Tensor, stream: Tensor
) -> tuple[dict[str, Tensor | None], bool]:
    """Score biases by kind of attention, and whether a query may look at nothing."""
    cfg: Any = model.cfg
    place = torch.arange(mask.shape[1], device=mask.device)
    if cfg.attention_dir == "bidirectional":
        return {"global": None, "local": None}, False
    seen = place[None, :] <= place[:, None]
    kinds = {"global": seen}
    if cfg.use_local_attn:
        kinds["local"] = seen & (place[None, :] > place[:, None] - cfg.window_size)
    none = torch.zeros((), dtype=stream.dtype, device=stream.device)
    biases: dict[str, Tensor | None] = {}
    nothing = False
    for kind, allowed in kinds.items():
        both = allowed[None, None] & mask[:, None, None, :].bool()
        if bool(mask.all()):
            both = both[:1]
        nothing |= not bool(both.any(-1).all())
        biases[kind] = torch.where(both, none, -torch.inf)
    return biases, nothing


def _turns(model: HookedTransformer | HookedDecoderClassifier, mask: Tensor) -> dict[str, Turn]:
    """Rotary angles of each kind of attention."""
    cfg: Any = model.cfg
    if cfg.positional_embedding_type != "rotary":
        return {}
    place = get_offset_position_ids(0, mask)
    found: dict[str, Turn] = {}
    for block in model.blocks:
        attn: Any = block.attn
        if attn.attn_type in found:
            continue
        if (needed := mask.shape[1]) > attn.rotary_cos.shape[0]:
            attn._extend_rotary_embeddings(min(cfg.n_ctx, max(needed, 2 * len(attn.rotary_cos))))
        cos, sin = attn.rotary_cos[place][:, None], attn.rotary_sin[place][:, None]
        found[attn.attn_type] = Turn(cos, sin, cfg.rotary_adjacent_pairs)
    return found


def _classify_last(model: HookedDecoderClassifier) -> Callable[[Tensor], Tensor]:
    weight, bias = _copy(model.classifier.weight), _copy(model.classifier.bias)

    def read_out(stream: Tensor) -> Tensor:
        return linear(stream[:, 0], weight, bias)

    return read_out


def _unembed(model: HookedTransformer) -> Callable[[Tensor], Tensor]:
    weight, bias = _copy(model.unembed.W_U.t()), _copy(model.unembed.b_U)

    def read_out(stream: Tensor) -> Tensor:
        return linear(stream, weight, bias)

    return read_out


def _unembed_t5(model: HookedEncoderDecoder) -> Callable[[Tensor], Tensor]:
    scale = model.cfg.d_model**-0.5 if model.cfg.tie_word_embeddings else 1.0
    weight, bias = _copy(model.unembed.W_U.t()) * scale, _copy(model.unembed.b_U)

    def read_out(stream: Tensor) -> Tensor:
        return linear(stream, weight, bias)

    return read_out


def _seq2seq_start(model: HookedEncoderDecoder) -> Callable[[Batch], Start]:
    def start(batch: Batch) -> Start:
        assert isinstance(batch, Seq2SeqBatch)
        device = next(model.parameters()).device
        mask = batch.attention_mask.to(device)
        streams = tuple(
            model.embed(tokens.to(device)) for tokens in (batch.tokens, batch.decoder_tokens)
        )
        keys = _padding(mask, streams[0], torch.finfo(streams[0].dtype).min)
        n, m = streams[0].shape[1], streams[1].shape[1]
        own = model.encoder[0].attn.compute_relative_attention_bias(n, n, device=device)
        later = torch.ones(m, m, dtype=torch.bool, device=device).triu(1)
        decoder = model.decoder[0].attn.compute_relative_attention_bias(m, m, device=device)
        biases: dict[str, Tensor | None] = {
            "enc": own if keys is None else own + keys,
            "dec": decoder.masked_fill(later, -torch.inf),
            "cross": keys,
        }
        return Start(streams, biases, False, {}, None)

    return start


def _copy(weight: Tensor) -> Tensor:
    return weight.detach().contiguous().clone()


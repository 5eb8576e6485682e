"""The blocks of each hooked class as stages of plain weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from einops import rearrange
from torch import Tensor, nn
from transformer_lens import HookedEncoderDecoder, HookedTransformer
from transformer_lens.components.layer_norm import LayerNorm
from transformer_lens.components.layer_norm_pre import LayerNormPre
from transformer_lens.components.rms_norm import RMSNorm
from transformer_lens.components.rms_norm_pre import RMSNormPre

from mechprobe.models.decoder_classifier import HookedDecoderClassifier
from mechprobe.models.fixed_length import HookedFixedLengthEncoder
from mechprobe.models.frozen import MLP, Attention, CannotFreeze, Norm, Part, Stack, Stage
from mechprobe.sites import Site
from mechprobe.sites import Stack as StackName

ACTIVATIONS = {
    "gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu",
    "silu": "silu",
}  # fmt: skip


def norm_of(module: nn.Module) -> Norm | None:
    """A norm's numbers; None for none at all."""
    match module:
        case nn.Identity():
            return None
        case LayerNorm():
            return Norm("layer", _flat(module.w), _flat(module.b), float(module.eps))
        case LayerNormPre():
            return Norm("layer", None, None, float(module.eps))
        case RMSNorm():
            return Norm("rms", _flat(module.w), None, float(module.eps))
        case RMSNormPre():
            return Norm("rms", None, None, float(module.eps))
    raise CannotFreeze(f"norm {type(module).__name__}")


def _flat(weight: Tensor, pattern: str = "") -> Tensor:
    weight = weight.detach()
    return (rearrange(weight, pattern) if pattern else weight).contiguous().clone()


def attention_of(
    attn: Any, site: Site, bias: str, turned: str = "", memory: bool = False
) -> Attention:
    """An attention layer's weights, its scale folded into the queries'."""
    grouped = hasattr(attn, "_W_K")
    w_k, w_v = (attn._W_K, attn._W_V) if grouped else (attn.W_K, attn.W_V)
    b_k, b_v = (attn._b_K, attn._b_V) if grouped else (attn.b_K, attn.b_V)
    if attn.q_norm is not None or getattr(attn, "k_norm", None) is not None:
        raise CannotFreeze("norms of queries and keys")
    n_heads, _, d_head = attn.W_Q.shape
    scale = 1.0 / float(attn.attn_scale)
    heads = "i m h -> (i h) m"
    return Attention(
        site, n_heads, len(w_k), d_head,
        _flat(attn.W_Q, heads) * scale, _flat(attn.b_Q, "i h -> (i h)") * scale,
        _flat(w_k, heads), _flat(b_k, "i h -> (i h)"),
        _flat(w_v, heads), _flat(b_v, "i h -> (i h)"),
        _flat(attn.W_O, "i h m -> (i h) m"), _flat(attn.b_O), bias, turned, memory,
    )


def mlp_of(mlp: Any, layer: int, stack: StackName = "") -> MLP:
    """An MLP's weights."""
    cfg = mlp.cfg
    if cfg.act_fn not in ACTIVATIONS or cfg.is_layer_norm_activation():
        raise CannotFreeze(f"activation {cfg.act_fn!r}")
    gate = _flat(mlp.W_gate, "m n -> n m") if cfg.gated_mlp else None
    return MLP(
        Site("mlp", layer, None, stack), Site("neuron", layer, None, stack),
        _flat(mlp.W_in, "m n -> n m"), _flat(mlp.b_in), gate, _flat(mlp.W_out),
        _flat(mlp.b_out), ACTIVATIONS[cfg.act_fn],
    )


def bert_stack(blocks: Iterable[nn.Module]) -> Stack:
    """Blocks with a norm after each sum."""
    stages = []
    for layer, block in enumerate(blocks):
        b: Any = block
        attn = attention_of(b.attn, Site("head", layer), "keys")
        stages.append(Stage((Part(attn, None),), norm_of(b.ln1)))
        stages.append(Stage((Part(mlp_of(b.mlp, layer), None),), norm_of(b.ln2)))
    return Stack(tuple(stages), None)


def pre_norm_stack(model: HookedFixedLengthEncoder) -> Stack:
    """Bidirectional blocks with a norm before attention and MLP."""
    stages = []
    for layer, block in enumerate(model.blocks):
        b: Any = block
        attn = attention_of(b.attn, Site("head", layer), "keys")
        stages.append(Stage((Part(attn, norm_of(b.ln1)),), None))
        stages.append(Stage((Part(mlp_of(b.mlp, layer), norm_of(b.ln2)),), None))
    return Stack(tuple(stages), norm_of(model.ln_final))


def decoder_stack(model: HookedTransformer | HookedDecoderClassifier) -> Stack:
    """Causal blocks: one part after the other, side by side, or attention only."""
    cfg: Any = model.cfg
    if cfg.positional_embedding_type not in ("standard", "rotary"):
        raise CannotFreeze(f"{cfg.positional_embedding_type} positions")
    rotary = cfg.positional_embedding_type == "rotary"
    stages = []
    for layer, block in enumerate(model.blocks):
        b: Any = block
        kind = b.attn.attn_type
        attn = attention_of(b.attn, Site("head", layer), kind, kind if rotary else "")
        parts = [Part(attn, norm_of(b.ln1))]
        if not cfg.attn_only:
            parts.append(Part(mlp_of(b.mlp, layer), norm_of(b.ln2)))
        together = cfg.parallel_attn_mlp
        stages += [Stage(tuple(parts), None)] if together else [Stage((p,), None) for p in parts]
    none = cfg.normalization_type is None
    return Stack(tuple(stages), None if none else norm_of(model.ln_final))


def encoder_decoder_stacks(model: HookedEncoderDecoder) -> tuple[Stack, ...]:
    """Encoder; decoder with cross-attention."""
    encoder, decoder = [], []
    for layer, block in enumerate(model.encoder):
        b: Any = block
        attn = attention_of(b.attn, Site("head", layer, None, "enc"), "enc")
        parts = [Part(attn, norm_of(b.ln1)), Part(mlp_of(b.mlp, layer, "enc"), norm_of(b.ln2))]
        encoder += [Stage((part,), None) for part in parts]
    for layer, block in enumerate(model.decoder):
        b = block
        attn = attention_of(b.attn, Site("head", layer, None, "dec"), "dec")
        site = Site("head", layer, None, "cross")
        cross = attention_of(b.cross_attn, site, "cross", memory=True)
        parts = [
            Part(attn, norm_of(b.ln1)), Part(cross, norm_of(b.ln2)),
            Part(mlp_of(b.mlp, layer, "dec"), norm_of(b.ln3)),
        ]
        decoder += [Stage((part,), None) for part in parts]
    return (
        Stack(tuple(encoder), norm_of(model.encoder_final_ln)),
        Stack(tuple(decoder), norm_of(model.decoder_final_ln)),
    )

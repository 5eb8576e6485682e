"""A BERT block with TransformerLens' parameters, hook points and numbers, in less time on CPUs.

Three differences, none in what is computed: matrix products go through ``linear``; LayerNorm is
fused while nobody listens inside it; softmax is not searched for NaN, since masks are finite.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from transformer_lens import HookedTransformerConfig
from transformer_lens.components.attention import Attention
from transformer_lens.components.bert_block import BertBlock
from transformer_lens.components.layer_norm import LayerNorm
from transformer_lens.components.mlps.mlp import MLP
from transformer_lens.hook_points import HookPoint

from mechprobe.models.matmul import linear

# settings that change nothing about how a BERT block computes, whatever their value
_FREE = {
    "n_layers", "n_heads", "d_model", "d_head", "d_mlp", "n_ctx", "d_vocab", "d_vocab_out", "eps",
    "act_fn", "attn_scale", "dtype", "device", "n_params", "model_name", "original_architecture",
    "tokenizer_name", "init_mode", "init_weights", "seed", "initializer_range",
    "default_prepend_bos", "tokenizer_prepends_bos", "from_checkpoint", "checkpoint_index",
    "checkpoint_label_type", "checkpoint_value", "use_attn_result", "use_split_qkv_input",
    "use_hook_mlp_in",
}  # fmt: skip


def bert_block(cfg: HookedTransformerConfig) -> BertBlock:
    """A block for this config: the fast one, or TransformerLens' own for unusual settings."""
    usual = {f.name: f.default for f in fields(cfg) if f.default is not MISSING}
    usual |= {"attention_dir": "bidirectional"}
    plain = all(getattr(cfg, name) == v for name, v in usual.items() if name not in _FREE)
    if not plain or cfg.is_layer_norm_activation():
        return BertBlock(cfg)
    return _FastBlock(cfg)


class _FastBlock(BertBlock):
    def __init__(self, cfg: HookedTransformerConfig) -> None:
        super().__init__(cfg)
        self.attn, self.mlp = _FastAttention(cfg), _FastMLP(cfg)
        self.ln1, self.ln2 = FusedLayerNorm(cfg), FusedLayerNorm(cfg)


def _heard(point: HookPoint) -> bool:
    return bool(point._forward_hooks or point._backward_hooks or point._forward_pre_hooks)


class FusedLayerNorm(LayerNorm):
    """LayerNorm in one pass, unless a hook wants the scale or the normalised value."""

    def forward(self, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
        if _heard(self.hook_scale) or _heard(self.hook_normalized):
            return super().forward(x)
        return F.layer_norm(x, (self.length,), self.w, self.b, self.eps)


class _FastMLP(MLP):
    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        pre = self.hook_pre(linear(x, self.W_in.t(), self.b_in))
        return linear(self.hook_post(self.act_fn(pre)), self.W_out.t(), self.b_out)


class _FastAttention(Attention):
    def forward(
        self,
        query_input: Tensor,
        key_input: Tensor,
        value_input: Tensor,
        past_kv_cache_entry: Any = None,
        additive_attention_mask: Float[Tensor, "batch 1 1 key"] | None = None,
        attention_mask: Any = None,
        position_bias: Any = None,
    ) -> Float[Tensor, "batch pos d_model"]:
        if self.cfg.use_attn_result or self.cfg.use_split_qkv_input:
            return super().forward(
                query_input,
                key_input,
                value_input,
                additive_attention_mask=additive_attention_mask,
            )
        q = self.hook_q(_to_heads(query_input, self.W_Q, self.b_Q))
        k = self.hook_k(_to_heads(key_input, self.W_K, self.b_K))
        v = self.hook_v(_to_heads(value_input, self.W_V, self.b_V))
        scores = self.calculate_attention_scores(q, k)
        if additive_attention_mask is not None:
            scores = scores + additive_attention_mask
        pattern = self.hook_pattern(F.softmax(self.hook_attn_scores(scores), dim=-1))
        z = self.calculate_z_scores(v, pattern)  # passes hook_z
        return linear(z.flatten(2), rearrange(self.W_O, "i h m -> m (i h)"), self.b_O)


def _to_heads(
    x: Float[Tensor, "batch pos d_model"],
    weight: Float[Tensor, "head d_model d_head"],
    bias: Float[Tensor, "head d_head"],
) -> Float[Tensor, "batch pos head d_head"]:
    flat = linear(x, rearrange(weight, "i m h -> (i h) m"), bias.flatten())
    return flat.unflatten(-1, bias.shape)

"""Encoders of sequences of one fixed length, read out flat (one answer) or at each position."""

from __future__ import annotations

from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens import HookedTransformerConfig
from transformer_lens.components.bert_block import BertBlock
from transformer_lens.components.embed import Embed
from transformer_lens.components.pos_embed import PosEmbed
from transformer_lens.hook_points import HookPoint
from transformer_lens.HookedRootModule import HookedRootModule
from transformer_lens.utilities.tensors import repeat_along_head_dimension
from transformer_lens.utilities.typed_module_list import TypedModuleList

from mechprobe.errors import InputError
from mechprobe.models.blocks import FusedLayerNorm, bert_block
from mechprobe.models.build import make_config

READOUTS, NORMS = ("flat", "position"), ("pre", "post")


class HookedFixedLengthEncoder(HookedRootModule):
    """A bidirectional encoder of sequences of exactly ``cfg.n_ctx`` tokens, with a linear read-out.

    Hook names are those of TransformerLens' HookedTransformer. The shape of the models of
    Garnier-Brun et al. 2024 (arXiv 2408.15138), with LayerNorm before or after each sum. There is
    no dropout. Weights are uninitialised until ``build_fixed_length_encoder`` or ``load_model``
    fills them.

    Attributes:
        cfg: the TransformerLens config; ``d_vocab_out`` is the number of outputs.
        readout: "flat": all positions side by side go through one linear layer, one answer a
            sequence; "position": each position has its own answer through a shared one.
        norm: "pre" or "post" LayerNorm.
        tokenizer: None; tokens are symbols.
        standard_blocks: whether blocks are attention and MLP with weights, as the engine expects.
    """

    standard_blocks = True

    def __init__(self, cfg: HookedTransformerConfig, readout: str, norm: str) -> None:
        super().__init__()
        if readout not in READOUTS or norm not in NORMS:
            raise InputError(
                f"readout {readout!r} and norm {norm!r}; expected readout 'flat' or 'position' and "
                "norm 'pre' or 'post'"
            )
        self.cfg = cfg
        self.readout, self.norm = readout, norm
        self.tokenizer = None
        self.embed, self.hook_embed = Embed(cfg), HookPoint()
        self.pos_embed, self.hook_pos_embed = PosEmbed(cfg), HookPoint()
        make = bert_block if norm == "post" else _PreNormBlock
        self.blocks = TypedModuleList([make(cfg) for _ in range(cfg.n_layers)])
        self.ln_final = FusedLayerNorm(cfg) if norm == "pre" else nn.Identity()
        width = cfg.d_model * (cfg.n_ctx if readout == "flat" else 1)
        # a plain Linear() would draw from the process' generator
        linear = nn.utils.skip_init(nn.Linear, width, cfg.d_vocab_out, dtype=cfg.dtype)
        self.classifier = cast(nn.Linear, linear)
        self.setup()

    def forward(
        self,
        tokens: Int[Tensor, "batch pos"],
        token_type_ids: Int[Tensor, "batch pos"] | None = None,
        one_zero_attention_mask: Int[Tensor, "batch pos"] | None = None,
    ) -> Float[Tensor, "batch *pos output"]:
        """Logits [batch, output] of a flat read-out, [batch, pos, output] of one at each position.

        Args:
            tokens: symbols, each row of length ``cfg.n_ctx``.
            token_type_ids: ignored, since there are no segments.
            one_zero_attention_mask: 0 where no query may look; all may be looked at when None.

        Raises:
            InputError: sequences of another length.
        """
        if tokens.shape[1] != self.cfg.n_ctx:
            raise InputError(
                f"a sequence of {tokens.shape[1]} tokens; this model reads exactly {self.cfg.n_ctx}"
            )
        resid = self.hook_embed(self.embed(tokens)) + self.hook_pos_embed(self.pos_embed(tokens))
        additive = None
        if one_zero_attention_mask is not None:
            lowest = torch.finfo(resid.dtype).min
            additive = (1 - one_zero_attention_mask[:, None, None, :]).to(resid.dtype) * lowest
        for block in self.blocks:
            resid = block(resid, additive)
        resid = self.ln_final(resid)
        return self.classifier(resid.flatten(1) if self.readout == "flat" else resid)

    def to(self, *args: Any, **kwargs: Any) -> HookedFixedLengthEncoder:
        """Move as ``nn.Module.to`` does, and keep ``cfg.device`` and ``cfg.dtype`` true."""
        super().to(*args, **kwargs)
        weight = self.classifier.weight
        self.cfg.device, self.cfg.dtype = str(weight.device), weight.dtype
        return self


class _PreNormBlock(nn.Module):
    """Attention and MLP, each on a normalised copy of the stream; BERT's parts in GPT-2's order."""

    def __init__(self, cfg: HookedTransformerConfig) -> None:
        super().__init__()
        self.cfg = cfg
        own: BertBlock = bert_block(cfg)
        for name, part in own.named_children():
            if name != "hook_normalized_resid_post":
                self.add_module(name, part)

    def forward(
        self,
        resid_pre: Float[Tensor, "batch pos d_model"],
        additive_attention_mask: Float[Tensor, "batch 1 1 pos"] | None = None,
    ) -> Float[Tensor, "batch pos d_model"]:
        part: Any = self._modules
        resid_pre = part["hook_resid_pre"](resid_pre)
        inputs = [resid_pre] * 3
        if self.cfg.use_split_qkv_input:
            n = self.cfg.n_heads
            inputs = [
                part[f"hook_{x}_input"](repeat_along_head_dimension(resid_pre, n)) for x in "qkv"
            ]
        q, k, v = (part["ln1"](x) for x in inputs) if self.cfg.use_split_qkv_input else (
            [part["ln1"](resid_pre)] * 3
        )
        attended = part["attn"](q, k, v, additive_attention_mask=additive_attention_mask)
        resid_mid = part["hook_resid_mid"](resid_pre + part["hook_attn_out"](attended))
        mlp_in = part["hook_mlp_in"](resid_mid.clone()) if self.cfg.use_hook_mlp_in else resid_mid
        mlp_out = part["hook_mlp_out"](part["mlp"](part["ln2"](mlp_in)))
        return part["hook_resid_post"](resid_mid + mlp_out)


def build_fixed_length_encoder(
    n_outputs: int,
    readout: str,
    *,
    n_layers: int,
    n_heads: int,
    d_model: int,
    n_ctx: int,
    d_vocab: int,
    d_mlp: int | None = None,
    norm: str = "pre",
    positions: str = "learned",
    act: str = "relu",
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> HookedFixedLengthEncoder:
    """A fresh encoder of sequences of ``n_ctx`` symbols, its weights decided by the seed only.

    Embeddings and learned positions start as N(0, 1), weights as N(0, 1 / (3 fan-in)), PyTorch's
    own scale for linear layers, biases as 0.

    Args:
        n_outputs: answers to tell apart.
        readout: "flat" or "position"; see ``HookedFixedLengthEncoder``.
        d_mlp: width of the MLPs; 4 x d_model when None.
        norm: LayerNorm "pre" (before attention and MLP) or "post" (after each sum).
        positions: "learned", or "sinusoidal" (Vaswani et al. 2017), which no gradient reaches.

    Raises:
        InputError: sizes or a setting cannot work.
    """
    if positions not in ("learned", "sinusoidal"):
        raise InputError(f"positions {positions!r}; expected 'learned' or 'sinusoidal'")
    if n_outputs < 2 or d_vocab < 2:
        raise InputError(f"{n_outputs} outputs of {d_vocab} symbols; give two or more of each")
    cfg = make_config(
        n_layers=n_layers, n_heads=n_heads, d_model=d_model, n_ctx=n_ctx, d_vocab=d_vocab,
        d_vocab_out=n_outputs, d_mlp=d_mlp or 4 * d_model, act_fn=act, dtype=dtype,
        attention_dir="bidirectional", normalization_type="LN",
    )
    model = HookedFixedLengthEncoder(cfg, readout, norm)
    _initialise(model, seed)
    if positions == "sinusoidal":
        with torch.no_grad():
            model.pos_embed.W_pos.copy_(_sinusoids(n_ctx, d_model))
        model.pos_embed.W_pos.requires_grad_(False)
    return model


def _initialise(model: HookedFixedLengthEncoder, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            leaf = name.rsplit(".", 1)[-1]
            if leaf.startswith("W") or leaf == "weight":
                std = 1.0 if "embed" in name else (3 * _fan_in(leaf, parameter.shape)) ** -0.5
                draw = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.copy_(std * draw)
            else:
                parameter.fill_(1.0 if leaf == "w" else 0.0)


def _fan_in(leaf: str, shape: torch.Size) -> int:
    """How many numbers one output of a weight sums over; W_O sums over heads, too."""
    match leaf:
        case "W_O":
            return shape[0] * shape[1]
        case "weight":
            return shape[1]
    return shape[-2]


def _sinusoids(n_ctx: int, d_model: int) -> Float[Tensor, "pos d_model"]:
    """sin and cos of pos / 10000^(2i / d_model), interleaved."""
    at = torch.arange(n_ctx, dtype=torch.float64)[:, None]
    rate = 10_000 ** (-torch.arange(0, d_model, 2, dtype=torch.float64) / d_model)
    waves = torch.stack([torch.sin(at * rate), torch.cos(at * rate)], dim=-1)
    return waves.flatten(1)[:, :d_model]

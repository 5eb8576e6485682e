"""Sequence classifiers that read left to right: a decoder, its last token, a linear layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.hook_points import HookPoint
from transformer_lens.HookedRootModule import HookedRootModule
from transformers import PreTrainedTokenizerBase

from mechprobe.errors import InputError
from mechprobe.models.build import (
    default_std,
    empty_decoder,
    initialise,
    make_config,
    with_vocabulary,
)
from mechprobe.models.classifier import FRESH_HEAD_STD, HookedClassifier, check_labels


class HookedDecoderClassifier(HookedRootModule):
    """A classifier on a causal decoder; hook names are those of TransformerLens' HookedTransformer.

    The last real token's residual stream, after the final norm, goes through a linear layer, as in
    Hugging Face's ``...ForSequenceClassification`` of decoders. Beside the decoder's hooks stands
    ``hook_pooled``, that vector [batch, d_model]. There is no dropout. Weights are uninitialised
    until ``build_decoder_classifier``, ``load_model`` or ``from_hf`` fills them.

    Attributes:
        cfg: the TransformerLens config.
        labels: names of the outputs, in the order of the logits.
        tokenizer: the tokenizer the model reads, or None.
    """

    def __init__(
        self,
        cfg: HookedTransformerConfig,
        labels: Sequence[str],
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> None:
        super().__init__()
        if cfg.positional_embedding_type not in ("standard", "rotary"):
            raise InputError(
                f"a classifier on a decoder with {cfg.positional_embedding_type} positions is not "
                "supported; give one with standard or rotary positions"
            )
        self.cfg = cfg
        self.labels = check_labels(labels)
        self.tokenizer = tokenizer
        decoder = empty_decoder(replace(cfg, seed=None, init_weights=False), None)
        self.cfg = decoder.cfg  # the one its blocks look at
        self.embed, self.hook_embed = decoder.embed, decoder.hook_embed
        self.absolute = cfg.positional_embedding_type == "standard"
        if self.absolute:
            self.pos_embed, self.hook_pos_embed = decoder.pos_embed, decoder.hook_pos_embed
        self.blocks = decoder.blocks
        self.ln_final = nn.Identity() if cfg.normalization_type is None else decoder.ln_final
        self.hook_pooled = HookPoint()
        # a plain Linear() would draw from the process' generator
        linear = nn.utils.skip_init(nn.Linear, cfg.d_model, len(self.labels), dtype=cfg.dtype)
        self.classifier = cast(nn.Linear, linear)
        self.setup()

    def decoder_output(
        self,
        tokens: Int[Tensor, "batch pos"],
        one_zero_attention_mask: Int[Tensor, "batch pos"] | None = None,
    ) -> Float[Tensor, "batch pos d_model"]:
        """The last block's output, after the final norm."""
        if tokens.shape[1] > self.cfg.n_ctx:
            raise InputError(
                f"a sequence of {tokens.shape[1]} tokens, but the model reads at most "
                f"{self.cfg.n_ctx}; truncate when encoding"
            )
        mask = one_zero_attention_mask
        resid = self.hook_embed(self.embed(tokens))
        if self.absolute:
            resid = resid + self.hook_pos_embed(self.pos_embed(tokens, 0, mask))
        for block in self.blocks:
            resid = block(resid, attention_mask=mask)
        return self.ln_final(resid)

    def forward(
        self,
        tokens: Int[Tensor, "batch pos"],
        token_type_ids: Int[Tensor, "batch pos"] | None = None,
        one_zero_attention_mask: Int[Tensor, "batch pos"] | None = None,
    ) -> Float[Tensor, "batch label"]:
        """Logits of each label.

        Args:
            tokens: token ids.
            token_type_ids: ignored, since a decoder has no segments.
            one_zero_attention_mask: 1 for real tokens, 0 for padding; all real when None.
        """
        mask = one_zero_attention_mask
        if mask is None:
            mask = torch.ones_like(tokens)
        resid = self.decoder_output(tokens, mask)
        places = torch.arange(tokens.shape[1], device=tokens.device)
        last = (mask * places).argmax(-1)
        rows = torch.arange(len(tokens), device=tokens.device)
        with torch.autocast(resid.device.type, enabled=False):  # bfloat16 logits would tie
            pooled = self.hook_pooled(resid[rows, last].to(self.classifier.weight.dtype))
            return self.classifier(pooled)

    def to(self, *args: Any, **kwargs: Any) -> HookedDecoderClassifier:
        """Move as ``nn.Module.to`` does, and keep ``cfg.device`` and ``cfg.dtype`` true."""
        super().to(*args, **kwargs)
        weight = self.classifier.weight
        self.cfg.device, self.cfg.dtype = str(weight.device), weight.dtype
        return self


Classifier: TypeAlias = HookedClassifier | HookedDecoderClassifier
"""A model that gives a label to a whole input."""


def build_decoder_classifier(
    labels: Sequence[str],
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    n_layers: int,
    n_heads: int,
    d_model: int,
    n_ctx: int,
    d_mlp: int | None = None,
    seed: int = 0,
    act: str = "gelu_new",
    dtype: torch.dtype = torch.float32,
    init_std: float | None = None,
    **settings: Any,
) -> HookedDecoderClassifier:
    """A fresh classifier on a GPT-2-shaped decoder, its weights decided by the seed only.

    Args:
        labels: names of the outputs.
        tokenizer: kept on the model and gives the vocabulary size (or pass ``d_vocab``).
        d_mlp: width of the MLPs; 4 x d_model when None.
        act: activation of the MLPs, a TransformerLens name.
        init_std: standard deviation of the weights; 0.8 / sqrt(d_model) when None.
        settings: any other field of ``HookedTransformerConfig``, such as
            ``positional_embedding_type="rotary"``.

    Raises:
        InputError: labels, sizes or a setting cannot work.
    """
    settings |= {"n_layers": n_layers, "n_heads": n_heads, "d_model": d_model, "n_ctx": n_ctx}
    settings |= {"d_mlp": d_mlp or 4 * d_model, "act_fn": act, "dtype": dtype}
    cfg = make_config(**with_vocabulary(settings, tokenizer))
    model = HookedDecoderClassifier(cfg, labels, tokenizer)
    initialise(model, init_std or default_std(d_model), seed)
    return model


def classifier_from_decoder(
    decoder: HookedTransformer, labels: Sequence[str], seed: int = 0
) -> HookedDecoderClassifier:
    """A classifier with copies of a decoder's weights and a fresh linear layer in place of W_U.

    Args:
        seed: decides the fresh weights, N(0, 0.02).

    Raises:
        InputError: the labels cannot work, or positions other than standard or rotary.
    """
    model = HookedDecoderClassifier(decoder.cfg, labels, decoder.tokenizer)
    initialise(model.classifier, FRESH_HEAD_STD, seed)
    kept = {n: p.detach() for n, p in decoder.named_parameters() if not n.startswith("unembed.")}
    model.load_state_dict(kept, strict=False)
    return model.to(next(decoder.parameters()).device)

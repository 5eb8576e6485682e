"""Sequence-pair classifiers as hooked models: BERT blocks, pooler and a linear classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens import HookedEncoder, HookedTransformerConfig
from transformer_lens.components.bert_embed import BertEmbed
from transformer_lens.components.bert_pooler import BertPooler
from transformer_lens.hook_points import HookPoint
from transformer_lens.HookedRootModule import HookedRootModule
from transformer_lens.utilities.typed_module_list import TypedModuleList
from transformers import PreTrainedTokenizerBase

from mechprobe.errors import InputError
from mechprobe.models.blocks import FusedLayerNorm, bert_block
from mechprobe.models.build import bert_config, default_std, initialise, with_vocabulary

FRESH_HEAD_STD = 0.02  # of a new head on trained blocks, as in BERT's own initialisation


class HookedClassifier(HookedRootModule):
    """A BERT sequence classifier whose hook names are those of TransformerLens' HookedEncoder.

    Beside them stands ``hook_pooled``, the pooler's output [batch, d_model]. There is no dropout.
    Weights are uninitialised until ``build_classifier``, ``load_model`` or ``from_hf`` fills them.

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
        self.cfg = cfg
        self.labels = check_labels(labels)
        self.tokenizer = tokenizer
        self.embed = BertEmbed(cfg)
        self.embed.ln = FusedLayerNorm(cfg)
        self.hook_full_embed = HookPoint()
        self.blocks = TypedModuleList([bert_block(cfg) for _ in range(cfg.n_layers)])
        self.pooler = BertPooler(cfg)
        self.hook_pooled = HookPoint()
        # a plain Linear() would draw from the process' generator
        linear = nn.utils.skip_init(nn.Linear, cfg.d_model, len(self.labels), dtype=cfg.dtype)
        self.classifier = cast(nn.Linear, linear)
        self.setup()

    def encoder_output(
        self,
        tokens: Int[Tensor, "batch pos"],
        token_type_ids: Int[Tensor, "batch pos"] | None = None,
        one_zero_attention_mask: Int[Tensor, "batch pos"] | None = None,
    ) -> Float[Tensor, "batch pos d_model"]:
        """The last block's output, after its LayerNorm."""
        if tokens.shape[1] > self.cfg.n_ctx:
            raise InputError(
                f"a sequence of {tokens.shape[1]} tokens, but the model reads at most "
                f"{self.cfg.n_ctx}; truncate when encoding"
            )
        resid = self.hook_full_embed(self.embed(tokens, token_type_ids))
        additive = None
        if one_zero_attention_mask is not None:
            # the smallest finite number, not -inf: an all-padding row must not become NaN
            lowest = torch.finfo(resid.dtype).min
            additive = (1 - one_zero_attention_mask[:, None, None, :]).to(resid.dtype) * lowest
        for block in self.blocks:
            resid = block(resid, additive)
        return resid

    def forward(
        self,
        tokens: Int[Tensor, "batch pos"],
        token_type_ids: Int[Tensor, "batch pos"] | None = None,
        one_zero_attention_mask: Int[Tensor, "batch pos"] | None = None,
    ) -> Float[Tensor, "batch label"]:
        """Logits of each label.

        Args:
            tokens: token ids.
            token_type_ids: 0 for the first segment, 1 for the second; all 0 when None.
            one_zero_attention_mask: 1 for real tokens, 0 for padding; all real when None.
        """
        resid = self.encoder_output(tokens, token_type_ids, one_zero_attention_mask)
        with torch.autocast(resid.device.type, enabled=False):  # bfloat16 logits would tie
            pooled = self.hook_pooled(self.pooler(resid.to(self.classifier.weight.dtype)))
            return self.classifier(pooled)

    def to(self, *args: Any, **kwargs: Any) -> HookedClassifier:
        """Move as ``nn.Module.to`` does, and keep ``cfg.device`` and ``cfg.dtype`` true."""
        super().to(*args, **kwargs)
        weight = self.classifier.weight
        self.cfg.device, self.cfg.dtype = str(weight.device), weight.dtype
        return self


def check_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """Label names as a tuple; raises InputError unless they are two or more different names."""
    names = (labels,) if isinstance(labels, str) else tuple(labels)
    if len(names) < 2 or len(set(names)) != len(names):
        raise InputError(
            f"labels {names!r} cannot be told apart by a classifier; give two or more different "
            "names, such as ('entailment', 'non-entailment')"
        )
    return names


def build_classifier(
    labels: Sequence[str],
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    n_layers: int,
    n_heads: int,
    d_model: int,
    n_ctx: int,
    d_mlp: int | None = None,
    seed: int = 0,
    act: str = "gelu",
    dtype: torch.dtype = torch.float32,
    init_std: float | None = None,
    **settings: Any,
) -> HookedClassifier:
    """A fresh classifier whose weights depend on the seed only.

    Args:
        labels: names of the outputs.
        tokenizer: kept on the model and gives the vocabulary size (or pass ``d_vocab``).
        d_mlp: width of the MLPs; 4 x d_model when None.
        act: activation of the MLPs, a TransformerLens name ("gelu" is the exact one).
        init_std: standard deviation of the weights; 0.8 / sqrt(d_model) when None.

    Raises:
        InputError: labels, sizes or a setting cannot work.
    """
    settings |= {"n_layers": n_layers, "n_heads": n_heads, "d_model": d_model, "n_ctx": n_ctx}
    settings |= {"d_mlp": d_mlp or 4 * d_model, "act_fn": act, "dtype": dtype}
    cfg = bert_config(**with_vocabulary(settings, tokenizer))
    model = HookedClassifier(cfg, labels, tokenizer)
    initialise(model, init_std or default_std(d_model), seed)
    return model


def classifier_from_encoder(
    encoder: HookedEncoder, labels: Sequence[str], seed: int = 0
) -> HookedClassifier:
    """A classifier with copies of an encoder's blocks and pooler and a fresh linear layer.

    Args:
        seed: decides the fresh weights, N(0, 0.02); an encoder without a pooler gets a fresh one.

    Raises:
        InputError: the labels cannot work.
    """
    cfg = replace(encoder.cfg, seed=None, init_weights=False)
    model = HookedClassifier(cfg, labels, encoder.tokenizer)
    for head in (model.pooler, model.classifier):
        initialise(head, FRESH_HEAD_STD, seed)
    rooms = ("embed.", "blocks.", "pooler.")
    kept = {n: p.detach() for n, p in encoder.named_parameters() if n.startswith(rooms)}
    model.load_state_dict(kept, strict=False)
    return model.to(next(encoder.parameters()).device)

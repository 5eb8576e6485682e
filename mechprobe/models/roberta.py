"""RoBERTa as a BERT: its weights under BERT's names, its positions counted from 0.

RoBERTa (Liu et al. 2019) is BERT's encoder with other habits. Position p of a sequence uses row
p + padding id + 1 of its table, so dropping the first rows gives BERT's table; this holds while
padding stands on the right, as everywhere in this toolkit, and the padding token occurs nowhere
else. Its one token type serves both segments. The dense layer of its classification head reads the
first token and is followed by tanh, which is BERT's pooler.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from transformer_lens import HookedTransformerConfig
from transformers import PreTrainedTokenizerBase, RobertaConfig

from mechprobe.errors import InputError
from mechprobe.models.bert import activation
from mechprobe.models.build import bert_config

RENAMED = {
    "classifier.dense": "pooler.dense",
    "classifier.out_proj": "classifier",
    "lm_head.dense": "cls.predictions.transform.dense",
    "lm_head.layer_norm": "cls.predictions.transform.LayerNorm",
    "lm_head.decoder": "cls.predictions.decoder",
}
POSITIONS = "embeddings.position_embeddings.weight"
TOKEN_TYPES = "embeddings.token_type_embeddings.weight"


def config_from_hf(
    config: RobertaConfig, tokenizer: PreTrainedTokenizerBase | None
) -> HookedTransformerConfig:
    """Our config for a Hugging Face RoBERTa config.

    Raises:
        InputError: a decoder, no padding id, more than two token types, no room for positions, an
            activation without counterpart, or a tokenizer that pads on the left.
    """
    if config.is_decoder or config.add_cross_attention:
        raise InputError("a RoBERTa used as a decoder is not supported; give an encoder")
    if not 1 <= config.type_vocab_size <= 2:
        raise InputError(
            f"a RoBERTa with {config.type_vocab_size} token types is not supported; 1 or 2 are"
        )
    if tokenizer is not None and tokenizer.padding_side == "left":
        raise InputError(
            "the tokenizer pads on the left, where a RoBERTa's positions would be shifted; set "
            "tokenizer.padding_side = 'right'"
        )
    n_ctx = config.max_position_embeddings - first_position(config)
    if n_ctx < 1:
        raise InputError(
            f"a RoBERTa with {config.max_position_embeddings} positions has none after its padding "
            f"id {config.pad_token_id}; its config must have more"
        )
    return bert_config(
        n_layers=config.num_hidden_layers,
        n_heads=config.num_attention_heads,
        d_model=config.hidden_size,
        d_mlp=config.intermediate_size,
        d_vocab=config.vocab_size,
        n_ctx=n_ctx,
        eps=config.layer_norm_eps,
        act_fn=activation(config.hidden_act),
        original_architecture="RobertaModel",
    )


def first_position(config: RobertaConfig) -> int:
    """The row of the position table that the first token uses."""
    if config.pad_token_id is None:
        raise InputError("a RoBERTa counts positions from its pad_token_id; its config has none")
    return config.pad_token_id + 1


def as_bert(state: Mapping[str, Tensor], config: RobertaConfig) -> dict[str, Tensor]:
    """The same weights under the names of a BERT, with BERT's position and token type tables."""
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        module, _, leaf = name.removeprefix("roberta.").rpartition(".")
        found[f"{RENAMED.get(module, module)}.{leaf}"] = value
    if POSITIONS in found:
        found[POSITIONS] = found[POSITIONS][first_position(config) :]
    if TOKEN_TYPES in found and config.type_vocab_size == 1:
        found[TOKEN_TYPES] = torch.cat([found[TOKEN_TYPES]] * 2)
    return found

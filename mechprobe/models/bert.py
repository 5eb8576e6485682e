"""BERT between Hugging Face and our modules: one table of names and layouts, read both ways."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from einops import rearrange
from torch import Tensor, nn
from transformer_lens import HookedTransformerConfig
from transformer_lens.utilities.activation_functions import SUPPORTED_ACTIVATIONS
from transformers import BertConfig, BertForSequenceClassification

from mechprobe.errors import InputError
from mechprobe.models.build import bert_config
from mechprobe.models.classifier import HookedClassifier


@dataclass(frozen=True)
class Entry:
    """One weight: its name here, its name there, and an einops pattern from there to here."""

    ours: str
    theirs: str
    pattern: str = ""

    def to_ours(self, value: Tensor, n_heads: int) -> Tensor:
        return self._move(value, self.pattern, n_heads)

    def to_theirs(self, value: Tensor, n_heads: int) -> Tensor:
        left, _, right = self.pattern.partition(" -> ")
        return self._move(value, f"{right} -> {left}" if right else "", n_heads)

    @staticmethod
    def _move(value: Tensor, pattern: str, n_heads: int) -> Tensor:
        if not pattern:
            return value.detach()
        lengths = {"i": n_heads} if "(i h)" in pattern else {}
        return rearrange(value.detach(), pattern, **lengths)


TRANSPOSED = "out into -> into out"
LAYER_NORM = (("w", "weight"), ("b", "bias"))


def _dense(ours: str, theirs: str) -> tuple[Entry, Entry]:
    return Entry(f"{ours}W", f"{theirs}.weight", TRANSPOSED), Entry(f"{ours}b", f"{theirs}.bias")


def _layer_norm(ours: str, theirs: str) -> Iterator[Entry]:
    for here, there in LAYER_NORM:
        yield Entry(f"{ours}.{here}", f"{theirs}.{there}")


def body(n_layers: int) -> Iterator[Entry]:
    """Embeddings and blocks, their names as in a bare ``BertModel``."""
    for here, there in (
        ("embed.W_E", "word_embeddings"),
        ("pos_embed.W_pos", "position_embeddings"),
        ("token_type_embed.W_token_type", "token_type_embeddings"),
    ):
        yield Entry(f"embed.{here}", f"embeddings.{there}.weight")
    yield from _layer_norm("embed.ln", "embeddings.LayerNorm")
    for layer in range(n_layers):
        ours, theirs = f"blocks.{layer}", f"encoder.layer.{layer}"
        for letter, name in zip("QKV", ("query", "key", "value"), strict=True):
            linear = f"{theirs}.attention.self.{name}"
            yield Entry(f"{ours}.attn.W_{letter}", f"{linear}.weight", "(i h) m -> i m h")
            yield Entry(f"{ours}.attn.b_{letter}", f"{linear}.bias", "(i h) -> i h")
        out = f"{theirs}.attention.output"
        yield Entry(f"{ours}.attn.W_O", f"{out}.dense.weight", "m (i h) -> i h m")
        yield Entry(f"{ours}.attn.b_O", f"{out}.dense.bias")
        yield from _layer_norm(f"{ours}.ln1", f"{out}.LayerNorm")
        for here, there in (("in", "intermediate.dense"), ("out", "output.dense")):
            yield Entry(f"{ours}.mlp.W_{here}", f"{theirs}.{there}.weight", TRANSPOSED)
            yield Entry(f"{ours}.mlp.b_{here}", f"{theirs}.{there}.bias")
        yield from _layer_norm(f"{ours}.ln2", f"{theirs}.output.LayerNorm")


POOLER = _dense("pooler.", "pooler.dense")
CLASSIFIER = (
    Entry("classifier.weight", "classifier.weight"),
    Entry("classifier.bias", "classifier.bias"),
)
MASKED_LM = (
    *_dense("mlm_head.", "cls.predictions.transform.dense"),
    *_layer_norm("mlm_head.ln", "cls.predictions.transform.LayerNorm"),
    Entry("unembed.W_U", "cls.predictions.decoder.weight", "vocab m -> m vocab"),
    Entry("unembed.b_U", "cls.predictions.decoder.bias"),
)
NEXT_SENTENCE = _dense("nsp_head.", "cls.seq_relationship")


def config_from_hf(config: BertConfig) -> HookedTransformerConfig:
    """Our config for a Hugging Face BERT config.

    Raises:
        InputError: the config is a decoder, or uses an activation that has no counterpart here.
    """
    if config.is_decoder or config.add_cross_attention:
        raise InputError("a BERT used as a decoder is not supported; give an encoder")
    return bert_config(
        n_layers=config.num_hidden_layers,
        n_heads=config.num_attention_heads,
        d_model=config.hidden_size,
        d_mlp=config.intermediate_size,
        d_vocab=config.vocab_size,
        n_ctx=config.max_position_embeddings,
        eps=config.layer_norm_eps,
        act_fn=activation(config.hidden_act),
        original_architecture="BertModel",
    )


def activation(name: object) -> str:
    """A Hugging Face activation by its TransformerLens name; raises InputError if it has none."""
    if name not in SUPPORTED_ACTIVATIONS:
        raise InputError(
            f"activation {name!r} is not supported; known: {', '.join(SUPPORTED_ACTIVATIONS)}"
        )
    return str(name)


def config_to_hf(
    cfg: HookedTransformerConfig, labels: tuple[str, ...], pad_token_id: int
) -> BertConfig:
    """The Hugging Face config of a classifier."""
    return BertConfig(
        vocab_size=cfg.d_vocab,
        hidden_size=cfg.d_model,
        num_hidden_layers=cfg.n_layers,
        num_attention_heads=cfg.n_heads,
        intermediate_size=cfg.d_mlp or 4 * cfg.d_model,
        hidden_act=cfg.act_fn,
        max_position_embeddings=cfg.n_ctx,
        layer_norm_eps=cfg.eps,
        pad_token_id=pad_token_id,
        id2label=dict(enumerate(labels)),
        label2id={name: i for i, name in enumerate(labels)},
    )


def to_hf(classifier: HookedClassifier) -> BertForSequenceClassification:
    """The same classifier as a Hugging Face module, in eval mode, its labels in the config."""
    tokenizer, cfg = classifier.tokenizer, classifier.cfg
    pad = 0 if tokenizer is None or tokenizer.pad_token is None else tokenizer.pad_token_id
    config = config_to_hf(cfg, classifier.labels, cast(int, pad))
    with torch.random.fork_rng(devices=[]):  # its constructor draws weights that are overwritten
        module = BertForSequenceClassification(config)
    ours = classifier.state_dict()
    state = {}
    for entry in (*body(cfg.n_layers), *POOLER, *CLASSIFIER):
        prefix = "" if entry in CLASSIFIER else "bert."
        state[prefix + entry.theirs] = entry.to_theirs(ours[entry.ours], cfg.n_heads)
    nn.Module.to(module, device=classifier.classifier.weight.device, dtype=cfg.dtype)
    module.load_state_dict(state)
    return module.eval()

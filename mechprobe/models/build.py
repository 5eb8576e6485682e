"""Plain models from a few numbers, with weights that depend on the seed and on nothing else."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import torch
from torch import nn
from transformer_lens import HookedEncoder, HookedTransformer, HookedTransformerConfig
from transformers import PreTrainedTokenizerBase

from mechprobe.errors import InputError

CONFIG_FIELDS = tuple(f.name for f in fields(HookedTransformerConfig))
REQUIRED = ("n_layers", "n_heads", "d_model", "n_ctx")


@contextmanager
def transformer_lens_quiet() -> Iterator[None]:
    """Silence TransformerLens' deprecation warnings while one of its models is constructed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Hooked.* is deprecated", DeprecationWarning)
        yield


def make_config(**settings: Any) -> HookedTransformerConfig:
    """A TransformerLens config from plain settings; draws nothing and touches no random state.

    Raises:
        InputError: a setting is missing, unknown, or d_model is not n_heads x d_head.
    """
    unknown = sorted(set(settings) - set(CONFIG_FIELDS))
    if unknown:
        near = difflib.get_close_matches(unknown[0], CONFIG_FIELDS, n=3, cutoff=0.0)
        raise InputError(f"no model setting {unknown[0]!r}; nearest: {', '.join(near)}")
    missing = [name for name in REQUIRED if not settings.get(name)]
    if missing:
        raise InputError(
            f"a model needs {', '.join(REQUIRED)}; missing: {', '.join(missing)}; give each > 0"
        )
    n_heads, d_model = settings["n_heads"], settings["d_model"]
    if "d_head" not in settings:
        if d_model % n_heads:
            raise InputError(
                f"d_model {d_model} is not a multiple of n_heads {n_heads}; change one of them "
                "or, for a decoder or encoder, give d_head"
            )
        settings["d_head"] = d_model // n_heads
    if not settings.get("attn_only"):
        settings.setdefault("d_mlp", 4 * d_model)
    settings.setdefault("device", "cpu")
    settings |= {"init_weights": False, "seed": None}  # a seed here would reseed the whole process
    try:
        return HookedTransformerConfig(**settings)
    except AssertionError as error:
        raise InputError(f"this model config cannot work: {error}") from None


def bert_config(**settings: Any) -> HookedTransformerConfig:
    """The config of a BERT-shaped encoder: bidirectional, post-LayerNorm, eps 1e-12, exact GELU."""
    defaults = {
        "act_fn": "gelu",
        "eps": 1e-12,
        "attention_dir": "bidirectional",
        "normalization_type": "LN",
    }
    return make_config(**(defaults | settings))


def initialise(module: nn.Module, std: float, seed: int) -> None:
    """Fill weights with N(0, std), biases with 0, LayerNorm scales with 1, in place.

    Needed because TransformerLens leaves encoder weights uninitialised. Uses its own generator, so
    the process' random state is neither read nor changed.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            leaf = name.rsplit(".", 1)[-1]
            if leaf.lstrip("_").startswith("W") or leaf == "weight":
                draw = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.copy_(draw * std)
            else:
                parameter.fill_(1.0 if leaf == "w" else 0.0)


def default_std(d_model: int) -> float:
    """Weight scale of a fresh model, 0.8 / sqrt(d_model), TransformerLens' own default."""
    return 0.8 / d_model**0.5


def vocabulary_size(tokenizer: PreTrainedTokenizerBase) -> int:
    """One more than the largest token id, so that every id has an embedding."""
    return max(tokenizer.get_vocab().values()) + 1


def build_decoder(
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    seed: int = 0,
    init_std: float | None = None,
    **settings: Any,
) -> HookedTransformer:
    """A fresh GPT-2-shaped decoder (pre-LayerNorm, causal, learned positions).

    Args:
        tokenizer: kept on the model; gives d_vocab when it is not in ``settings``.
        seed: decides every weight.
        init_std: standard deviation of the weights; 0.8 / sqrt(d_model) when None.
        settings: n_layers, n_heads, d_model, n_ctx, d_vocab and any other field of
            ``HookedTransformerConfig``.

    Raises:
        InputError: a setting is missing, unknown or impossible.
    """
    settings.setdefault("act_fn", "gelu_new")
    model = empty_decoder(make_config(**with_vocabulary(settings, tokenizer)), tokenizer)
    initialise(model, init_std or default_std(model.cfg.d_model), seed)
    return model


def build_encoder(
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    seed: int = 0,
    init_std: float | None = None,
    **settings: Any,
) -> HookedEncoder:
    """A fresh BERT-shaped encoder with its masked-LM head; arguments as in ``build_decoder``."""
    model = empty_encoder(bert_config(**with_vocabulary(settings, tokenizer)), tokenizer)
    initialise(model, init_std or default_std(model.cfg.d_model), seed)
    return model


def with_vocabulary(
    settings: dict[str, Any], tokenizer: PreTrainedTokenizerBase | None
) -> dict[str, Any]:
    """The settings with d_vocab filled in from the tokenizer."""
    if settings.get("d_vocab", -1) < 1:
        if tokenizer is None:
            raise InputError("a model needs a vocabulary; give d_vocab or a tokenizer")
        settings["d_vocab"] = vocabulary_size(tokenizer)
    return settings


def empty_decoder(
    cfg: HookedTransformerConfig, tokenizer: PreTrainedTokenizerBase | None
) -> HookedTransformer:
    """A HookedTransformer whose weights are yet to be filled."""
    with transformer_lens_quiet():
        model = HookedTransformer(cfg, move_to_device=False)
    model.tokenizer = tokenizer  # as given: set_tokenizer would reload it, from the hub by name
    return model


def empty_encoder(
    cfg: HookedTransformerConfig, tokenizer: PreTrainedTokenizerBase | None
) -> HookedEncoder:
    """A HookedEncoder whose weights are yet to be filled."""
    with transformer_lens_quiet():
        return HookedEncoder(cfg, tokenizer=tokenizer, move_to_device=False)

"""Hugging Face modules to hooked models and back, with the same numbers (no folding, no centring).

TransformerLens' own ``from_pretrained`` refuses local folders and asks the hub even when it is
handed a module, so the conversion of modules is done here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformer_lens import HookedEncoder, HookedTransformer, HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions.gpt2 import convert_gpt2_weights
from transformers import (
    BertForMaskedLM,
    BertForPreTraining,
    BertForSequenceClassification,
    BertModel,
    BertPreTrainedModel,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerBase,
)

from mechprobe.errors import InputError
from mechprobe.models import bert
from mechprobe.models.build import empty_decoder, empty_encoder, make_config
from mechprobe.models.classifier import HookedClassifier, classifier_from_encoder

BERT_CLASSES = (BertForSequenceClassification, BertForMaskedLM, BertForPreTraining, BertModel)
SUPPORTED = (*BERT_CLASSES, GPT2LMHeadModel)


def from_hf(
    module: nn.Module,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    labels: Sequence[str] | None = None,
    seed: int = 0,
) -> HookedTransformer | HookedEncoder | HookedClassifier:
    """A hooked copy of a Hugging Face model; weights are copied, the module is left alone.

    Args:
        module: BertForSequenceClassification (-> HookedClassifier), BertModel / BertForMaskedLM /
            BertForPreTraining (-> HookedEncoder, or HookedClassifier when ``labels`` are given), or
            GPT2LMHeadModel (-> HookedTransformer).
        tokenizer: kept on the model.
        labels: names of a classifier's outputs; a BERT without a classification head gets a fresh
            one (and a fresh pooler if it has none), its weights N(0, 0.02) from ``seed``.

    Raises:
        InputError: another class of model, a config with no counterpart, or a wrong label count.
    """
    return convert(module, tokenizer, labels, seed, missing=set())


def convert(
    module: nn.Module,
    tokenizer: PreTrainedTokenizerBase | None,
    labels: Sequence[str] | None,
    seed: int,
    missing: Collection[str],
) -> HookedTransformer | HookedEncoder | HookedClassifier:
    """``from_hf`` when some of the module's weights, those named ``missing``, mean nothing."""
    if not isinstance(module, SUPPORTED):
        raise InputError(
            f"a {type(module).__name__} cannot be converted; supported are "
            f"{', '.join(kind.__name__ for kind in SUPPORTED)}"
        )
    state = {name: w.detach() for name, w in module.state_dict().items() if name not in missing}
    if isinstance(module, GPT2LMHeadModel):
        if labels is not None:
            raise InputError("labels are for encoders with a classifier; GPT-2 is a decoder")
        return _gpt2(module, state, tokenizer)
    state = {name.removeprefix("bert."): value for name, value in state.items()}
    if isinstance(module, BertForSequenceClassification) and "classifier.weight" in state:
        return _classifier(module, state, tokenizer, labels)
    encoder = _encoder(module, state, tokenizer)
    return encoder if labels is None else classifier_from_encoder(encoder, labels, seed)


def to_hf(classifier: HookedClassifier) -> BertForSequenceClassification:
    """The same classifier as a Hugging Face module, in eval mode, its labels in the config."""
    tokenizer, cfg = classifier.tokenizer, classifier.cfg
    pad = 0 if tokenizer is None or tokenizer.pad_token is None else tokenizer.pad_token_id
    config = bert.config_to_hf(cfg, classifier.labels, cast(int, pad))
    with torch.random.fork_rng(devices=[]):  # its constructor draws weights that are overwritten
        module = BertForSequenceClassification(config)
    ours = classifier.state_dict()
    state = {}
    for entry in (*bert.body(cfg.n_layers), *bert.POOLER, *bert.CLASSIFIER):
        prefix = "" if entry in bert.CLASSIFIER else "bert."
        state[prefix + entry.theirs] = entry.to_theirs(ours[entry.ours], cfg.n_heads)
    nn.Module.to(module, device=classifier.classifier.weight.device, dtype=cfg.dtype)
    module.load_state_dict(state)
    return module.eval()


def _classifier(
    module: BertForSequenceClassification,
    state: dict[str, Tensor],
    tokenizer: PreTrainedTokenizerBase | None,
    labels: Sequence[str] | None,
) -> HookedClassifier:
    names: Any = module.config.id2label
    own = tuple(str(names[i]) for i in range(len(names)))
    given = own if labels is None else tuple(labels)
    if len(given) != len(own):
        raise InputError(
            f"{len(given)} labels {given!r} for a model with {len(own)} outputs {own!r}; give "
            "as many names as it has outputs, in their order"
        )
    model = HookedClassifier(_typed(bert.config_from_hf(module.config), state), given, tokenizer)
    _fill(model, (*bert.body(model.cfg.n_layers), *bert.POOLER, *bert.CLASSIFIER), state)
    return model


def _encoder(
    module: BertModel | BertPreTrainedModel,
    state: dict[str, Tensor],
    tokenizer: PreTrainedTokenizerBase | None,
) -> HookedEncoder:
    model = empty_encoder(_typed(bert.config_from_hf(module.config), state), tokenizer)
    present = [head for head, entries in HEADS.items() if entries[0].theirs in state]
    drop_heads(model, set(HEADS) - set(present))
    heads = [entry for head in present for entry in HEADS[head]]
    _fill(model, (*bert.body(model.cfg.n_layers), *heads), state)
    return model


HEADS = {"pooler": bert.POOLER, "mlm": bert.MASKED_LM, "nsp": bert.NEXT_SENTENCE}


def drop_heads(model: HookedEncoder, heads: Iterable[str]) -> None:
    """Replace heads ("pooler", "mlm", "nsp") that have no trained weights by the identity.

    Without its masked-LM head the encoder's forward gives the last hidden states.
    """
    modules = {"pooler": ("pooler",), "mlm": ("mlm_head", "unembed"), "nsp": ("nsp_head",)}
    for head in heads:
        for name in modules[head]:
            setattr(model, name, nn.Identity())
    model.setup()


def present_heads(model: HookedEncoder) -> list[str]:
    """Which of the heads ("pooler", "mlm", "nsp") an encoder has."""
    owners = {"pooler": model.pooler, "mlm": model.mlm_head, "nsp": model.nsp_head}
    return [head for head, owner in owners.items() if not isinstance(owner, nn.Identity)]


def _gpt2(
    module: GPT2LMHeadModel, state: dict[str, Tensor], tokenizer: PreTrainedTokenizerBase | None
) -> HookedTransformer:
    config: GPT2Config = module.config
    if config.add_cross_attention or not config.scale_attn_weights:
        raise InputError("a GPT-2 with cross-attention or unscaled attention is not supported")
    cfg = make_config(
        n_layers=config.n_layer,
        n_heads=config.n_head,
        d_model=config.n_embd,
        d_mlp=config.n_inner or 4 * config.n_embd,
        d_vocab=config.vocab_size,
        n_ctx=config.n_positions,  # configs saved by transformers 5 have no n_ctx
        eps=config.layer_norm_epsilon,
        act_fn=bert.activation(config.activation_function),
        scale_attn_by_inverse_layer_idx=config.scale_attn_by_inverse_layer_idx,
        normalization_type="LN",
        original_architecture="GPT2LMHeadModel",
    )
    absent = sorted(set(module.state_dict()) - set(state))
    if absent:
        raise _lacking(absent)
    model = empty_decoder(_typed(cfg, state), tokenizer)
    weights = {name: value.detach() for name, value in convert_gpt2_weights(module, cfg).items()}
    weights["unembed.b_U"] = torch.zeros(cfg.d_vocab, dtype=cfg.dtype)
    load_weights(model, weights)
    return model


def _typed(cfg: HookedTransformerConfig, state: dict[str, Tensor]) -> HookedTransformerConfig:
    """The config with the dtype of the weights it is for."""
    dtypes = {value.dtype for value in state.values() if value.is_floating_point()}
    if len(dtypes) != 1:
        raise InputError(
            f"weights of more than one dtype ({', '.join(sorted(map(str, dtypes)))}); convert the "
            "module to one first, e.g. module.float()"
        )
    (cfg.dtype,) = dtypes
    return cfg


def _fill(
    model: HookedEncoder | HookedClassifier,
    entries: Iterable[bert.Entry],
    state: dict[str, Tensor],
) -> None:
    entries, n_heads = tuple(entries), model.cfg.n_heads
    absent = [entry.theirs for entry in entries if entry.theirs not in state]
    if absent:
        raise _lacking(absent)
    load_weights(model, {e.ours: e.to_ours(state[e.theirs], n_heads) for e in entries})


def _lacking(absent: Sequence[str]) -> InputError:
    return InputError(
        f"the model lacks trained weights ({absent[0]} and {len(absent) - 1} more); give the "
        "folder or module it was trained as"
    )


def load_weights(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Copy weights in: one for every parameter of the model, and no other."""
    parameters = {name: tuple(p.shape) for name, p in model.named_parameters()}
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    wrong = sorted(n for n in parameters.keys() | shapes if parameters.get(n) != shapes.get(n))
    if wrong:
        name = wrong[0]
        raise InputError(
            f"weights do not fit the model: {name} is {shapes.get(name, 'missing')}, expected "
            f"{parameters.get(name, 'no such weight')} ({len(wrong)} like it); use the folder as "
            "it was saved"
        )
    model.load_state_dict(weights, strict=False)  # buffers are constants and not kept

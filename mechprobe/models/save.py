"""Keep a model as a folder: model.safetensors, mechprobe.json and the tokenizer's own files.

The folder appears under its name only when it is complete.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformer_lens import HookedEncoder, HookedTransformerConfig
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from mechprobe.errors import InputError
from mechprobe.models.build import empty_decoder, empty_encoder, make_config
from mechprobe.models.classifier import HookedClassifier
from mechprobe.models.decoder_classifier import HookedDecoderClassifier
from mechprobe.models.edits import HookedModel
from mechprobe.models.encoder_decoder import empty_encoder_decoder
from mechprobe.models.fixed_length import HookedFixedLengthEncoder
from mechprobe.models.hf import HEADS, drop_heads, load_weights, present_heads
from mechprobe.runs.files import DRAFT

DESCRIPTION, WEIGHTS, FORMAT = "mechprobe.json", "model.safetensors", 1
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json")
NOT_KEPT = {"device", "dtype", "seed", "init_weights", "n_params", "tokenizer_name"}


def save_model(model: HookedModel, folder: str | Path) -> Path:
    """Write weights, config, labels and tokenizer to a folder, replacing it whole if it exists.

    Raises:
        InputError: the folder cannot be written, or holds something that is not a saved model.
    """
    folder = Path(folder).expanduser()
    ours = (folder / DESCRIPTION).is_file()
    if folder.exists() and not ours and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            f"{folder} exists and is not a saved model; give a new folder or remove it first"
        )
    with _swapped_in(folder) as draft:
        weights = {n: p.detach().cpu().contiguous() for n, p in model.named_parameters()}
        save_file(weights, draft / WEIGHTS)
        (draft / DESCRIPTION).write_text(json.dumps(_describe(model), indent=1) + "\n")
        if model.tokenizer is not None:
            model.tokenizer.save_pretrained(draft)
    return folder


def load_saved(folder: str | Path, tokenizer: PreTrainedTokenizerBase | None = None) -> HookedModel:
    """Read a folder written by ``save_model``, in the dtype it was saved in, on the CPU.

    Raises:
        InputError: a file is missing, unreadable or does not fit.
    """
    folder = Path(folder).expanduser()
    try:
        described = json.loads((folder / DESCRIPTION).read_text())
        kind, settings = described["class"], dict(described["config"])
        settings["dtype"] = getattr(torch, described["dtype"])
        written = described["format"]
        weights = load_file(folder / WEIGHTS)
    except (OSError, ValueError, KeyError, AttributeError, SafetensorError) as error:
        raise InputError(
            f"{folder} is not a readable saved model ({error}); save it again"
        ) from None
    if written != FORMAT:
        raise InputError(
            f"{folder} is in format {written}, this version reads {FORMAT}; use the version of "
            "mechprobe that wrote it"
        )
    try:
        cfg = make_config(**settings)
        model = _empty(kind, cfg, described, tokenizer or load_tokenizer(folder))
        load_weights(model, weights)
    except InputError:
        raise
    except Exception as error:  # a spoilt description fails anywhere in TransformerLens
        raise InputError(
            f"{folder / DESCRIPTION} describes no model that can be built "
            f"({type(error).__name__}: {error}); save it again"
        ) from error
    return model


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase | None:
    """The tokenizer kept in a folder, read without network; None when there is none."""
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        return None
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def _describe(model: HookedModel) -> dict[str, Any]:
    described: dict[str, Any] = {
        "format": FORMAT,
        "class": type(model).__name__,
        "dtype": str(model.cfg.dtype).removeprefix("torch."),
        "config": _plain(model.cfg),
    }
    if isinstance(model, HookedClassifier | HookedDecoderClassifier):
        described["labels"] = list(model.labels)
    if isinstance(model, HookedFixedLengthEncoder):
        described |= {"readout": model.readout, "norm": model.norm}
    if isinstance(model, HookedEncoder):
        described["heads"] = present_heads(model)
    return described


def _plain(cfg: HookedTransformerConfig) -> dict[str, Any]:
    """The config's fields that differ from their defaults; all are numbers, strings or lists."""
    kept = {}
    for field in fields(cfg):
        value = getattr(cfg, field.name)
        if field.name in NOT_KEPT or (field.default is not MISSING and value == field.default):
            continue
        kept[field.name] = float(value) if hasattr(value, "item") else value
    return kept


def _empty(
    kind: str,
    cfg: HookedTransformerConfig,
    described: dict[str, Any],
    tokenizer: PreTrainedTokenizerBase | None,
) -> HookedModel:
    match kind:
        case "HookedClassifier":
            return HookedClassifier(cfg, described["labels"], tokenizer)
        case "HookedDecoderClassifier":
            return HookedDecoderClassifier(cfg, described["labels"], tokenizer)
        case "HookedFixedLengthEncoder":
            return HookedFixedLengthEncoder(cfg, described["readout"], described["norm"])
        case "HookedEncoder":
            model = empty_encoder(cfg, tokenizer)
            drop_heads(model, set(HEADS) - set(described["heads"]))
            return model
        case "HookedTransformer":
            return empty_decoder(cfg, tokenizer)
        case "HookedEncoderDecoder":
            return empty_encoder_decoder(cfg, tokenizer)
        case _:
            raise InputError(f"a saved {kind!r} cannot be loaded; use the version that wrote it")


@contextmanager
def _swapped_in(folder: Path) -> Iterator[Path]:
    """A draft folder that takes the place of ``folder`` when the block ends well."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}{DRAFT}", dir=folder.parent))
    except OSError as error:
        raise InputError(f"cannot write to {folder} ({error}); choose another folder") from None
    try:
        yield draft
        draft.chmod(0o755)
        for path in draft.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        if folder.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{folder.name}{DRAFT}", dir=folder.parent))
            folder.rename(old / folder.name)
            draft.rename(folder)
            shutil.rmtree(old)
        else:
            draft.rename(folder)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"cannot write {folder} ({error}); give a folder that can be written, with space"
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)

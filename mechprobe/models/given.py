"""What a user gives a model: the model itself, token ids instead of a batch, constants as edits."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformer_lens import HookedEncoder, HookedEncoderDecoder, HookedTransformer

from mechprobe.errors import InputError
from mechprobe.models.classifier import HookedClassifier
from mechprobe.models.decoder_classifier import HookedDecoderClassifier
from mechprobe.models.fixed_length import HookedFixedLengthEncoder
from mechprobe.tasks.batches import Batch

HOOKED = (
    HookedTransformer, HookedEncoder, HookedClassifier, HookedDecoderClassifier,
    HookedFixedLengthEncoder, HookedEncoderDecoder,
)


def check_model(model: Any) -> None:
    """Refuse what is no hooked model, saying what to do.

    Raises:
        InputError: a module that is not hooked, a name or path, or no model at all.
    """
    if isinstance(model, HOOKED):
        return
    kind = type(model).__name__
    if isinstance(model, nn.Module):
        raise InputError(f"a {kind} is not hooked; open it with mp.load_model(...) first")
    if isinstance(model, str):
        raise InputError(
            f"{model!r} stands where the model belongs; open it with mp.load_model(...) first, and "
            "give the model before the task"
        )
    raise InputError(
        f"a {kind} stands where the model belongs; are the arguments the wrong way round? Give the "
        "model first (from mp.load_model), then the task or the text"
    )


def as_batch(model: Any, given: Any) -> Batch:
    """A batch as it is, and token ids [batch, pos] as a batch without padding.

    Raises:
        InputError: neither, token ids for an encoder-decoder, ids that the model does not know, or
            more of them than it reads.
    """
    check_model(model)
    if isinstance(given, Batch):
        return given
    if not isinstance(given, Tensor | np.ndarray):
        raise InputError(
            f"a {type(given).__name__} cannot be run; give token ids as a tensor [batch, pos], "
            "such as model.to_tokens(text), or a Batch"
        )
    if isinstance(model, HookedEncoderDecoder):
        raise InputError(
            "an encoder-decoder reads a source and a target, not one tensor; give "
            "mp.seq2seq_batch(source, target)"
        )
    tokens = torch.as_tensor(given)
    whole = not (tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool)
    if tokens.dim() != 2 or not whole or tokens.numel() == 0:
        raise InputError(
            f"tokens of shape {list(tokens.shape)} and {tokens.dtype}; give integers [batch, pos]"
        )
    if tokens.min() < 0 or tokens.max() >= model.cfg.d_vocab:
        strange = int(tokens.max() if tokens.min() >= 0 else tokens.min())
        raise InputError(
            f"token {strange} is unknown; the model knows 0 to {model.cfg.d_vocab - 1}"
        )
    if tokens.shape[1] > model.cfg.n_ctx:
        raise InputError(
            f"{tokens.shape[1]} tokens a row, the model reads at most {model.cfg.n_ctx}; shorten it"
        )
    tokens = tokens.long()
    zero = torch.zeros_like(tokens)
    rows = torch.arange(len(tokens), device=tokens.device)
    return Batch(tokens, zero, torch.ones_like(tokens), zero[:, 0], rows)


def as_edit(given: Any, site: Any) -> Callable[[Tensor], Any]:
    """A function as it is; a number or a tensor as a function that puts it in the value's place.

    Raises:
        InputError: something else, or (when the model runs) a tensor that does not broadcast.
    """
    if isinstance(given, Real) and not isinstance(given, bool):
        return lambda own: torch.full_like(own, float(given))
    if isinstance(given, Tensor):
        return lambda own: _spread(given, own, site)
    if not callable(given):
        raise InputError(
            f"the edit at {site} is a {type(given).__name__}; give a function of the site's value, "
            "a number, or a tensor that takes its place"
        )
    return given


def _spread(constant: Tensor, own: Tensor, site: Any) -> Tensor:
    try:
        return constant.to(own).expand_as(own)
    except RuntimeError:
        raise InputError(
            f"the edit at {site} is a tensor of shape {list(constant.shape)}; the site's value has "
            f"{list(own.shape)}, give one that broadcasts to it"
        ) from None

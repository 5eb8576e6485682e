"""Decoders from plain arrays and back: models whose every weight somebody else wrote down."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from transformer_lens import HookedTransformer

from mechprobe.errors import InputError
from mechprobe.models.build import CONFIG_FIELDS, empty_decoder, make_config

_NOT_SETTINGS = ("init_weights", "seed", "n_params", "dtype", "device")


def decoder_from_weights(
    config: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> HookedTransformer:
    """A decoder from config fields and arrays named as HookedTransformer names its parameters.

    Biases that are not given are zero; everything runs in float32 unless ``config`` names a dtype.

    Args:
        config: fields of ``HookedTransformerConfig``.
        arrays: "embed.W_E" [d_vocab, d_model], "blocks.0.attn.W_Q" [head, d_model, d_head], ...

    Raises:
        InputError: a weight that is missing, unknown, of another shape, or not finite.
    """
    model = empty_decoder(make_config(**config), None)
    parameters = dict(model.named_parameters())
    if unknown := sorted(set(arrays) - set(parameters)):
        near = ", ".join(difflib.get_close_matches(unknown[0], parameters, n=3, cutoff=0.0))
        raise InputError(f"this decoder has no weight {unknown[0]!r}; nearest: {near}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(_given(name, tuple(parameter.shape), arrays))
    return model


def _given(
    name: str, shape: tuple[int, ...], arrays: Mapping[str, np.ndarray]
) -> torch.Tensor:
    if name not in arrays:
        if not name.rsplit(".", 1)[-1].startswith("b"):
            raise InputError(f"weight {name!r} is missing; give an array of shape {list(shape)}")
        return torch.zeros(shape)
    array = np.asarray(arrays[name])
    if array.shape != shape:
        raise InputError(
            f"weight {name!r} has shape {list(array.shape)}; this config needs {list(shape)}"
        )
    if not np.isfinite(array).all():
        raise InputError(f"weight {name!r} holds NaN or infinity; give finite numbers")
    return torch.from_numpy(np.array(array))  # a copy: the caller's may not be writable


def decoder_weights(model: HookedTransformer) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What ``decoder_from_weights`` takes: config fields, and float64 arrays of all parameters.

    The precision and the device of the model are left out.
    """
    settings = {
        name: value for name in CONFIG_FIELDS
        if name not in _NOT_SETTINGS and (value := getattr(model.cfg, name)) is not None
    }
    settings["normalization_type"] = model.cfg.normalization_type
    arrays = {
        name: parameter.detach().cpu().double().numpy()
        for name, parameter in model.named_parameters()
    }
    return settings, arrays

"""Closed components written into the weights, where what stands in their place is a constant."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens import HookedEncoderDecoder, HookedTransformer
from transformers import PreTrainedModel

from mechprobe.errors import InputError
from mechprobe.models.classifier import HookedClassifier
from mechprobe.models.edits import HookedModel, hook_name
from mechprobe.models.hf import to_hf
from mechprobe.models.to_gpt2 import gpt2_to_hf
from mechprobe.models.to_llama import llama_to_hf
from mechprobe.models.to_neox import neox_to_hf
from mechprobe.sites import Site

Model = TypeVar("Model", bound=HookedModel)


@torch.no_grad()
def fold_closed(model: Model, stand_ins: Mapping[Site, Float[Tensor, "*d"]]) -> Model:
    """A copy of the model in which constants stand in the place of components, without any hook.

    A head's rows of W_O become 0 and its constant goes through them into b_O; an MLP layer's W_out
    becomes 0 and its bias the constant; a neuron's row of W_out becomes 0, its constant times that
    row goes into the bias.

    Args:
        stand_ins: of a head [d_head], an MLP layer [d_model], a neuron []; or [1], for all of it.

    Raises:
        InputError: a site the model does not have.
    """
    out = copy.deepcopy(model)
    for site in sorted(stand_ins, key=lambda site: site.kind == "mlp"):
        value = stand_ins[site]
        name = hook_name(model, site)
        owner = "mlp" if site.kind == "mlp" else name.split(".")[-2]
        block = name.split(".")[:2]
        part: Any = out.get_submodule(".".join([*block, owner]))
        match site.kind:
            case "head":
                row = part.W_O[site.index]
                part.b_O += value.to(row).expand(len(row)) @ row
                part.W_O[site.index] = 0
            case "mlp":
                part.W_out.zero_()
                part.b_out.copy_(value.to(part.b_out).expand_as(part.b_out))
            case _:
                part.b_out += value.to(part.W_out) * part.W_out[site.index]
                part.W_out[site.index] = 0
    return out


def fold_to_hf(
    model: HookedModel, stand_ins: Mapping[Site, Float[Tensor, "*d"]]
) -> PreTrainedModel:
    """The model with constants in the place of components, as a Hugging Face module.

    Raises:
        InputError: a model that has no counterpart, or cannot hold the constants there.
    """
    folded = fold_closed(model, stand_ins) if stand_ins else model
    if isinstance(folded, HookedTransformer):
        return _decoder_to_hf(folded)
    if isinstance(folded, HookedClassifier | HookedEncoderDecoder):
        return to_hf(folded)
    raise InputError(
        f"a {type(model).__name__} cannot be made a Hugging Face module here; give a "
        "HookedClassifier, a decoder or an encoder-decoder"
    )


def _decoder_to_hf(model: HookedTransformer) -> PreTrainedModel:
    """By its positions and norms: Llama (or Mistral), NeoX, else GPT-2."""
    if model.cfg.positional_embedding_type != "rotary":
        return gpt2_to_hf(model)
    rms = model.cfg.normalization_type == "RMS"
    return llama_to_hf(model) if rms else neox_to_hf(model)

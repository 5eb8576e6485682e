"""An untrained model of the same shape: the control of every claim about what training put in."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch

from mechprobe.models.build import initialise
from mechprobe.models.edits import HookedModel

Kept = TypeVar("Kept", bound=HookedModel)
_EMBEDDINGS = ("embed.", "pos_embed.")


def untrained_twin(
    model: Kept, *, seed: int = 0, init_std: float = 0.02, keep_embeddings: bool = False
) -> Kept:
    """A copy of a model with fresh weights; the model itself is left alone.

    Args:
        seed: decides every fresh weight.
        init_std: standard deviation of the weights (0.02 is BERT's and GPT-2's); biases are 0 and
            LayerNorm scales 1.
        keep_embeddings: keep token and position embeddings, so that only the blocks are untrained.
    """
    twin = copy.deepcopy(model)
    kept = {
        name: value.detach().clone()
        for name, value in model.named_parameters()
        if keep_embeddings and name.startswith(_EMBEDDINGS)
    }
    initialise(twin, init_std, seed)
    with torch.no_grad():
        for name, value in twin.named_parameters():
            if name in kept:
                value.copy_(kept[name])
    return twin

"""An initialisation in which every head attends to equal tokens from the first step."""

from __future__ import annotations

from typing import TypeVar

import torch

from mechprobe.models.classifier import HookedClassifier
from mechprobe.models.decoder_classifier import HookedDecoderClassifier

Model = TypeVar("Model", bound=HookedClassifier | HookedDecoderClassifier)


def attend_to_equal_tokens(
    model: Model, strength: float = 1.5, position_scale: float = 0.5
) -> Model:
    """Set W_K = strength * W_Q in every head and shrink position embeddings, in place.

    Then W_Q W_K^T is positive semi-definite and a query's highest score is, in expectation, its
    own token wherever it stands: comparing words across two sentences is learned in hundreds of
    steps instead of thousands. A simple form of mimetic initialisation (Trockman, Kolter 2023,
    "Mimetic Initialization of Self-Attention Layers"). The bias towards attention between equal
    tokens is part of the model from then on; claims about such attention must say so.

    Args:
        model: a fresh classifier with learned positions (``build_classifier``,
            ``build_decoder_classifier``); it is returned.
        strength: factor on the keys.
        position_scale: factor on the position embeddings, so that token identity dominates.
    """
    with torch.no_grad():
        for block in model.blocks:
            block.attn.W_K.copy_(strength * block.attn.W_Q)
        places = model.embed if isinstance(model, HookedClassifier) else model
        places.pos_embed.W_pos.mul_(position_scale)
    return model

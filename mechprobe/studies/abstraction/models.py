"""Models of the study: built or pretrained, kept as weights, opened again."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from mechprobe.errors import InputError
from mechprobe.models.build import build_decoder
from mechprobe.models.edits import HookedModel, site_grid
from mechprobe.models.encoder_decoder import build_encoder_decoder
from mechprobe.models.load import load_model
from mechprobe.runs import Run
from mechprobe.sites import ENCODER_DECODER
from mechprobe.studies.abstraction.data import SetData
from mechprobe.studies.abstraction.settings import Settings

POSITION_STD = 1.5
"""Spread of a built encoder-decoder's position biases at the start. From T5's own (.125 at width
64) 1,000 steps on the mini grammar's target task reach .65 in distribution, from this .92 (one set:
the order of two nouns is confused, as training moves the biases too slowly). The auxiliary task is
at .88 after 1,100 steps; give it more."""


def fresh_model(settings: Settings, data: SetData, seed: int) -> HookedModel:
    """The model before any training: pretrained, or built with the set's vocabulary."""
    if settings.model is not None:
        return pretrained(settings)
    shape: dict[str, Any] = {
        "n_layers": settings.n_layers, "n_heads": settings.n_heads, "d_model": settings.d_model,
        "d_vocab": len(data.words), "seed": seed,
    }
    if settings.arch == "encoder-decoder":
        return moved(build_encoder_decoder(**shape, position_std=POSITION_STD), settings)
    shape["act_fn"] = "gelu_pytorch_tanh"  # GPT-2's, in one operation
    if settings.positions == "rotary":
        shape |= {"positional_embedding_type": "rotary",
                  "rotary_dim": settings.d_model // settings.n_heads}
    return moved(build_decoder(n_ctx=longest(data), **shape), settings)


def moved(model: HookedModel, settings: Settings) -> HookedModel:
    """The model on the run's device; its config knows, which a decoder asks where to compute."""
    return load_model(model, device=settings.device)


def pretrained(settings: Settings) -> HookedModel:
    """The pretrained model of the settings.

    Raises:
        InputError: no encoder-decoder and no decoder, or another one than ``arch`` says.
    """
    assert settings.model is not None
    model = load_model(settings.model, device=settings.device)
    writes = (model.cfg.attention_dir or "causal") == "causal"  # classifiers have labels
    kind = "decoder" if writes and not hasattr(model, "labels") else type(model).__name__
    if site_grid(model).stacks == ENCODER_DECODER:
        kind = "encoder-decoder"
    if kind != settings.arch:
        raise InputError(
            f"{settings.model} is no {settings.arch} but a {type(model).__name__}; give "
            "--arch encoder-decoder for T5, --arch decoder for GPT-2"
        )
    return model


def longest(data: SetData) -> int:
    """Positions a decoder needs for the longest pair of any task, in steps of 16.

    Separator and end are among them, and one more for beams that write past the target.
    """
    most = [sum(pairs.longest()) for pairs in data.tasks.all_pairs()]
    if data.generic is not None:
        most.append(sum(data.generic.longest()))
    return -(-(max(most) + 3) // 16) * 16


def keep_model(run: Run, name: str, model: HookedModel) -> None:
    """Write a model's weights into the run."""
    run.write_arrays(f"models/{name}.safetensors", {
        key: value.detach().cpu().numpy() for key, value in model.state_dict().items()
    })


def open_model(
    settings: Settings, data: SetData, run: Run, name: str, *, frozen: bool = False
) -> HookedModel:
    """A kept model; ``frozen`` ones take no gradient."""
    model = fresh_model(settings, data, 0)
    kept = run.read_arrays(f"models/{name}.safetensors")
    model.load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in kept.items()})
    model = moved(model, settings).eval()
    return model.requires_grad_(False) if frozen else model

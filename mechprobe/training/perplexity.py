"""Perplexity of a decoder on held-out text."""

from __future__ import annotations

import math

import torch
from jaxtyping import Int
from torch import Tensor

from mechprobe.models.edits import HookedModel
from mechprobe.models.token_logprobs import token_logprobs


def perplexity(
    model: HookedModel, rows: Int[Tensor, "batch pos"], *, batch_tokens: int = 8_192
) -> float:
    """exp of the mean negative log-probability of each row's tokens from its second one on.

    Raises:
        InputError: not a decoder.
    """
    device = next(model.parameters()).device
    scored = torch.ones_like(rows, dtype=torch.bool)
    scored[:, 0] = False
    n = max(1, batch_tokens // rows.shape[1])
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(rows), n):
            part, where = rows[start : start + n].to(device), scored[start : start + n].to(device)
            total -= float(token_logprobs(model, part, where).double().sum())
    mean = total / int(scored.sum())
    return math.exp(mean) if mean < 700 else math.inf

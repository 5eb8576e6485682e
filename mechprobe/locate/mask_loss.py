"""What a mask is trained on: faithfulness to the full model, or the labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.models.edits import HookedModel, forward
from mechprobe.tasks.batches import Batch
from mechprobe.tasks.metrics import kl, label_loss

Loss = Callable[[Tensor, Batch], Tensor]
"""From logits [batch, ...] and their batch to one number, differentiable."""


def mask_loss(
    logits: Float[Tensor, "batch ..."], batch: Batch, full: Float[Tensor, "batch ..."] | None
) -> Float[Tensor, ""]:
    """Mean KL from the full model's logits, or mean label loss when these are None.

    A language model's KL is the mean over real tokens. Raises InputError for the label loss of a
    language model.
    """
    if full is not None:
        divergence = kl(full, logits)
        real = batch.attention_mask.bool().to(divergence.device)
        return (divergence[real] if divergence.dim() == 2 else divergence).mean()
    if logits.dim() != 2:
        raise InputError('the objective "task" needs a classifier; use "kl" with a language model')
    return label_loss(logits, batch.labels.to(logits.device)).mean()


def full_model_logits(model: HookedModel, batches: Sequence[Batch]) -> list[Tensor]:
    """The untouched model's logits of each batch, computed once, without gradient."""
    with torch.no_grad():
        return [forward(model, batch) for batch in batches]

"""Weights and values that are NaN or infinite, found and named."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from mechprobe.errors import InputError
from mechprobe.models.edits import HookedModel, forward
from mechprobe.tasks.batches import Batch


def refuse_bad_weights(model: HookedModel) -> None:
    """Raise InputError naming the first weight of a model that holds NaN or infinity."""
    for name, weight in model.named_parameters():
        if not bool(weight.isfinite().all()):
            n = int((~weight.isfinite()).sum())
            raise InputError(
                f"weight {name} holds {n} values that are NaN or infinite; fetch or train the "
                "model again"
            )


def finite_forward(model: HookedModel, batch: Batch) -> Float[Tensor, "batch ..."]:
    """``forward``, on a model whose every value stays finite.

    Attention scores may be -inf, where a mask forbids to look; scores of +inf are a softmax that
    dies, which TransformerLens hides by attention of 0.

    Raises:
        InputError: a value that is NaN or infinite, named by the first hook point that has one.
    """
    found: list[str] = []

    def look(module: nn.Module, given: tuple[Tensor, ...], value: Tensor) -> None:
        name = str(getattr(module, "name", ""))
        masked = value == -torch.inf if name.endswith("attn_scores") else False
        if not found and bool((~(value.isfinite() | masked)).any()):
            found.append(name)

    points = [module for module in model.modules() if isinstance(module, HookPoint)]
    handles = [point.register_forward_hook(look) for point in points]
    try:
        logits = forward(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    if found:
        raise InputError(
            f"the model's values are NaN or infinite, first at {found[0]}; its weights or its "
            "dtype cannot bear these inputs"
        )
    return logits

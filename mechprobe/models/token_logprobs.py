"""Log-probabilities a decoder gives to chosen tokens, without logits anybody does not ask for."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformer_lens import HookedTransformer

from mechprobe.errors import InputError
from mechprobe.models.edits import HookedModel


def token_logprobs(
    model: HookedModel,
    tokens: Int[Tensor, "batch pos"],
    scored: Bool[Tensor, "batch pos"],
) -> Float[Tensor, " scored"]:
    """Log-probability (nats) of each scored token given the tokens before it, row by row.

    Only the positions in question pass the final norm and the unembedding, which in a small model
    with a large vocabulary are most of the work. Gradients flow; padding stands on the right.

    Raises:
        InputError: not a decoder, or the first token of a row is to be scored.
    """
    if not isinstance(model, HookedTransformer):
        raise InputError(f"a {type(model).__name__} gives no next-token probabilities; give a "
                         "decoder (GPT-2, Llama, GPT-NeoX, or build_decoder)")
    if bool(scored[:, 0].any()):
        raise InputError("the first token of a sentence cannot be scored; put a begin token there")
    resid = model(tokens, stop_at_layer=model.cfg.n_layers, padding_side="right")
    before = resid[:, :-1][scored[:, 1:]]
    logits = model.unembed(model.ln_final(before[None]))[0]
    if model.cfg.output_logits_soft_cap > 0:
        cap = model.cfg.output_logits_soft_cap
        logits = cap * torch.tanh(logits / cap)
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    return -torch.nn.functional.cross_entropy(logits, tokens[scored], reduction="none")

"""What each component of a decoder adds to a logit: one run, and the linear path from it.

In a decoder every head and MLP adds to one residual stream, which the final norm and the
unembedding read. With the norm's scale kept as it was, a difference of logits is a sum over
components (Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens import HookedTransformer
from transformer_lens.components.layer_norm import LayerNorm
from transformer_lens.components.layer_norm_pre import LayerNormPre
from transformer_lens.components.rms_norm import RMSNorm
from transformer_lens.components.rms_norm_pre import RMSNormPre

from mechprobe.errors import InputError
from mechprobe.models.edits import HookedModel, hook_name, run_with_named_hooks, site_grid
from mechprobe.sites import Site
from mechprobe.tasks.batches import Batch

EMBEDDINGS, BIASES = "embeddings", "attention biases"
NORM_BIAS, UNEMBED_BIAS = "final norm bias", "unembedding bias"
_FIRST, _SCALE = "blocks.0.hook_resid_pre", "ln_final.hook_scale"


@dataclass(frozen=True)
class Reading:
    """Which logits are added up at each position, and with which weights (0 where none is).

    Attributes:
        ids: tokens.
        weights: one for each of them.
    """

    ids: Int[Tensor, "batch pos k"]
    weights: Float[Tensor, "batch pos k"]


@dataclass(frozen=True)
class LogitTerms:
    """A weighted sum of logits of one batch, as a sum over components.

    Attributes:
        logits: what the model gave.
        terms: by name, each component's part of the sum: "5.1", "mlp.3", "embeddings",
            "attention biases", "final norm bias", "unembedding bias"; float64 [batch].
    """

    logits: Float[Tensor, "batch pos vocab"]
    terms: dict[str, Float[Tensor, " batch"]]


def decoder_only(model: HookedModel) -> HookedTransformer:
    """The model, if its logits are a sum over components once the final norm's scale is kept.

    Raises:
        InputError: any other model, with the reason.
    """
    if not isinstance(model, HookedTransformer):
        raise InputError(
            f"a {type(model).__name__} has no linear path from components to token logits "
            "(an encoder normalises the stream after every layer, a classifier has labels); give "
            "a decoder language model, or use ablation or attribution"
        )
    return model


@torch.no_grad()
def logit_terms(
    model: HookedModel,
    batch: Batch,
    read: Callable[[Float[Tensor, "batch pos vocab"]], Reading],
) -> LogitTerms:
    """Every component's part of a weighted sum of logits of each example.

    Args:
        model: a decoder, with LayerNorm, RMSNorm or no norm.
        read: from the logits to those that are added up.

    Raises:
        InputError: not a decoder, or one whose logits are not such a sum (a norm after each
            component, a soft cap on logits), seen by the sum not coming out.
    """
    model = decoder_only(model)
    grid = site_grid(model)
    layers = [Site("head", layer) for layer in range(grid.n_layers)]
    layers += [Site("mlp", layer) for layer in range(grid.n_layers) if grid.mlps]
    named = {hook_name(model, site): site for site in layers}
    normed = model.cfg.normalization_type is not None
    found: dict[str, Tensor] = {}
    logits = run_with_named_hooks(
        model, batch, [*named, _FIRST, *[_SCALE] * normed],
        lambda name, value: found.__setitem__(name, value.double()),
    )
    reading = read(logits)
    direction, terms = _through_norm(model, reading, found.get(_SCALE))
    terms[EMBEDDINGS] = torch.einsum("bpd,bpd->b", found[_FIRST], direction)
    terms[BIASES] = torch.zeros_like(terms[EMBEDDINGS])
    for name, site in named.items():
        if site.kind == "mlp":
            terms[str(site)] = torch.einsum("bpd,bpd->b", found[name], direction)
            continue
        attention = model.blocks[site.layer].attn
        terms[BIASES] += torch.einsum("d,bpd->b", attention.b_O.double(), direction)
        out = torch.einsum("hkd,bpd->bphk", attention.W_O.double(), direction)
        parts = torch.einsum("bphk,bphk->bh", found[name], out)
        terms |= {f"{site.layer}.{head}": part for head, part in enumerate(parts.unbind(1))}
    whole = (logits.gather(-1, reading.ids).double() * reading.weights.double()).sum((1, 2))
    _check_sum(terms, whole, model, batch)
    return LogitTerms(logits, terms)


def _through_norm(
    model: HookedTransformer, reading: Reading, scale: Tensor | None
) -> tuple[Float[Tensor, "batch pos d_model"], dict[str, Float[Tensor, " batch"]]]:
    """The direction in the stream before the final norm, and what the norm and W_U's bias add."""
    weights = reading.weights.double()
    columns = model.unembed.W_U.T[reading.ids].double()
    direction = torch.einsum("bpkd,bpk->bpd", columns, weights)
    terms = {
        UNEMBED_BIAS: (model.unembed.b_U.double()[reading.ids] * weights).sum((1, 2)),
        NORM_BIAS: weights.new_zeros(len(weights)),
    }
    if scale is None:
        return direction, terms
    norm = model.ln_final
    if not isinstance(norm, LayerNorm | LayerNormPre | RMSNorm | RMSNormPre):
        raise InputError(f"a final {type(norm).__name__} cannot be read through; use ablation")
    if isinstance(norm, LayerNorm):
        terms[NORM_BIAS] = torch.einsum("d,bpd->b", norm.b.double(), direction)
    if isinstance(norm, LayerNorm | RMSNorm):
        direction = direction * norm.w.double()
    if isinstance(norm, LayerNorm | LayerNormPre):
        direction = direction - direction.mean(-1, keepdim=True)
    return direction / scale, terms


def _check_sum(
    terms: dict[str, Tensor], whole: Float[Tensor, " batch"], model: HookedTransformer, batch: Batch
) -> None:
    parts = torch.stack(list(terms.values()))
    exact = next(model.parameters()).dtype in (torch.float32, torch.float64)
    allowed = (1e-4 if exact else 5e-2) * (1 + parts.abs().sum(0))
    if (bad := ~((parts.sum(0) - whole).abs() <= allowed)).any():
        row = int(bad.nonzero()[0])
        raise InputError(
            f"the components of this decoder add up to {float(parts.sum(0)[row]):.4g} on example "
            f"{int(batch.index[row])}, its logits to {float(whole[row]):.4g}: something between "
            "them is not a sum (a norm after each component, or capped logits); use ablation"
        )

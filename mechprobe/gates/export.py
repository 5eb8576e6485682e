"""Closed sites for other tools: a plain mask of heads, a Hugging Face module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool
from torch import Tensor
from transformers import PreTrainedModel

from mechprobe.errors import InputError
from mechprobe.gates.baselines import Baseline
from mechprobe.gates.choose import chosen_sites, grid_for
from mechprobe.gates.context import constant_values
from mechprobe.models.edits import HookedModel
from mechprobe.models.fold import fold_to_hf
from mechprobe.sites import Site, SiteName
from mechprobe.tasks.batches import Batch
from mechprobe.tasks.behaviour import Behaviour
from mechprobe.tasks.prompts import PromptTask


def head_mask(
    model: HookedModel,
    sites: Sequence[SiteName] | None = None,
    *,
    closed: Sequence[SiteName] | None = None,
) -> Bool[np.ndarray, "layer head"]:
    """A set of heads as a plain array, True where a head is in it.

    ``head_mask(model, net.heads).astype(int)`` gives 1 for the heads of a ``Subnetwork``.

    Args:
        sites: the heads of the set ("4.*": a whole layer); none are given: an empty set.
        closed: instead of ``sites``: the set is every head but these.

    Returns:
        [layer, head]; of an encoder-decoder the layers of its encoder, decoder and cross-attention
        one after the other.

    Raises:
        InputError: sites that are no heads of this model, or both or neither of the two given.
    """
    if (sites is None) == (closed is None):
        raise InputError("give the heads of the set, or closed=[...] for all heads but these")
    grid, _ = grid_for(model, "all")
    given = sites if sites is not None else closed
    found = chosen_sites(grid, given) if given else []
    if other := [site for site in found if site.kind != "head"]:
        raise InputError(f"{other[0]} is no head; a head mask has one entry a head")
    heads = replace(grid, mlps=False)
    gates = heads.mask(kept=found) if sites is not None else heads.mask(closed=found)
    return heads.head_array(gates)


def to_hf(
    model: HookedModel,
    closed: Sequence[SiteName] = (),
    *,
    baseline: str | Baseline = "zero",
    data: Sequence[Batch] | Behaviour | PromptTask | None = None,
) -> PreTrainedModel:
    """The model as a Hugging Face module in eval mode, with these sites closed in its weights.

    Closing a head puts zeros into its columns of the output projection; with the mean baseline
    what they would have made of the mean goes into the projection's bias. Its logits are those of
    ``mechprobe.gates.reference.gated_logits``.

    Args:
        model: a HookedClassifier (-> BertForSequenceClassification), a decoder (-> GPT2LMHeadModel,
            GPTNeoXForCausalLM, LlamaForCausalLM or MistralForCausalLM, by its shape), or an
            encoder-decoder (-> T5ForConditionalGeneration). T5 and Mistral have no biases, so only
            the zero baseline; Llama has none in its MLPs.
        closed: sites such as "5.1", "mlp.3", "4.*", "mlp.2.7".
        baseline: "zero" or "mean", or such a ``Baseline``.
        data: what the mean is taken over.

    Raises:
        InputError: a model without a counterpart, sites that do not exist, another baseline, or a
            mean without data.
    """
    if isinstance(closed, str):
        raise InputError("sites are given in a list, such as closed=['5.1', 'mlp.3']")
    kind = baseline.kind if isinstance(baseline, Baseline) else baseline
    if kind not in ("zero", "mean"):
        raise InputError(
            f"baseline {kind!r} cannot be written into weights, which are the same at every "
            "position and for every input; give 'zero' or 'mean'"
        )
    stand_ins: dict[Site, Tensor] = {}
    if closed:
        grid, shut = grid_for(model, closed)
        values = constant_values(model, grid, baseline, data)
        for site in shut:
            value = values[replace(site, index=None)][0, 0]
            whole = value.shape[0] == 1 and site.kind != "mlp"  # zero: one number for all
            stand_ins[site] = value if site.kind == "mlp" else value[0 if whole else site.index]
    return fold_to_hf(model, stand_ins)

"""Direct logit attribution: what each head and MLP of a decoder itself writes towards the answer.

Only the direct path counts: what later components make of a head's output is theirs. No component
is closed and nothing is counterfactual, so a head that always writes the same counts as much as
one that knows the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.locate.behaviours import AnyTask, behaviour_of
from mechprobe.locate.measure import BATCH, grid_for
from mechprobe.locate.scores import Scores
from mechprobe.models.edits import HookedModel
from mechprobe.models.given import check_model
from mechprobe.models.residual import Reading, decoder_only, logit_terms
from mechprobe.runs import progress as progress_bar
from mechprobe.sites import SiteName
from mechprobe.tasks.answers import UNSCORED
from mechprobe.tasks.batches import Batch
from mechprobe.tasks.behaviour import Behaviour


def direct_logit_attribution(
    model: HookedModel,
    task: AnyTask,
    sites: str | Sequence[SiteName] = "all",
    *,
    direction: str = "logit_difference",
    n: int | None = 512,
    split: str = "dev",
    seed: int = 0,
    progress: bool = True,
) -> Scores:
    """Each component's own part of the answer's logit minus the wrong answer's.

    The final norm is linear once its scale is kept at what it was in the same run, so that the
    parts of all heads and MLPs, the embeddings and the biases add up to the logit difference
    (Elhage et al. 2021; Wang et al. 2023, section 3.1). Means over examples of the parts that are
    not sites are in ``settings["other_terms"]``. Several scored positions are averaged.

    Args:
        model: a decoder language model.
        task: with answers; without wrong answers the likeliest other token is the wrong one.
        sites: "heads", "mlps", "all" or a list of heads and MLP layers.
        direction: "answer_logit" takes the answer's logit alone, whose zero means nothing.
        n: examples at most.
        split: of a task with splits.
        progress: show a bar when it takes long.

    Raises:
        InputError: an encoder or a classifier, a task without answers, sites that are neurons, or
            a decoder whose logits are no sum over components.
    """
    check_model(model)
    decoder_only(model)
    if direction not in ("logit_difference", "answer_logit"):
        raise InputError(f"direction={direction!r}; give 'logit_difference' or 'answer_logit'")
    behaviour = behaviour_of(model, task, n=n, split=split, seed=seed)
    grid, chosen = grid_for(model, sites)
    if neurons := [str(site) for site in chosen if site.kind == "neuron"]:
        raise InputError(f"direct attribution is of heads and MLP layers; leave out {neurons[0]!r}")
    names, values = direct_terms(model, behaviour, direction, progress)
    chosen_names = tuple(map(str, chosen))
    others = {
        name: float(row.mean())
        for name, row in zip(names, values, strict=True) if name not in set(map(str, grid))
    }
    select, report = behaviour.halves(seed)
    return Scores(
        method="direct logit attribution", sites=chosen_names,
        effects=values[[names.index(name) for name in chosen_names]], select=select, report=report,
        metric=direction, baseline="none", forwards=1, grid=grid,
        settings={"n": len(behaviour), "split": split, "seed": seed, "other_terms": others},
    )


def direct_terms(
    model: HookedModel, behaviour: Behaviour, direction: str = "logit_difference",
    progress: bool = True,
) -> tuple[list[str], Float[np.ndarray, "term example"]]:
    """Names and parts of all terms of the sum: sites, embeddings and biases.

    Raises:
        InputError: as ``direct_logit_attribution``.
    """
    if "answer" not in behaviour.targets:
        raise InputError(
            f"{behaviour.name} names no answers, which direct logit attribution reads; give them"
        )
    names: list[str] = []
    values = np.zeros((0, len(behaviour)))
    batches = behaviour.batches(BATCH)
    for batch in progress_bar(batches, "direct logit attribution") if progress else batches:
        found = logit_terms(model, batch, _reading(behaviour, batch, direction))
        if not names:
            names = list(found.terms)
            values = np.zeros((len(names), len(behaviour)))
        parts = torch.stack([found.terms[name] for name in names])
        values[:, batch.index.cpu().numpy()] = parts.cpu().numpy()
    return names, values


def _reading(
    behaviour: Behaviour, batch: Batch, direction: str
) -> Callable[[Float[Tensor, "batch pos vocab"]], Reading]:
    """From logits to what is read: the answer, less the wrong one, averaged over positions."""

    def read(logits: Float[Tensor, "batch pos vocab"]) -> Reading:
        rows = batch.index.cpu()
        answer = behaviour.targets["answer"][rows, : logits.shape[1]].to(logits.device)
        share = (answer != UNSCORED).to(logits.dtype)
        share = share / share.sum(1, keepdim=True)
        right = answer.clamp(min=0)
        if direction == "answer_logit":
            return Reading(right.unsqueeze(-1), share.unsqueeze(-1))
        if "wrong" in behaviour.targets:
            wrong = behaviour.targets["wrong"][rows, : logits.shape[1]].to(logits.device)
            wrong = wrong.clamp(min=0)
        else:
            wrong = logits.scatter(-1, right.unsqueeze(-1), -torch.inf).argmax(-1)
        return Reading(torch.stack([right, wrong], -1), torch.stack([share, -share], -1))

    return read

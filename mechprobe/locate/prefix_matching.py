"""Prefix matching: does a head look at what followed the current token before?

Read off the attention alone, so that it is a check of causal localisers that shares nothing with
them.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.locate.behaviours import AnyTask, behaviour_of
from mechprobe.locate.measure import BATCH
from mechprobe.locate.scores import Scores
from mechprobe.models.edits import HookedModel, attention_patterns, site_grid
from mechprobe.sites import Site
from mechprobe.tasks.answers import UNSCORED
from mechprobe.tasks.behaviour import Behaviour


def prefix_matching(
    model: HookedModel,
    task: AnyTask,
    *,
    split: str = "dev",
    n: int | None = 512,
    seed: int = 0,
    batch_size: int = BATCH,
) -> Scores:
    """Attention of each head to the tokens after earlier occurrences of the current token.

    Taken at the positions whose next token is asked (Olsson et al. 2022, "prefix matching"), less
    what attention spread evenly over the tokens so far would give.

    Args:
        split, n, seed, batch_size: as in ``mechprobe.ablate``.

    Returns:
        Scores of the heads; effects are shares of attention, about -1 to 1.

    Raises:
        InputError: a model that is no decoder, a task without answers at tokens, or an example
            whose asked token has not occurred before.
    """
    grid = site_grid(model)
    if model.cfg.attention_dir != "causal" or grid.stacks != ("",):
        raise InputError("prefix matching is of decoders, which read from left to right")
    behaviour = behaviour_of(model, task, split=split, n=n, seed=seed)
    heads = [site for site in grid if site.kind == "head"]
    effects = np.zeros((len(heads), len(behaviour)))
    for batch in behaviour.batches(batch_size):
        asked, after = matches(behaviour, batch.tokens, batch.index)
        share = asked.double() / asked.sum(1, keepdim=True)
        evenly = after.double() / torch.arange(1, after.shape[1] + 1, device=after.device)[:, None]
        even = torch.einsum("bqk,bq->b", evenly, share)
        rows = batch.index.cpu().numpy()
        for layer, pattern in attention_patterns(model, batch).items():
            mass = torch.einsum("bhqk,bqk,bq->hb", pattern.double(), after.double(), share) - even
            for head, values in enumerate(mass.cpu().numpy()):
                effects[heads.index(Site("head", layer, head)), rows] = values
    select, report = behaviour.halves(seed)
    return Scores(
        method="prefix matching", sites=tuple(map(str, heads)), effects=effects, select=select,
        report=report, metric="attention", baseline="attention spread evenly", forwards=1,
        settings={"task": behaviour.name, "n": len(behaviour), "seed": seed}, grid=grid,
    )


def matches(
    behaviour: Behaviour, tokens: Tensor, index: Tensor
) -> tuple[Bool[Tensor, "batch pos"], Bool[Tensor, "batch pos key"]]:
    """Which positions are asked, and from each position the keys just after its earlier likes.

    Raises:
        InputError: as ``prefix_matching``.
    """
    answer = behaviour.targets.get("answer")
    if answer is None or answer.dim() != 2:
        raise InputError(
            f"{behaviour.name} asks for no token after another; give answers at tokens"
        )
    width = tokens.shape[1]
    asked = (answer[index.cpu(), :width] != UNSCORED).to(tokens.device)
    same = tokens[:, :, None] == tokens[:, None, :]
    earlier = same & torch.ones_like(same[0]).tril(-1)
    after = torch.zeros_like(earlier)
    after[:, :, 1:] = earlier[:, :, :-1]
    if (bad := (asked & ~after.any(-1)).any(1)).any():
        raise InputError(
            f"{behaviour.name}: example {int(index[bad][0])} is asked after a token that has not "
            "occurred before, so no prefix can match; take a task that repeats itself"
        )
    return asked, after

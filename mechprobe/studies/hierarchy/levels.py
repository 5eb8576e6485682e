"""The level-s part of a prediction as a behaviour that every localiser can measure."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Int
from torch import Tensor

from mechprobe.tasks.behaviour import Behaviour
from mechprobe.training.tree_tasks import as_batch, masked_tokens
from mechprobe.trees import Grammar, TreeSamples, block_ladder, level_parts, resample_beyond


def level_part(logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
    """sum_x (B_s(x) - B_{s-1}(x)) log p(x) at the masked leaf of each sequence, nats.

    KL(B_{s-1} || p) - KL(B_s || p) up to a constant of the sequence: how much of what the leaves
    at height s add is in the prediction.
    """
    rows = torch.arange(len(logits), device=logits.device)
    log_probs = logits[rows, targets["place"]].log_softmax(-1)
    return (targets["part"] * log_probs).sum(-1)


def level_behaviour(
    grammar: Grammar, samples: TreeSamples, places: Int[Tensor, " n"], level: int, *, seed: int = 0
) -> Behaviour:
    """The level-s part of masked predictions; counterfactuals differ only from height s on.

    The counterfactual of a sequence keeps the block of height s - 1 around the masked leaf and has
    the rest drawn anew, given that block's ancestor.

    Args:
        samples: of the full hierarchy, with ancestors.
        places: the leaf masked in each sequence.
        level: s, 1 .. depth.

    Raises:
        InputError: samples without ancestors, or a level that does not exist.
    """
    n = len(samples)
    mask = torch.zeros(n, grammar.n_leaves, dtype=torch.bool)
    mask[torch.arange(n), places] = True
    observers = block_ladder(grammar, samples.leaves, mask, [level - 1, level])
    other = resample_beyond(samples, grammar, places, level - 1, seed=seed)
    return Behaviour(
        name=f"level {level}",
        inputs=as_batch(masked_tokens(grammar, samples.leaves, mask)),
        metric=level_part, metric_name=f"level-{level} part (nats)",
        targets={"place": places, "part": level_parts(observers)[0].float()},
        corrupt=as_batch(masked_tokens(grammar, other, mask)),
    )

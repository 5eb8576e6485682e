"""Metrics by name: one number an example from logits and the answers they should give.

Logits are [batch, pos, vocab] with ``answer`` int64 [batch, pos], -100 where nothing is scored, or
[batch, label] with ``answer`` [batch]. ``wrong`` has the same shape. Where several positions are
scored, their mean is taken (``exact_match``: all must be right).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.tasks.behaviour import Metric
from mechprobe.tasks.metrics import kl

UNSCORED = -100


def _positions(
    logits: Float[Tensor, "batch ... vocab"], target: Tensor
) -> tuple[Float[Tensor, "batch pos vocab"], Int[Tensor, "batch pos"], Bool[Tensor, "batch pos"]]:
    """Logits, target ids (0 where unscored) and which positions count, for one label as for many.

    Targets may be wider than the logits of a batch that was cut to its longest row.
    """
    if logits.dim() == 2:
        logits, target = logits.unsqueeze(1), target.reshape(len(logits), 1)
    target = target[:, : logits.shape[1]]
    counts = target != UNSCORED
    return logits, target.clamp(min=0), counts


def _mean(values: Float[Tensor, "batch pos"], counts: Bool[Tensor, "batch pos"]) -> Tensor:
    weight = counts.to(values.dtype)
    return torch.where(counts, values, 0.0).sum(1) / weight.sum(1)


def _at(logits: Float[Tensor, "batch pos vocab"], ids: Int[Tensor, "batch pos"]) -> Tensor:
    return logits.gather(-1, ids.unsqueeze(-1)).squeeze(-1)


def logit_difference(logits: Tensor, targets: Mapping[str, Tensor]) -> Float[Tensor, " batch"]:
    """The answer's logit minus the wrong answer's, or minus the highest other without one."""
    scores, answer, counts = _positions(logits, targets["answer"])
    right = _at(scores, answer)
    if "wrong" in targets:
        _, wrong, _ = _positions(logits, targets["wrong"])
        other = _at(scores, wrong)
    else:
        other = scores.scatter(-1, answer.unsqueeze(-1), -torch.inf).amax(-1)
    return _mean(right - other, counts)


def probability(logits: Tensor, targets: Mapping[str, Tensor]) -> Float[Tensor, " batch"]:
    """The answer's probability, 0 to 1."""
    scores, answer, counts = _positions(logits, targets["answer"])
    return _mean(_at(scores.log_softmax(-1), answer).exp(), counts)


def log_probability(logits: Tensor, targets: Mapping[str, Tensor]) -> Float[Tensor, " batch"]:
    """The answer's log probability in nats."""
    scores, answer, counts = _positions(logits, targets["answer"])
    return _mean(_at(scores.log_softmax(-1), answer), counts)


def accuracy(logits: Tensor, targets: Mapping[str, Tensor]) -> Float[Tensor, " batch"]:
    """Share of scored positions whose likeliest token is the answer (no gradient)."""
    scores, answer, counts = _positions(logits, targets["answer"])
    return _mean((scores.argmax(-1) == answer).to(scores.dtype), counts)


def exact_match(logits: Tensor, targets: Mapping[str, Tensor]) -> Float[Tensor, " batch"]:
    """1 where the likeliest token is the answer at every scored position, else 0 (no gradient)."""
    scores, answer, counts = _positions(logits, targets["answer"])
    return ((scores.argmax(-1) == answer) | ~counts).all(1).to(scores.dtype)


def preference(logits: Tensor, targets: Mapping[str, Tensor]) -> Float[Tensor, " batch"]:
    """Share of scored positions where the answer's logit is above the wrong answer's (no gradient).

    Without a wrong answer it is the accuracy.
    """
    if "wrong" not in targets:
        return accuracy(logits, targets)
    scores, answer, counts = _positions(logits, targets["answer"])
    _, wrong, _ = _positions(logits, targets["wrong"])
    return _mean((_at(scores, answer) > _at(scores, wrong)).to(scores.dtype), counts)


def negative_kl(logits: Tensor, targets: Mapping[str, Tensor]) -> Float[Tensor, " batch"]:
    """Minus KL(full model || this model) in nats at the scored positions; 0 is unchanged.

    Needs ``full_logits`` of the shape of the logits (``mechprobe.locate.behaviour_of`` adds them).
    """
    full = targets["full_logits"]
    if logits.dim() == 3:
        if "answer" not in targets:
            raise InputError("metric 'kl' compares at the positions of answers; give answers")
        full = full[:, : logits.shape[1]]
        _, _, counts = _positions(logits, targets["answer"])
        return -_mean(kl(full, logits), counts)
    return -kl(full, logits)


def accepted(logits: Tensor, targets: Mapping[str, Tensor]) -> Float[Tensor, " batch"]:
    """1 where a classifier's likeliest label is accepted (``Task.accept``), else 0."""
    predicted = logits.argmax(-1, keepdim=True)
    return targets["accept"].gather(-1, predicted).squeeze(-1).to(logits.dtype)


def accepted_log_odds(logits: Tensor, targets: Mapping[str, Tensor]) -> Float[Tensor, " batch"]:
    """Log odds of the accepted labels: the logit difference of a two-way classifier."""
    accept = targets["accept"]
    right = logits.masked_fill(~accept, -torch.inf).logsumexp(-1)
    return right - logits.masked_fill(accept, -torch.inf).logsumexp(-1)


def accepted_probability(logits: Tensor, targets: Mapping[str, Tensor]) -> Float[Tensor, " batch"]:
    """Probability of the accepted labels, 0 to 1."""
    return (logits.softmax(-1) * targets["accept"]).sum(-1)


METRICS: dict[str, Metric] = {
    "logit_difference": logit_difference,
    "probability": probability,
    "log_probability": log_probability,
    "accuracy": accuracy,
    "exact_match": exact_match,
    "preference": preference,
    "kl": negative_kl,
}
LABEL_METRICS: dict[str, Metric] = {
    "logit_difference": accepted_log_odds,
    "probability": accepted_probability,
    "accuracy": accepted,
    "kl": negative_kl,
}
"""The same names for classifiers, whose data may accept several labels."""
WITHOUT_GRADIENT = ("accuracy", "exact_match", "preference")


def shown_name(name: str, targets: Mapping[str, Tensor]) -> str:
    """A metric's name in tables: a logit difference without wrong answers says so."""
    alone = name == "logit_difference" and "wrong" not in targets and "accept" not in targets
    return "logit_difference to the highest other" if alone else name


def find_metric(
    metric: str | Callable[..., Tensor], known: Mapping[str, Metric] = METRICS
) -> tuple[str, Metric]:
    """A metric's name and function; a user's function takes logits, or logits and targets.

    Raises:
        InputError: an unknown name.
    """
    if isinstance(metric, str):
        if metric not in known:
            raise InputError(
                f"no metric {metric!r}; one of {', '.join(known)}, or a function of logits"
            )
        return metric, known[metric]
    name = getattr(metric, "__name__", "metric")
    if _takes_targets(metric):
        return name, metric
    alone: Callable[[Tensor], Tensor] = metric

    @wraps(alone)
    def with_targets(logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        return alone(logits)

    return name, with_targets


def _takes_targets(metric: Callable[..., Tensor]) -> bool:
    """Whether a function's second argument is there to be given, or called ``targets``."""
    try:
        parameters = list(inspect.signature(metric).parameters.values())[1:2]
    except (TypeError, ValueError):  # some built-in functions tell nothing about themselves
        return False
    return any(
        p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        and (p.default is p.empty or p.name == "targets")
        for p in parameters
    )


def last_position(
    ids: Int[Tensor, " batch"], attention_mask: Int[Tensor, "batch pos"]
) -> Int[Tensor, "batch pos"]:
    """Targets scored at the last real token only, -100 elsewhere."""
    target = torch.full_like(attention_mask, UNSCORED)
    last = rearrange(attention_mask.sum(1) - 1, "batch -> batch 1")
    return target.scatter(1, last, rearrange(ids, "batch -> batch 1"))

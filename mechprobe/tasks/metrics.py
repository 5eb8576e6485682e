"""Per-example metrics of a classifier's logits; nothing is averaged here."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


def accuracy(
    logits: Float[Tensor, "batch label"], accept: Bool[Tensor, "batch label"]
) -> Float[Tensor, " batch"]:
    """1 where the likeliest label is one of the accepted (see ``Task.accept``), else 0."""
    predicted = logits.argmax(dim=-1, keepdim=True)
    return accept.gather(-1, predicted).squeeze(-1).to(logits.dtype)


def label_loss(
    logits: Float[Tensor, "batch label"], labels: Int[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """Cross entropy with the given labels, in nats."""
    return F.cross_entropy(logits, labels, reduction="none")


def kl(
    full_logits: Float[Tensor, "*batch label"], logits: Float[Tensor, "*batch label"]
) -> Float[Tensor, "*batch"]:
    """KL(full || masked) = sum_y p(y) (log p(y) - log q(y)), in nats.

    ``p`` is the softmax of ``full_logits``, ``q`` of ``logits`` (the faithfulness objective of
    Bhaskar et al. 2024, section 3).
    """
    log_p = F.log_softmax(full_logits, dim=-1)
    log_q = F.log_softmax(logits, dim=-1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)


def logit_difference(
    logits: Float[Tensor, "batch label"],
    correct: Int[Tensor, " batch"],
    wrong: Int[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    """Logit of the correct answer minus logit of the wrong one."""
    right = logits.gather(-1, correct.unsqueeze(-1))
    other = logits.gather(-1, wrong.unsqueeze(-1))
    return (right - other).squeeze(-1)

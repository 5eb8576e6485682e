"""What a model gives one example: labels, or the likeliest next tokens, before and after."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.models.edits import HookedModel
from mechprobe.show.tokens_read import token_words
from mechprobe.tasks.answers import UNSCORED
from mechprobe.tasks.behaviour import Behaviour

_BEFORE, _AFTER = 4, 3
"""Likeliest tokens told of the untouched and of the closed model."""


@dataclass(frozen=True)
class Output:
    """A label or token with its probability in the untouched model and with sites closed.

    Attributes:
        right: whether it is what the task asks for; None where the task does not say.
    """

    name: str
    before: float
    after: float
    right: bool | None = None


def places_read(behaviour: Behaviour) -> Int[Tensor, " example"]:
    """The position of each example whose predictions are told: the last scored, or the last."""
    inputs = behaviour.inputs
    last = inputs.real("dec").sum(1).cpu() - 1
    answer = behaviour.targets.get("answer")
    if answer is None or answer.dim() != 2:
        return last
    scored = answer.cpu() != UNSCORED
    place = torch.arange(scored.shape[1]).expand_as(scored)
    found = torch.where(scored, place, -1).amax(1)
    return torch.where(found < 0, last, found)


def read_out(
    logits: Float[Tensor, "batch *rest"], place: Int[Tensor, " batch"]
) -> Float[Tensor, "batch output"]:
    """Log probabilities of the labels, or of the tokens at each row's place, on the CPU."""
    logits = logits.detach().float().cpu()
    if logits.dim() == 3:
        logits = logits[torch.arange(len(logits)), place]
    return logits.log_softmax(-1)


def told(
    model: HookedModel, behaviour: Behaviour, example: int | None,
    before: Float[Tensor, " output"], after: Float[Tensor, " output"],
) -> list[Output]:
    """The outputs worth telling: all labels; or the answer and the likeliest tokens of both."""
    labels = getattr(model, "labels", None)
    if labels is not None:
        ids = list(range(len(labels)))
        names = list(labels)
        accept = behaviour.targets.get("accept")
        right = None if example is None or accept is None else accept[example].tolist()
    else:
        answers = [] if example is None else _answers(behaviour, example)
        likely = before.topk(min(_BEFORE, len(before))).indices.tolist()
        likely += after.topk(min(_AFTER, len(after))).indices.tolist()
        ids = list(dict.fromkeys([*answers, *likely]))
        tokenizer = getattr(model, "tokenizer", None)
        names = [token_words([i], tokenizer)[0] for i in ids]
        right = None if not answers else [i == answers[0] for i in ids]
    return [
        Output(names[k], float(before[i].exp()), float(after[i].exp()),
               None if right is None else bool(right[k]))
        for k, i in enumerate(ids)
    ]


def _answers(behaviour: Behaviour, example: int) -> list[int]:
    """The answer's id at the place read, then the wrong answer's, as far as the task names them."""
    found: list[int] = []
    if behaviour.metric_name == "kl":  # its answers only say where distributions are compared
        return found
    for name in ("answer", "wrong"):
        target = behaviour.targets.get(name)
        if target is None:
            continue
        row = target[example].reshape(-1)
        scored = row[row != UNSCORED]
        if len(scored):
            found.append(int(scored[-1]))
    return found

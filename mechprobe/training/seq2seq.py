"""Fit an encoder-decoder or a decoder on sources and targets; exact match by teacher forcing.

The settings of An et al. (2023, appendix): AdamW, a constant learning rate, label smoothing 0.1,
gradients clipped to norm 1. Which weights learn can be narrowed to the embeddings, or to some rows
of them, so that new words are learnt by a body that stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mechprobe.errors import InputError
from mechprobe.models.edits import HookedModel, forward
from mechprobe.runs.crew import gather
from mechprobe.tasks.answers import UNSCORED
from mechprobe.tasks.seq2seq_rows import SequenceRows
from mechprobe.training.fit import StateStore, schedule

LEARNS = ("all", "embeddings", "body")
_EMBEDDINGS = ("embed.W_E", "unembed.W_U", "unembed.b_U")


@dataclass(frozen=True)
class SequenceFit:
    """How a sequence model is fitted.

    Args:
        steps: optimiser steps.
        batch_size: pairs a step.
        lr: peak learning rate of AdamW.
        embedding_lr: of the embeddings, where it differs.
        warmup: share of the steps in which the rate rises.
        decay: whether it then falls linearly to 0, else it stays.
        weight_decay: of AdamW; none on embeddings of which only some rows learn.
        clip: largest norm of the gradient.
        label_smoothing: share of the probability that is spread over all tokens.
        learns: "all" weights, "embeddings" only (the body is frozen), or the "body" only.

    Raises:
        InputError: a number that cannot work.
    """

    steps: int
    batch_size: int = 32
    lr: float = 1e-3
    embedding_lr: float | None = None
    warmup: float = 0.05
    decay: bool = True
    weight_decay: float = 0.01
    clip: float = 1.0
    label_smoothing: float = 0.1
    learns: str = "all"

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise InputError(
                f"{self.steps} steps of {self.batch_size} pairs; give 1 or more of each"
            )
        rates = [self.lr, self.clip, *([] if self.embedding_lr is None else [self.embedding_lr])]
        if not min(rates) > 0:
            raise InputError(
                f"learning rates {rates[0]} and {self.embedding_lr} and clipping norm {self.clip} "
                "must be above 0"
            )
        if not 0 <= self.label_smoothing < 1 or not 0 <= self.warmup <= 1:
            raise InputError(
                f"label smoothing {self.label_smoothing} and warm-up {self.warmup} are shares, 0 "
                "to 1"
            )
        if self.learns not in LEARNS:
            raise InputError(f"learns={self.learns!r}; give one of {', '.join(LEARNS)}")


def fit_sequences(
    model: HookedModel,
    data: SequenceRows,
    settings: SequenceFit,
    *,
    seed: int,
    rows: Collection[int] | None = None,
    trajectory: Collection[int] = (),
    on_checkpoint: Callable[[int], None] | None = None,
    on_step: Callable[[int, float], None] | None = None,
    store: StateStore | None = None,
    save_every: int = 500,
) -> None:
    """Fit a model in place by cross-entropy on the answers of ``data``.

    Args:
        model: a HookedEncoderDecoder, or a HookedTransformer for ``decoder_only`` rows.
        seed: decides the order of the batches.
        rows: ids of the words whose embeddings learn; None: all.
        trajectory: steps after which ``on_checkpoint(step)`` is called.
        on_step: called with (step, loss) after each step.
        store: where the state is saved every ``save_every`` steps and at each trajectory point, and
            resumed from; saved and resumed, the numbers are the same.

    Raises:
        InputError: a trajectory point outside 1 .. steps, or word ids the model does not have.
        FloatingPointError: when the loss is not finite; the step is named.
    """
    if outside := [point for point in trajectory if not 1 <= point <= settings.steps]:
        raise InputError(
            f"trajectory point {outside[0]} is no step of this fit; give 1 to {settings.steps}"
        )
    mask = None if rows is None else _row_mask(model, rows)
    device = next(model.parameters()).device
    optimiser, rates = _optimiser(model, settings, mask is not None)
    done = 0
    if store is not None and (state := store.load()) is not None:
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        done = int(state["step"])
    learning = [p for group in optimiser.param_groups for p in group["params"]]
    team = gather()
    model.train()
    for step, chosen in batch_stream(data, settings.batch_size, seed, done, settings.steps):
        factor = _factor(step, settings)
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        own = chosen[team.rows(len(chosen))]
        answers = data.answers(own).to(device)
        loss = sequence_loss(forward(model, data.batch(own)), answers, settings.label_smoothing)
        if team.size > 1:
            loss = loss * (scored(answers) / scored(data.answers(chosen)))
        value = team.total(loss)
        if not math.isfinite(value):
            raise FloatingPointError(
                f"training loss is {value} at step {step}: lower the learning rate ({settings.lr})"
            )
        loss.backward(inputs=learning)
        team.sum_gradients(learning)
        if mask is not None:
            _keep_rows(model, mask)
        torch.nn.utils.clip_grad_norm_(learning, settings.clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if on_step is not None:
            on_step(step + 1, value)
        at_point = step + 1 in trajectory
        if at_point and on_checkpoint is not None:
            model.eval()
            on_checkpoint(step + 1)
            model.train()
        if store is not None and (at_point or (step + 1) % save_every == 0):
            store.save({
                "step": step + 1, "model": model.state_dict(), "optimiser": optimiser.state_dict(),
            })
    model.eval()


def sequence_loss(
    logits: Float[Tensor, "batch pos vocab"], answers: Int[Tensor, "batch pos"], smoothing: float
) -> Float[Tensor, ""]:
    """Mean cross-entropy of the answers in nats, over scored tokens, with label smoothing."""
    return cross_entropy(
        logits.flatten(0, 1), answers.flatten(), ignore_index=UNSCORED, label_smoothing=smoothing
    )


def scored(answers: Int[Tensor, "batch pos"]) -> int:
    """How many tokens of the answers count."""
    return int((answers != UNSCORED).sum())


@torch.no_grad()
def exact_matches(
    model: HookedModel, data: SequenceRows, batch_size: int = 128
) -> Bool[np.ndarray, " row"]:
    """Whether each whole target, its end included, is the model's greedy answer.

    By teacher forcing: where every token is the likeliest after the right ones, greedy decoding
    writes just these, so one forward pass decides.
    """
    out = np.zeros(len(data), dtype=bool)
    for chosen in data.in_batches(batch_size):
        answers = data.answers(chosen)
        best = forward(model, data.batch(chosen)).argmax(-1).cpu()
        out[chosen] = ((best == answers) | (answers == UNSCORED)).all(1).numpy()
    return out


@torch.no_grad()
def answer_log_probability(
    model: HookedModel, data: SequenceRows, batch_size: int = 128
) -> Float[np.ndarray, " row"]:
    """Mean log probability of each target's tokens in nats, given the right ones before."""
    out = np.zeros(len(data))
    for chosen in data.in_batches(batch_size):
        answers = data.answers(chosen)
        scores = forward(model, data.batch(chosen)).float().log_softmax(-1).cpu()
        scored = answers != UNSCORED
        own = scores.gather(-1, answers.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        out[chosen] = ((own * scored).sum(1) / scored.sum(1)).double().numpy()
    return out


def batch_stream(
    data: SequenceRows, batch_size: int, seed: int, done: int, steps: int
) -> Iterator[tuple[int, Int[np.ndarray, " row"]]]:
    """(step, rows) from step ``done`` on; the order depends only on the seed."""
    per_epoch = max(1, len(data) // batch_size)
    batches: list[np.ndarray] = []
    for step in range(done, steps):
        epoch, place = divmod(step, per_epoch)
        if place == 0 or not batches:
            batches = data.in_batches(batch_size, shuffle_seed=1_000_003 * seed + epoch)
        yield step, batches[place]


def _factor(step: int, settings: SequenceFit) -> float:
    if settings.decay:
        return schedule(step, settings.steps, settings.warmup)
    return min(1.0, (step + 1) / max(1, round(settings.warmup * settings.steps)))


def _optimiser(
    model: HookedModel, settings: SequenceFit, some_rows: bool
) -> tuple[torch.optim.Optimizer, list[float]]:
    """AdamW over what learns, and each group's peak rate; frozen biases of T5 stay out."""
    found: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            found[name in _EMBEDDINGS].append(parameter)
    wanted = {"all": (True, False), "embeddings": (True,), "body": (False,)}[settings.learns]
    rates = {True: settings.embedding_lr or settings.lr, False: settings.lr}
    decay = {True: 0.0 if some_rows else settings.weight_decay, False: settings.weight_decay}
    groups = [{"params": found[k], "lr": rates[k], "weight_decay": decay[k]} for k in wanted]
    return torch.optim.AdamW(groups, fused=True), [rates[k] for k in wanted]


def _row_mask(model: HookedModel, rows: Collection[int]) -> Float[Tensor, " vocab"]:
    weight = embedding_weights(model)["embed.W_E"]
    if not rows or not all(0 <= row < len(weight) for row in rows):
        raise InputError(
            f"word ids {min(rows, default=0)} to {max(rows, default=0)} cannot learn in a model of "
            f"{len(weight)} words; give ids of its vocabulary"
        )
    mask = torch.zeros(len(weight), dtype=weight.dtype, device=weight.device)
    mask[torch.tensor(sorted(rows), device=weight.device)] = 1
    return mask


def embedding_weights(model: HookedModel) -> dict[str, nn.Parameter]:
    """The weights of words by name: embed.W_E [vocab, d], unembed.W_U [d, vocab], b_U [vocab]."""
    return {name: p for name, p in model.named_parameters() if name in _EMBEDDINGS}


def _keep_rows(model: HookedModel, mask: Float[Tensor, " vocab"]) -> None:
    """Keep the embeddings' gradients of the masked words only."""
    for name, weight in embedding_weights(model).items():
        if weight.grad is not None:
            weight.grad.mul_(mask[:, None] if name == "embed.W_E" else mask)

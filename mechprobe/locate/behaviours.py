"""From what a user has (a card, a task, prompts) to the behaviour a localiser measures."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeAlias, cast

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from mechprobe.errors import InputError
from mechprobe.models.edits import HookedModel, forward
from mechprobe.models.finite import finite_forward
from mechprobe.models.given import check_model
from mechprobe.tasks.answers import LABEL_METRICS, METRICS, UNSCORED, find_metric, shown_name
from mechprobe.tasks.batches import Batch, Seq2SeqBatch, encode_pairs
from mechprobe.tasks.behaviour import Behaviour, take_rows
from mechprobe.tasks.cards import load_task
from mechprobe.tasks.examples import Task
from mechprobe.tasks.language import LanguageTask
from mechprobe.tasks.prompts import PromptTask

AnyTask: TypeAlias = Behaviour | PromptTask | LanguageTask | Task | str


def behaviour_of(
    model: HookedModel,
    task: AnyTask,
    *,
    metric: str | Callable[..., Tensor] | None = None,
    split: str = "dev",
    n: int | None = 512,
    seed: int = 0,
) -> Behaviour:
    """The behaviour of a model that a task asks about.

    Args:
        task: a behaviour (returned with another metric if one is given), prompts, a task for
            language models, a sentence-pair task, or the name of a card.
        metric: instead of the task's own ("logit_difference" for sentence pairs).
        split: which split of a task that has them.
        n: examples at most, drawn with ``seed``; None takes all.

    Warns where clean inputs equal their counterfactual.

    Raises:
        InputError: no hooked model, no task, a task that does not fit the model, a metric that is
            NaN on an example, or one that does not depend on the model's logits.
    """
    check_model(model)
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or seed < 0:
        raise InputError(f"seed={seed!r}; give a whole number, 0 or more")
    match task:
        case str():
            return behaviour_of(
                model, load_task(task), metric=metric, split=split, n=n, seed=seed
            )
        case Task():
            found = _pairs(model, task, metric or "logit_difference", split, n, seed)
        case PromptTask():
            asked = task if metric is None else replace(task, metric=metric)
            found = asked.encode(model.tokenizer)
        case LanguageTask():
            found = _measured_by(_language(model, task, split), metric)
        case Behaviour():
            found = _measured_by(task, metric)
            _warn_same(found)
        case _:
            raise InputError(
                f"a {type(task).__name__} is no task; give the model first, then a PromptTask, a "
                "Task, a LanguageTask, a Behaviour or the name of a card"
            )
    if n is not None and len(found) > n:
        rows = np.sort(np.random.default_rng([seed, 3]).permutation(len(found))[:n])
        found = found.take(rows)
    _check_fits(model, found)
    if found.metric_name == "kl" and "full_logits" not in found.targets:
        found = replace(found, targets={**found.targets, "full_logits": full_logits(model, found)})
    check_metric(model, found)
    return found


def _warn_same(behaviour: Behaviour) -> None:
    """Warn of clean inputs that equal their counterfactual, as prompts do when they are encoded."""
    corrupt = behaviour.corrupt
    if corrupt is None:
        return
    same = (behaviour.inputs.tokens == corrupt.tokens).all(1)
    if isinstance(behaviour.inputs, Seq2SeqBatch) and isinstance(corrupt, Seq2SeqBatch):
        same &= (behaviour.inputs.decoder_tokens == corrupt.decoder_tokens).all(1)
    if same.any():
        warnings.warn(
            f"{behaviour.name}: {int(same.sum())} of {len(same)} clean inputs equal their "
            f"counterfactual (first: {int(same.nonzero()[0])}); patching them changes nothing",
            stacklevel=4,
        )


def _measured_by(behaviour: Behaviour, metric: str | Callable[..., Tensor] | None) -> Behaviour:
    """The behaviour with another metric, where one is given."""
    if metric is None:
        return behaviour
    known = LABEL_METRICS if "accept" in behaviour.targets else METRICS
    name, function = find_metric(metric, known)
    unnamed = not {"answer", "accept"} & set(behaviour.targets)
    if isinstance(metric, str) and metric != "kl" and unnamed:
        raise InputError(
            f"{behaviour.name}: metric {name!r} needs answers, which this behaviour does not name; "
            "give targets={'answer': ...}, or a metric of your own"
        )
    shown = shown_name(name, behaviour.targets) if isinstance(metric, str) else name
    return replace(behaviour, metric=function, metric_name=shown)


def _language(model: HookedModel, task: LanguageTask, split: str) -> Behaviour:
    if getattr(model, "labels", None) is not None:
        raise InputError(
            f"{task.name} asks what comes next; give a language model, not a classifier"
        )
    tokenizer = cast(PreTrainedTokenizerFast | None, model.tokenizer)
    return task.encode(tokenizer, split, d_vocab=model.cfg.d_vocab)


def _pairs(
    model: HookedModel, task: Task, metric: str | Callable[..., Tensor], split: str,
    n: int | None, seed: int,
) -> Behaviour:
    labels = getattr(model, "labels", None)
    if labels is None or model.tokenizer is None:
        raise InputError(
            f"task {task.name} is about sentence pairs; give a classifier with a tokenizer "
            "(mechprobe.load_model(..., labels=...)), or prompts for a language model"
        )
    if tuple(labels) != task.labels:
        raise InputError(
            f"the model gives {', '.join(labels)}, task {task.name} has {', '.join(task.labels)}; "
            "load the model with labels= in the task's order"
        )
    examples = task.split(split)
    if n is not None:
        examples = examples.sample(n, seed)
    tokenizer = cast(PreTrainedTokenizerFast, model.tokenizer)
    encoded = encode_pairs(examples, tokenizer, model.cfg.n_ctx)
    batches = encoded.batches(max(1, len(encoded)))
    inputs = take_rows(batches[0], torch.argsort(batches[0].index))
    name, function = find_metric(metric, LABEL_METRICS)
    targets = {"accept": torch.from_numpy(task.accept(examples)), "label": inputs.labels}
    return Behaviour(f"{task.name}:{split}", inputs, function, name, targets)


def _check_fits(model: HookedModel, behaviour: Behaviour) -> None:
    """Refuse inputs that are longer than the model reads, or hold tokens that it does not know."""
    for batch in filter(None, (behaviour.inputs, behaviour.corrupt)):
        length = batch.attention_mask.sum(1)
        limited = model.cfg.positional_embedding_type != "relative_positional_bias"
        if limited and (bad := length > model.cfg.n_ctx).any():
            row = int(bad.nonzero()[0])
            raise InputError(
                f"{behaviour.name}: example {row} has {int(length[row])} tokens, the model reads "
                f"at most {model.cfg.n_ctx}; shorten it"
            )
        if (bad := ((batch.tokens < 0) | (batch.tokens >= model.cfg.d_vocab)).any(1)).any():
            row = int(bad.nonzero()[0])
            raise InputError(
                f"{behaviour.name}: example {row} has token {int(batch.tokens[row].max())}, the "
                f"model knows 0 to {model.cfg.d_vocab - 1}; use its own tokenizer"
            )


    if getattr(model, "labels", None) is None:
        for what in ("answer", "wrong"):
            _check_known(behaviour, what, _outputs(model))


def _outputs(model: HookedModel) -> int:
    """How many logits a position has: the vocabulary, where a model is not built otherwise."""
    n = model.cfg.d_vocab_out
    return n if n > 0 else model.cfg.d_vocab


def _check_known(behaviour: Behaviour, what: str, d_vocab: int) -> None:
    """Refuse answers [n, pos] that are no tokens of the model; raises InputError."""
    ids = behaviour.targets.get(what)
    if ids is None or ids.dim() != 2 or ids.is_floating_point():
        return
    unknown = (ids != UNSCORED) & ((ids < 0) | (ids >= d_vocab))
    if unknown.any():
        row = int(unknown.any(1).nonzero()[0])
        raise InputError(
            f"{behaviour.name}: {what!r} of example {row} is token {int(ids[row][unknown[row]][0])}"
            f", the model knows 0 to {d_vocab - 1}; use its own tokenizer"
        )


@torch.no_grad()
def full_logits(model: HookedModel, behaviour: Behaviour) -> Tensor:
    """The untouched model's logits on every example, in order, padded positions zero."""
    out: Tensor | None = None
    for batch in behaviour.batches():
        logits = forward(model, batch).cpu()
        if out is None:
            shape = list(logits.shape)
            if logits.dim() == 3:
                shape[1] = behaviour.inputs.real("dec").shape[1]
            out = logits.new_zeros(len(behaviour), *shape[1:])
        rows = batch.index.cpu()
        if logits.dim() == 3:
            out[rows, : logits.shape[1]] = logits
        else:
            out[rows] = logits
    assert out is not None  # a behaviour has at least one example
    return out


@torch.no_grad()
def check_metric(model: HookedModel, behaviour: Behaviour) -> None:
    """Refuse, before long work, a metric that is NaN, of the wrong shape or blind to the logits.

    So is a model whose own values are NaN or infinite.
    """
    batch = behaviour.batches(32)[0]
    logits = finite_forward(model, batch)
    values = behaviour.measure(logits, batch)
    refuse_nan(values.double().cpu().numpy(), batch, behaviour)
    if any(not torch.equal(behaviour.measure(other, batch), values) for other in _others(
        logits, behaviour, batch
    )):
        return
    raise InputError(
        f"metric {behaviour.metric_name!r} does not depend on the model: it stays the same when "
        "the logits change; let it use its first argument"
    )


def _others(logits: Tensor, behaviour: Behaviour, batch: Batch) -> Iterator[Tensor]:
    """Other logits: noise, and a model that is sure of each of the target ids (or labels).

    The second kind moves metrics that noise hardly ever does, such as the accuracy of a model that
    is always wrong among thousands of tokens.
    """
    generator = torch.Generator().manual_seed(0)
    scale = 3 * (logits.std(correction=0) + 1)
    for _ in range(8):
        yield logits + scale * torch.randn(logits.shape, generator=generator).to(logits)
    for name, target in behaviour.targets.items():
        ids = target[batch.index.cpu()].to(logits.device)
        ids = ids[:, : logits.shape[1]] if logits.dim() == 3 and ids.dim() > 1 else ids
        if ids.shape == logits.shape[:-1] and not ids.is_floating_point() and name != "accept":
            best = ids.long().clamp(0, logits.shape[-1] - 1).unsqueeze(-1)
            yield logits.scatter(-1, best, float(logits.max() + scale))
    for label in range(logits.shape[-1] if logits.dim() == 2 else 0):
        yield logits.index_fill(-1, torch.tensor(label).to(logits.device), float(logits.max() + 9))


def refuse_nan(values: np.ndarray, batch: Batch, behaviour: Behaviour) -> None:
    """Raise InputError naming the first example whose metric is NaN or infinite."""
    if (bad := ~np.isfinite(values)).any():
        first = int(np.flatnonzero(bad)[0])
        raise InputError(
            f"{behaviour.name}: metric {behaviour.metric_name!r} is {_number(values[first])} on "
            f"example {int(batch.index[first])}; leave that example out or mend the metric"
        )


def _number(value: float) -> str:
    return "NaN" if np.isnan(value) else "infinite"

"""How a decoder scores minimal pairs: all tasks in one pass, sentences of like length together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.models.edits import HookedModel
from mechprobe.models.token_logprobs import token_logprobs
from mechprobe.tasks.pair_tokens import EncodedPairs, SentenceBatch

BATCH_TOKENS = 2_048
"""Padded tokens of a batch: on a CPU core half again as fast as 8,192; a GPU wants more."""


@dataclass(frozen=True)
class PairScores:
    """Log-probability (nats) of the acceptable and the unacceptable sentence of each pair."""

    good: Float[np.ndarray, " pair"]
    bad: Float[np.ndarray, " pair"]
    n_good: np.ndarray
    n_bad: np.ndarray

    def margins(self, per_token: bool = False) -> Float[np.ndarray, " pair"]:
        """log P(x+) - log P(x-), summed over tokens or the mean per token."""
        if per_token:
            return self.good / self.n_good - self.bad / self.n_bad
        return self.good - self.bad


def score_pairs(
    model: HookedModel, pairs: EncodedPairs, *, batch_tokens: int = BATCH_TOKENS
) -> PairScores:
    """Summed token log-probabilities of every sentence, the begin token given.

    Raises:
        InputError: not a decoder.
    """
    sums = _sums(model, pairs, batch_tokens, whole=True)
    counts = pairs.lengths - 1
    return PairScores(sums[0::2], sums[1::2], counts[0::2], counts[1::2])


def pair_margins(
    model: HookedModel, pairs: EncodedPairs, *, batch_tokens: int = BATCH_TOKENS
) -> Float[np.ndarray, " pair"]:
    """log P(x+) - log P(x-) of every pair, in nats.

    Tokens that both sentences begin with have equal probabilities and cancel, so that only those
    behind them are scored.

    Raises:
        InputError: not a decoder.
    """
    sums = _sums(model, pairs, batch_tokens, whole=False)
    return sums[0::2] - sums[1::2]


def batch_sums(
    model: HookedModel, batch: SentenceBatch
) -> Float[Tensor, " batch"]:
    """Summed log-probability of each sentence's scored tokens, with gradient."""
    values = token_logprobs(model, batch.tokens, batch.scored)
    owner = batch.scored.nonzero()[:, 0]
    return values.new_zeros(len(batch.tokens)).index_add(0, owner, values)


def task_accuracy(
    margins: Float[np.ndarray, "*copy pair"], pairs: EncodedPairs
) -> Float[np.ndarray, "*copy task"]:
    """Share of each paradigm's pairs whose acceptable sentence is the likelier; ties are wrong."""
    return by_task((margins > 0).astype(float), pairs)


def by_task(
    values: Float[np.ndarray, "*copy pair"], pairs: EncodedPairs
) -> Float[np.ndarray, "*copy task"]:
    """Mean of a value over the pairs of each paradigm."""
    return task_means(values, pairs.task, len(pairs.names))


def task_means(
    values: Float[np.ndarray, "*copy pair"], task: Int[np.ndarray, " pair"], n_tasks: int
) -> Float[np.ndarray, "*copy task"]:
    """Mean of a value over the pairs of each of so many tasks, the task of every pair given."""
    member = np.eye(n_tasks)[task]
    return values @ member / member.sum(0)


def macro_mean(
    values: Float[np.ndarray, " task"], phenomena: list[str]
) -> float:
    """Mean over phenomena of the mean over their paradigms: near duplicates do not count twice."""
    groups = np.array(phenomena)
    if len(groups) != len(values):
        raise InputError(f"{len(values)} tasks and {len(groups)} phenomena; give as many of each")
    return float(np.mean([values[groups == g].mean() for g in dict.fromkeys(phenomena)]))


def _sums(
    model: HookedModel, pairs: EncodedPairs, batch_tokens: int, *, whole: bool
) -> Float[np.ndarray, " sentence"]:
    device = next(model.parameters()).device
    out = np.zeros(2 * len(pairs))
    with torch.no_grad():
        for batch in pairs.batches(batch_tokens, whole=whole):
            sums = batch_sums(model, batch.to(device))
            out[batch.row.numpy()] = sums.double().cpu().numpy()
    return out



"""Beam search with a decoder or an encoder-decoder, free or kept to allowed tokens."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.models.edits import HookedModel, forward
from mechprobe.models.generate import _append, _start
from mechprobe.tasks.batches import Batch
from mechprobe.tasks.behaviour import take_rows
from mechprobe.tasks.seen_words import SeenWords
from mechprobe.tasks.seq2seq_rows import SequenceRows

Allowed = Callable[[Sequence[int]], Collection[int]]
"""From what is written so far to the tokens that may come next."""


@dataclass
class _Row:
    """What one row of a batch has found: its live beams and its finished ones."""

    live: list[tuple[float, list[int]]]
    done: list[tuple[float, list[int]]] = field(default_factory=list)


@torch.no_grad()
def beam_search(
    model: HookedModel,
    batch: Batch,
    max_new_tokens: int,
    beams: int,
    *,
    end: int,
    pad: int = 0,
    length_penalty: float = 1.0,
    allowed: Allowed | None = None,
) -> Int[Tensor, "batch new"]:
    """The continuation with the highest log probability divided by length ** length_penalty.

    At each step a row keeps its ``beams`` most probable unfinished continuations; it stops when
    none of them can still beat the ``beams`` best finished ones. One beam is greedy decoding.

    Args:
        model: a HookedTransformer or a HookedEncoderDecoder.
        batch: rows padded on the right, as for ``generate``.
        max_new_tokens: how many tokens at most; what has not ended then counts as it is.
        end: ends a continuation, and counts in its length.
        pad: stands after the end.
        allowed: shuts out every other token; a continuation without any ends without ``end``.

    Raises:
        InputError: fewer than one beam or new token, or what ``generate`` refuses.
    """
    if beams < 1 or max_new_tokens < 1:
        raise InputError(f"{beams} beams of {max_new_tokens} new tokens; give 1 or more of each")
    first = _start(model, batch, max_new_tokens).to("cpu")
    rows = [_Row([(0.0, [])]) for _ in range(len(batch))]
    for length in range(1, max_new_tokens + 1):
        flat = [(r, beam) for r, row in enumerate(rows) for beam in row.live]
        if not flat:
            break
        scores = _next_scores(model, first, flat, allowed)
        tops, ids = scores.topk(min(2 * beams, scores.shape[1]))
        for r, row in enumerate(rows):
            if row.live:
                mine = [i for i, (owner, _) in enumerate(flat) if owner == r]
                found = [
                    (flat[i][1][0] + value, [*flat[i][1][1], token])
                    for i in mine
                    for value, token in zip(tops[i].tolist(), ids[i].tolist(), strict=True)
                    if value > -np.inf
                ]
                _advance(row, found, beams, end, length, max_new_tokens, length_penalty)
    best = [max(row.done, key=lambda found: found[0])[1] if row.done else [] for row in rows]
    width = max(1, *map(len, best))
    return torch.tensor([row + [pad] * (width - len(row)) for row in best])


def _advance(
    row: _Row, found: list[tuple[float, list[int]]], beams: int, end: int, length: int,
    longest: int, penalty: float,
) -> None:
    """Sort one row's candidates into finished and live ones, and stop it when it has won."""
    stuck = [(score / max(1, len(text)) ** penalty, text) for score, text in row.live]
    row.live = []
    for score, text in sorted(found, key=lambda beam: -beam[0])[: 2 * beams]:
        if len(row.live) == beams:
            break
        if text[-1] == end or length == longest:
            row.done.append((score / length**penalty, text))
        else:
            row.live.append((score, text))
    if not found:
        row.done += stuck
    row.done = sorted(row.done, key=lambda beam: -beam[0])[:beams]
    if len(row.done) == beams and row.live:
        # scores are at most 0: the longest possible text divides them by most
        reachable = row.live[0][0] / (longest if penalty > 0 else length) ** penalty
        if reachable <= row.done[-1][0]:
            row.live = []


def _next_scores(
    model: HookedModel, first: Batch, flat: list[tuple[int, tuple[float, list[int]]]],
    allowed: Allowed | None,
) -> Float[Tensor, "beam vocab"]:
    """Log probabilities of the token behind each live continuation; -inf for those shut out."""
    grown = take_rows(first, torch.tensor([r for r, _ in flat]))
    live = torch.ones(len(flat), dtype=torch.bool)
    for i in range(len(flat[0][1][1])):
        token = torch.tensor([text[i] for _, (_, text) in flat])
        grown = _append(grown, token, grown.real("dec").sum(1), live)
    logits = forward(model, grown)
    last = (grown.real("dec").sum(1) - 1).to(logits.device)
    at = logits[torch.arange(len(flat), device=logits.device), last]
    scores = at.double().log_softmax(-1).cpu()
    if allowed is None:
        return scores
    return scores.masked_fill(~_mask(flat, allowed, scores.shape[1]), -torch.inf)


def _mask(
    flat: list[tuple[int, tuple[float, list[int]]]], allowed: Allowed, vocab: int
) -> Bool[Tensor, "beam vocab"]:
    mask = torch.zeros(len(flat), vocab, dtype=torch.bool)
    for i, (_, (_, text)) in enumerate(flat):
        mask[i, sorted(allowed(text))] = True
    return mask


def beam_exact_matches(
    model: HookedModel, data: SequenceRows, beams: int, seen: SeenWords | None = None,
    batch_size: int = 32,
) -> Bool[np.ndarray, " row"]:
    """Whether beam search writes each whole target.

    Args:
        seen: keeps it to words of these; None: free.
    """
    out = np.zeros(len(data), dtype=bool)
    asked = SequenceRows(data.sources, ((),) * len(data), data.words, data.decoder_only, data.name)
    longest = data.longest[1] + 2
    for chosen in data.in_batches(batch_size):
        written = beam_search(
            model, asked.batch(chosen), longest, beams, end=data.words.end, pad=data.words.pad,
            allowed=None if seen is None else seen.allowed,
        )
        for row, text in zip(chosen, written.tolist(), strict=True):
            wanted = [*data.targets[row], data.words.end]
            out[row] = text[: len(wanted)] == wanted
    return out

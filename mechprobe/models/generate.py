"""Greedy continuation of a batch by a decoder or an encoder-decoder, edited or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeAlias

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformer_lens import HookedEncoderDecoder, HookedTransformer

from mechprobe.errors import InputError
from mechprobe.models.edits import Edit, HookedModel, run_with_edits
from mechprobe.sites import Site
from mechprobe.tasks.batches import Batch, Seq2SeqBatch

Edits: TypeAlias = Mapping[Site, Edit] | Callable[[Batch], Mapping[Site, Edit]]


@torch.no_grad()
def generate(
    model: HookedModel,
    batch: Batch,
    max_new_tokens: int,
    *,
    eos: int | None = None,
    pad: int | None = None,
    edits: Edits | None = None,
) -> Int[Tensor, "batch new"]:
    """The most probable next token, again and again, until every row has ended.

    The whole model runs anew for every token, so that an edit sees all positions each time. A
    decoder goes on after each row's last real token; an encoder-decoder starts from each row's
    first decoder token, or from ``cfg.decoder_start_token_id`` if the batch has no decoder side.

    Args:
        model: a HookedTransformer or a HookedEncoderDecoder.
        batch: rows padded on the right.
        max_new_tokens: how many tokens at most.
        eos: ends a row; the tokenizer's when None, and where there is none nothing ends a row. A
            number that is no token, such as -1, ends none either.
        pad: stands after a row's end; the tokenizer's padding token, else 0, when None.
        edits: as in ``run_with_edits``, or a function from the batch as it has grown so far to such
            edits (``mechprobe.gates.reference.gate_edits`` makes one of gates).

    Returns:
        New tokens on the CPU, each row's own ``eos`` among them; as many columns as the longest row
        needs.

    Raises:
        InputError: a model that does not write, no new tokens asked for, rows padded on the left,
            or more positions than a decoder has.
    """
    if max_new_tokens < 1:
        raise InputError(f"{max_new_tokens} new tokens asked for; give 1 or more")
    tokenizer = getattr(model, "tokenizer", None)
    if eos is None:
        eos = -1 if tokenizer is None else _or(tokenizer.eos_token_id, -1)
    if pad is None:
        pad = 0 if tokenizer is None else _or(tokenizer.pad_token_id, 0)
    grown = _start(model, batch, max_new_tokens).to("cpu")
    rows = torch.arange(len(batch))
    ended = torch.zeros(len(batch), dtype=torch.bool)
    new: list[Tensor] = []
    for _ in range(max_new_tokens):
        logits = run_with_edits(model, grown, edits(grown) if callable(edits) else edits or {})
        last = grown.real("dec").sum(1) - 1
        token = logits[rows.to(logits.device), last.to(logits.device)].argmax(-1).cpu()
        new.append(torch.where(ended, pad, token))
        ended = ended | (token == eos)
        if ended.all():
            break
        grown = _append(grown, token, last + 1, ~ended)  # pad need not be a token of the model
    return torch.stack(new, dim=1)


def _or(token: int | list[int] | None, otherwise: int) -> int:
    return token if isinstance(token, int) else otherwise


def _start(model: HookedModel, batch: Batch, max_new_tokens: int) -> Batch:
    """What the first token is predicted from."""
    mask = batch.attention_mask
    if isinstance(model, HookedEncoderDecoder):
        shared = {name: getattr(batch, name) for name in
                  ("tokens", "segments", "attention_mask", "labels", "index")}
        if isinstance(batch, Seq2SeqBatch):
            first = batch.decoder_tokens[:, :1]
        else:
            first = torch.full_like(batch.tokens[:, :1], model.cfg.decoder_start_token_id or 0)
        return Seq2SeqBatch(**shared, decoder_tokens=first, decoder_mask=torch.ones_like(first))
    if not isinstance(model, HookedTransformer):
        raise InputError(
            f"a {type(model).__name__} writes no text; give a decoder or an encoder-decoder"
        )
    if (mask.diff(dim=1) > 0).any() or not mask[:, 0].all():
        raise InputError("rows with padding before real tokens, or empty; pad them on the right")
    longest = int(mask.sum(1).max())
    if longest + max_new_tokens - 1 > model.cfg.n_ctx:
        raise InputError(
            f"{longest} tokens and {max_new_tokens} new ones are more than the {model.cfg.n_ctx} "
            f"this decoder reads; ask for at most {max(0, model.cfg.n_ctx - longest + 1)}"
        )
    return batch


def _append(
    batch: Batch,
    token: Int[Tensor, " batch"],
    at: Int[Tensor, " batch"],
    live: Bool[Tensor, " batch"],
) -> Batch:
    """The batch with one more token a row, at each row's own end; padding in rows that ended."""

    def grow(values: Tensor, value: Tensor) -> Tensor:
        if int(at.max()) == values.shape[1]:
            values = torch.cat([values, values.new_zeros(len(values), 1)], dim=1)
        return values.scatter(1, at[:, None], value[:, None].to(values))

    one = live.long()
    if isinstance(batch, Seq2SeqBatch):
        return replace(
            batch,
            decoder_tokens=grow(batch.decoder_tokens, token),
            decoder_mask=grow(batch.decoder_mask, one),
        )
    segment = batch.segments.gather(1, at[:, None] - 1)[:, 0]
    return replace(
        batch,
        tokens=grow(batch.tokens, token),
        segments=grow(batch.segments, segment),
        attention_mask=grow(batch.attention_mask, one),
    )

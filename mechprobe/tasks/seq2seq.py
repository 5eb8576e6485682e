"""Batches of sources and targets from rows of token ids."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.tasks.batches import Seq2SeqBatch


def seq2seq_batch(
    sources: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    *,
    start: int = 0,
    pad: int = 0,
    labels: Sequence[int] | None = None,
    first: int = 0,
) -> Seq2SeqBatch:
    """One padded batch; the decoder's rows are ``start`` and then the target.

    Args:
        sources: token ids of each source.
        targets: token ids of each target, with its end token where the model has one.
        start: the decoder's start token.
        pad: fills both sides.
        labels: label index of each pair; 0 when None.
        first: index of the first row.

    Raises:
        InputError: no rows, an empty source, or another number of targets or labels than sources.
    """
    n = len(sources)
    labels = [0] * n if labels is None else labels
    if not n or len(targets) != n or len(labels) != n or not all(len(row) for row in sources):
        raise InputError(
            f"{n} sources (the shortest of {min(map(len, sources), default=0)} tokens), "
            f"{len(targets)} targets, {len(labels)} labels; give one or more sources of 1 token "
            "or more, and as many of each"
        )
    tokens, mask = _padded(sources, pad)
    decoder_tokens, decoder_mask = _padded([[start, *row] for row in targets], pad)
    return Seq2SeqBatch(
        tokens=tokens,
        segments=torch.zeros_like(tokens),
        attention_mask=mask,
        labels=torch.tensor(labels, dtype=torch.long),
        index=torch.arange(first, first + n),
        decoder_tokens=decoder_tokens,
        decoder_mask=decoder_mask,
    )


def _padded(
    rows: Sequence[Sequence[int]], pad: int
) -> tuple[Int[Tensor, "row pos"], Int[Tensor, "row pos"]]:
    """Token ids padded on the right, and 1 where they are real."""
    width = max(len(row) for row in rows)
    tokens = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], dtype=torch.long)
    lengths = torch.tensor([len(row) for row in rows])
    return tokens, (torch.arange(width) < lengths[:, None]).long()

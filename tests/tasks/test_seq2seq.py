"""Batches for encoder-decoders: padded on both sides, moved and stacked whole."""

from __future__ import annotations

import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.gates.reference import _stack
from mechprobe.tasks import Batch, Seq2SeqBatch, seq2seq_batch


@pytest.fixture
def batch() -> Seq2SeqBatch:
    return seq2seq_batch(
        [[5, 6, 7], [8]], [[9, 1], [4, 3, 2, 1]], start=11, pad=12, labels=[1, 0], first=7
    )


def test_both_sides_are_padded_on_the_right(batch):
    assert batch.tokens.tolist() == [[5, 6, 7], [8, 12, 12]]
    assert batch.attention_mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch.decoder_tokens.tolist() == [[11, 9, 1, 12, 12], [11, 4, 3, 2, 1]]
    assert batch.decoder_mask.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert batch.labels.tolist() == [1, 0]
    assert batch.index.tolist() == [7, 8]
    assert batch.segments.shape == batch.tokens.shape
    assert not batch.segments.any()
    assert len(batch) == 2


def test_positions_by_stack(batch):
    for stack in ("", "enc"):
        assert batch.real(stack) is batch.attention_mask
    for stack in ("dec", "cross"):
        assert batch.real(stack) is batch.decoder_mask
    assert batch.n_positions == 6 + 10
    one_stack = Batch(
        batch.tokens, batch.segments, batch.attention_mask, batch.labels, batch.index
    )
    assert one_stack.real() is batch.attention_mask
    assert one_stack.n_positions == 6


def test_it_moves_whole(batch):
    moved = batch.to("meta")
    assert isinstance(moved, Seq2SeqBatch)
    assert {t.device.type for t in vars(moved).values()} == {"meta"}


def test_it_is_stacked_whole(batch):
    stacked = _stack(batch, 3)
    assert isinstance(stacked, Seq2SeqBatch)
    for name, value in vars(batch).items():
        assert torch.equal(getattr(stacked, name), torch.cat([value] * 3)), name


@pytest.mark.parametrize(
    ("sources", "targets", "more"),
    [([], [], {}), ([[1], []], [[1], [1]], {}), ([[1]], [[1], [2]], {}),
     ([[1]], [[2]], {"labels": [0, 1]})],
)  # fmt: skip
def test_rows_that_do_not_fit_are_refused(sources, targets, more):
    with pytest.raises(InputError, match=rf"{len(sources)} sources .* {len(targets)} targets"):
        seq2seq_batch(sources, targets, **more)


def test_an_empty_target_is_a_start_token():
    batch = seq2seq_batch([[1], [2]], [[], []], start=3)
    assert batch.decoder_tokens.tolist() == [[3], [3]]

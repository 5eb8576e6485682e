"""Sources and targets as ids, in batches for an encoder-decoder or for a decoder that reads both.

An encoder-decoder reads the source and its end token; its decoder reads the start token and the
target. A decoder alone reads source, separator and target. Both answer with the target and its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.tasks.answers import METRICS, UNSCORED, find_metric
from mechprobe.tasks.batches import Batch
from mechprobe.tasks.behaviour import Behaviour
from mechprobe.tasks.seq2seq import seq2seq_batch
from mechprobe.tasks.word_ids import PieceIds, WordIds

_POOL = 20  # batches that are sorted by length together when the order is shuffled


@dataclass(frozen=True)
class SequenceRows:
    """Encoded pairs.

    Attributes:
        sources: ids of each source, without end.
        targets: ids of each target, without end.
        words: the vocabulary.
        decoder_only: whether one decoder reads source and target.
        name: where they come from.
    """

    sources: tuple[tuple[int, ...], ...]
    targets: tuple[tuple[int, ...], ...]
    words: WordIds | PieceIds
    decoder_only: bool
    name: str

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def longest(self) -> tuple[int, int]:
        """Positions of the longest source and of the longest target, with what is added to them."""
        return max(map(len, self.sources)) + 1, max(map(len, self.targets)) + 1

    def take(self, rows: Sequence[int] | np.ndarray) -> SequenceRows:
        """Some of the pairs, in the order given."""
        return SequenceRows(
            tuple(self.sources[i] for i in rows), tuple(self.targets[i] for i in rows),
            self.words, self.decoder_only, self.name,
        )

    def batch(self, rows: Sequence[int] | np.ndarray) -> Batch:
        """The rows in one padded batch; ``index`` holds ``rows``."""
        end, separator = self.words.end, self.words.separator
        if self.decoder_only:
            # as the source of a pair with an empty target: one padded row each
            whole = [(*self.sources[i], separator, *self.targets[i]) for i in rows]
            both = seq2seq_batch(whole, [()] * len(whole), pad=self.words.pad)
            return Batch(
                both.tokens, both.segments, both.attention_mask, both.labels,
                torch.as_tensor(np.asarray(rows), dtype=torch.long),
            )
        batch = seq2seq_batch(
            [(*self.sources[i], end) for i in rows], [self.targets[i] for i in rows],
            start=self.words.pad, pad=self.words.pad,
        )
        batch.index.copy_(torch.as_tensor(np.asarray(rows), dtype=torch.long))
        return batch

    def answers(self, rows: Sequence[int] | np.ndarray) -> Int[Tensor, "row pos"]:
        """What the logits of ``batch(rows)`` should say: the target and its end, else -100."""
        before = [len(self.sources[i]) if self.decoder_only else 0 for i in rows]
        asked = [
            [UNSCORED] * n + [*self.targets[i], self.words.end]
            for n, i in zip(before, rows, strict=True)
        ]
        width = max(map(len, asked))
        return torch.tensor([row + [UNSCORED] * (width - len(row)) for row in asked])

    def in_batches(
        self, batch_size: int, *, shuffle_seed: int | None = None
    ) -> list[Int[np.ndarray, " row"]]:
        """Rows of batches of like length; from short to long, or shuffled by the seed.

        Every row comes once, except that shuffled batches are full: what is left over is left out
        (unless it is all there is).
        """
        if batch_size < 1:
            raise InputError(f"batch size {batch_size} is not possible; give 1 or more")
        lengths = np.array([len(s) + len(t) for s, t in zip(self.sources, self.targets)])
        if shuffle_seed is None:
            order = np.argsort(lengths, kind="stable")
            return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
        rng = np.random.default_rng(shuffle_seed)
        order = rng.permutation(len(self))
        if len(order) >= batch_size:
            order = order[: len(order) - len(order) % batch_size]
        batches: list[np.ndarray] = []
        for start in range(0, len(order), batch_size * _POOL):
            part = order[start : start + batch_size * _POOL]
            part = part[np.argsort(lengths[part], kind="stable")]
            batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
        return [batches[i] for i in rng.permutation(len(batches))]

    def behaviour(
        self, metric: str = "exact_match", corrupt: SequenceRows | None = None
    ) -> Behaviour:
        """What localisers measure: a metric of the teacher-forced answers.

        Raises:
            InputError: an unknown metric, or counterfactuals of other lengths.
        """
        every = np.arange(len(self))
        name, function = find_metric(metric, METRICS)
        return Behaviour(
            self.name, self.batch(every), function, name, {"answer": self.answers(every)},
            None if corrupt is None else corrupt.batch(every),
        )


def encode_rows(pairs: Any, words: WordIds | PieceIds, *, decoder_only: bool) -> SequenceRows:
    """Pairs with ``source``, ``target`` and ``name`` as ids.

    Raises:
        InputError: no pairs, or a token that the vocabulary lacks.
    """
    if not len(pairs.source):
        raise InputError(f"{pairs.name}: no pairs; give at least one")
    return SequenceRows(
        tuple(tuple(words.encode(tokens)) for tokens in pairs.source),
        tuple(tuple(words.encode(tokens)) for tokens in pairs.target),
        words, decoder_only, pairs.name,
    )

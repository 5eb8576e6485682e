"""Minimal pairs as token ids behind a begin token, and padded batches of like length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from mechprobe.errors import InputError
from mechprobe.tasks.minimal_pairs import MinimalPairs

UNKNOWN = ("raise", "keep", "drop")


@dataclass(frozen=True)
class SentenceBatch:
    """Sentences of like length.

    Attributes:
        tokens: begin token, then the sentence's, padded on the right.
        scored: which tokens' log-probabilities count.
        row: of each sentence, 2 * pair for the acceptable, 2 * pair + 1 for the other.
    """

    tokens: Int[Tensor, "batch pos"]
    scored: Bool[Tensor, "batch pos"]
    row: Int[Tensor, " batch"]

    def to(self, device: str | torch.device) -> SentenceBatch:
        """The same batch on another device."""
        return SentenceBatch(
            self.tokens.to(device), self.scored.to(device), self.row.to(device)
        )


@dataclass(frozen=True)
class EncodedPairs:
    """Token ids of all pairs without padding; sentence 2 i is the acceptable one of pair i.

    Attributes:
        tokens: ids of all sentences, each behind the begin token, int64 [sum of lengths].
        starts: where each sentence starts, int64 [2 n + 1].
        shared: tokens that both sentences of a pair begin with, int64 [n]; at least the begin
            token.
        task: index of each pair's paradigm in ``names``, int64 [n].
        names: the paradigms.
        pad_id: what fills a batch.
        n_dropped: pairs left out because of unknown words.
    """

    tokens: np.ndarray
    starts: np.ndarray
    shared: np.ndarray
    task: np.ndarray
    names: tuple[str, ...]
    pad_id: int
    n_dropped: int = 0

    def __len__(self) -> int:
        return len(self.task)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each sentence, begin token included, int64 [2 n]."""
        return np.diff(self.starts)

    def of_task(self, task: int) -> np.ndarray:
        """The pairs of a paradigm."""
        return np.flatnonzero(self.task == task)

    def batches(
        self, batch_tokens: int, *, rows: np.ndarray | None = None, whole: bool = False
    ) -> list[SentenceBatch]:
        """Sentences from short to long, in batches of at most ``batch_tokens`` padded tokens.

        Args:
            rows: sentences to take (2 * pair, 2 * pair + 1); all when None.
            whole: score every token behind the begin token; else only those behind the part that
                the two sentences of a pair share, which is all that their difference needs.
        """
        rows = np.arange(len(self.lengths)) if rows is None else rows
        lengths = self.lengths[rows]
        order = np.argsort(lengths, kind="stable")
        out, start = [], 0
        while start < len(order):
            end = start + 1
            while end < len(order) and (end + 1 - start) * lengths[order[end]] <= batch_tokens:
                end += 1
            out.append(self.batch(rows[order[start:end]], whole=whole))
            start = end
        return out

    def batch(self, rows: np.ndarray, *, whole: bool = False) -> SentenceBatch:
        """These sentences in one batch."""
        lengths = self.lengths[rows]
        place = np.arange(lengths.max())[None, :]
        real = place < lengths[:, None]
        source = np.where(real, self.starts[rows][:, None] + place, 0)
        tokens = np.where(real, self.tokens[source], self.pad_id)
        first = np.ones(len(rows), dtype=np.int64) if whole else self.shared[rows // 2]
        scored = real & (place >= first[:, None])
        return SentenceBatch(
            torch.from_numpy(tokens), torch.from_numpy(scored), torch.from_numpy(rows)
        )


def subset(pairs: EncodedPairs, chosen: Int[np.ndarray, " pair"]) -> EncodedPairs:
    """Some of the pairs, in this order; the paradigms stay the same."""
    rows = np.stack([2 * chosen, 2 * chosen + 1], axis=1).reshape(-1)
    parts = [pairs.tokens[pairs.starts[r] : pairs.starts[r + 1]] for r in rows]
    return EncodedPairs(
        tokens=np.concatenate(parts) if parts else pairs.tokens[:0],
        starts=np.cumsum([0, *map(len, parts)], dtype=np.int64),
        shared=pairs.shared[chosen], task=pairs.task[chosen], names=pairs.names,
        pad_id=pairs.pad_id,
    )


def begin_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """Id of the token before a sentence: BOS, else EOS; InputError where there is neither."""
    bos = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if not isinstance(bos, int):
        raise InputError("the tokenizer has neither a begin nor an end token; set bos_token")
    return bos


def encode_minimal_pairs(
    pairs: MinimalPairs,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int | None = None,
    unknown: str = "raise",
) -> EncodedPairs:
    """Token ids of every pair, the begin token (BOS, else EOS) before each sentence.

    Args:
        max_length: longest sentence the model reads, begin token included.
        unknown: a word outside the vocabulary is refused ("raise"), read as the unknown token
            ("keep"), or its pair left out ("drop").

    Raises:
        InputError: a word outside the vocabulary, a sentence that is too long, or a pair whose
            sentences have the same tokens (file and line are named); a tokenizer without begin
            token; a paradigm of which "drop" leaves nothing.
    """
    if unknown not in UNKNOWN:
        raise InputError(f"unknown={unknown!r}; expected one of {', '.join(UNKNOWN)}")
    bos = begin_token(tokenizer)
    ids: list[list[int]] = []
    task, shared, n_dropped = [], [], 0
    for t, paradigm in enumerate(pairs):
        sentences = [s for pair in zip(paradigm.good, paradigm.bad, strict=True) for s in pair]
        found = [[bos, *row] for row in token_ids(sentences, tokenizer)]
        for i, where in enumerate(paradigm.where):
            two = found[2 * i : 2 * i + 2]
            odd = _unknown_word(sentences[2 * i : 2 * i + 2], two, tokenizer)
            if odd is not None and unknown == "raise":
                raise InputError(
                    f"{where}: {odd!r} is not in the model's vocabulary; use another vocabulary, "
                    "or leave such pairs out (unknown = drop; on the command line --unknown drop)"
                )
            if odd is not None and unknown == "drop":
                n_dropped += 1
                continue
            _check_tokens(two, where, max_length)
            ids += two
            task.append(t)
            shared.append(_shared(*two))
        if t not in task[-1:]:
            raise InputError(
                f"no pair of paradigm {paradigm.name} is left: each has a word outside the "
                "vocabulary; leave the paradigm out or use another vocabulary"
            )
    pad = tokenizer.pad_token_id
    return EncodedPairs(
        tokens=np.array([token for row in ids for token in row], dtype=np.int64),
        starts=np.cumsum([0, *map(len, ids)], dtype=np.int64),
        shared=np.array(shared, dtype=np.int64),
        task=np.array(task, dtype=np.int64),
        names=tuple(pairs.names),
        pad_id=pad if isinstance(pad, int) else bos,
        n_dropped=n_dropped,
    )


def token_ids(
    sentences: Sequence[str], tokenizer: PreTrainedTokenizerBase
) -> list[list[int]]:
    """The tokens of each sentence, without any before or behind it."""
    out = tokenizer(
        list(sentences), add_special_tokens=False, padding=False, truncation=False,
        return_attention_mask=False, verbose=False,
    )
    return list(out["input_ids"])


def _unknown_word(
    sentences: Sequence[str], ids: Sequence[list[int]], tokenizer: PreTrainedTokenizerBase
) -> str | None:
    """A word of which the tokenizer makes the unknown token, None when there is none."""
    unk = tokenizer.unk_token_id
    if unk is None or tokenizer.unk_token == tokenizer.bos_token:
        return None
    for sentence, row in zip(sentences, ids, strict=True):
        if unk in row[1:]:
            for word in sentence.split():
                if unk in token_ids([word], tokenizer)[0]:
                    return word
            return sentence
    return None


def _check_tokens(two: Sequence[list[int]], where: str, max_length: int | None) -> None:
    if two[0] == two[1]:
        raise InputError(
            f"{where}: both sentences have the same tokens in this vocabulary; remove the pair or "
            "use another vocabulary"
        )
    longest = max(map(len, two))
    if max_length is not None and longest > max_length:
        raise InputError(
            f"{where}: a sentence has {longest} tokens with the begin token, and the model reads "
            f"{max_length}; remove the pair or use a longer context"
        )


def _shared(good: Sequence[int], bad: Sequence[int]) -> int:
    n = 0
    while n < min(len(good), len(bad)) and good[n] == bad[n]:
        n += 1
    return n

"""Sentence pairs as token ids, and padded batches of pairs of like length."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Int
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from mechprobe.errors import InputError
from mechprobe.tasks.examples import PairExamples

AnyBatch = TypeVar("AnyBatch", bound="Batch")
_POOL = 50  # batches that are sorted by length together when the order is shuffled
_SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


@dataclass(frozen=True)
class Batch:
    """Padded pairs.

    Attributes:
        tokens: token ids, padded on the right.
        segments: 0 for the first sentence, 1 for the second.
        attention_mask: 1 for a real token, 0 for padding.
        labels: label index of each pair in its data set.
        index: row of each pair in the examples the batch was made from.

    Raises:
        InputError: a row without a real token (looked for on the CPU only).
    """

    tokens: Int[Tensor, "batch pos"]
    segments: Int[Tensor, "batch pos"]
    attention_mask: Int[Tensor, "batch pos"]
    labels: Int[Tensor, " batch"]
    index: Int[Tensor, " batch"]

    def __post_init__(self) -> None:
        if self.attention_mask.device.type != "cpu":  # a look would wait for the GPU
            return
        if not bool((full := self.attention_mask.any(1)).all()):
            row = int(full.logical_not().nonzero()[0])
            raise InputError(
                f"row {row} of a batch is padding alone; leave it out, or mark its tokens with 1 "
                "in attention_mask"
            )

    def to(self: AnyBatch, device: str | torch.device) -> AnyBatch:
        """The same batch on another device."""
        return type(self)(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def take(self: AnyBatch, rows: slice) -> AnyBatch:
        """Some of the rows, padded as before; the batch itself where they are all."""
        if rows == slice(0, None, 1):
            return self
        return type(self)(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def real(self, stack: str = "") -> Int[Tensor, "batch pos"]:
        """1 for a real token, 0 for padding, at the positions of a stack's sites ("" or "enc")."""
        return self.attention_mask

    @property
    def n_positions(self) -> int:
        """Positions the model reads, padding included."""
        return self.tokens.numel()

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class Seq2SeqBatch(Batch):
    """Padded pairs of a source, which the encoder reads, and what the decoder reads.

    Logits at decoder position t are about decoder token t + 1, so the decoder reads a start token
    and then the target: ``logits[:, :-1]`` answers to ``decoder_tokens[:, 1:]``.

    Attributes:
        decoder_tokens: token ids from the start token on, padded on the right.
        decoder_mask: 1 for a real token of the decoder, 0 for padding.
    """

    decoder_tokens: Int[Tensor, "batch dec_pos"]
    decoder_mask: Int[Tensor, "batch dec_pos"]

    def real(self, stack: str = "") -> Int[Tensor, "batch pos"]:
        """As ``Batch.real``; "dec" and "cross" sites have the decoder's positions."""
        return self.decoder_mask if stack in ("dec", "cross") else self.attention_mask

    @property
    def n_positions(self) -> int:
        """Positions the encoder and the decoder read, padding included."""
        return self.tokens.numel() + self.decoder_tokens.numel()


@dataclass(frozen=True)
class Encoded:
    """Token ids of all examples without padding, one after the other.

    Attributes:
        tokens: ids of all rows, int64 [sum of lengths].
        segments: segment of each token, int64 [sum of lengths].
        starts: where each row starts, int64 [n + 1].
        labels: int64 [n].
        index: row of each in the examples given, int64 [n] (rows may have been dropped).
        pad_id: token id that fills a batch.
        n_truncated: rows that were cut to the longest length allowed.
        n_dropped: rows left out because they were longer.
    """

    tokens: np.ndarray
    segments: np.ndarray
    starts: np.ndarray
    labels: np.ndarray
    index: np.ndarray
    pad_id: int
    n_truncated: int = 0
    n_dropped: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens in each row, int64 [n]."""
        return np.diff(self.starts)

    def batches(
        self, batch_size: int, *, shuffle_seed: int | None = None, drop_last: bool = False
    ) -> list[Batch]:
        """All rows in batches of like length, each padded to its own longest row.

        Without ``shuffle_seed`` rows go from short to long. With it the rows and the order of the
        batches are shuffled, the same way for the same seed. Every row comes exactly once, unless
        ``drop_last`` leaves out the rows that do not fill a batch.
        """
        if batch_size < 1:
            raise InputError(f"batch size {batch_size} is not possible; give 1 or more")
        n = len(self)
        lengths = self.lengths
        rng = None if shuffle_seed is None else np.random.default_rng(shuffle_seed)
        order = np.arange(n) if rng is None else rng.permutation(n)
        if drop_last:
            order = order[: n - n % batch_size]
        pool = max(n, 1) if rng is None else batch_size * _POOL
        rows: list[np.ndarray] = []
        for start in range(0, len(order), pool):
            part = order[start : start + pool]
            part = part[np.argsort(lengths[part], kind="stable")]
            rows += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
        if rng is not None:
            rows = [rows[i] for i in rng.permutation(len(rows))]
        return [self._pad(r) for r in rows]

    def _pad(self, rows: np.ndarray) -> Batch:
        lengths = self.lengths[rows]
        mask = np.arange(lengths.max())[None, :] < lengths[:, None]
        spans = [np.arange(int(self.starts[r]), int(self.starts[r + 1])) for r in rows]
        source = np.concatenate(spans)
        tokens = np.full(mask.shape, self.pad_id, dtype=np.int64)
        segments = np.zeros(mask.shape, dtype=np.int64)
        tokens[mask] = self.tokens[source]
        segments[mask] = self.segments[source]
        return Batch(
            tokens=torch.from_numpy(tokens),
            segments=torch.from_numpy(segments),
            attention_mask=torch.from_numpy(mask.astype(np.int64)),
            labels=torch.from_numpy(self.labels[rows]),
            index=torch.from_numpy(self.index[rows]),
        )


def encode_pairs(
    examples: PairExamples,
    tokenizer: PreTrainedTokenizerFast,
    max_length: int,
    *,
    too_long: Literal["truncate", "raise", "drop"] = "truncate",
) -> Encoded:
    """Token ids of each pair, at most ``max_length`` with special tokens.

    A longer pair is cut from its longer sentence (``truncate``), left out (``drop``), or refused
    (``raise``: InputError with the row and its length). ``Encoded.n_truncated`` and
    ``Encoded.n_dropped`` count them.
    """
    if too_long not in ("truncate", "raise", "drop"):
        raise InputError(f"too_long={too_long!r}; expected 'truncate', 'raise' or 'drop'")
    pad_id = tokenizer.pad_token_id
    if not isinstance(pad_id, int):
        raise InputError(
            f"{examples.name}: the tokenizer has no padding token; set tokenizer.pad_token"
        )
    ids, types = _tokenize(examples.first, examples.second, tokenizer)
    long = [i for i, row in enumerate(ids) if len(row) > max_length]
    keep = np.arange(len(ids))
    if long and too_long == "raise":
        raise InputError(
            f"{examples.name}: row {long[0]} has {len(ids[long[0]])} tokens and {len(long)} rows "
            f"are longer than max_length={max_length}; raise max_length, or cut or drop them "
            "with too_long='truncate' or 'drop'"
        )
    if long and too_long == "drop":
        keep = np.setdiff1d(keep, long)
    elif long:
        cut = _tokenize(
            [examples.first[i] for i in long],
            [examples.second[i] for i in long],
            tokenizer,
            max_length,
        )
        for i, row, row_types in zip(long, *cut, strict=True):
            ids[i], types[i] = row, row_types
    return Encoded(
        tokens=np.array([t for i in keep for t in ids[i]], dtype=np.int64),
        segments=np.array([t for i in keep for t in types[i]], dtype=np.int64),
        starts=np.cumsum([0, *(len(ids[i]) for i in keep)], dtype=np.int64),
        labels=examples.label[keep],
        index=keep.astype(np.int64),
        pad_id=pad_id,
        n_truncated=len(long) if too_long == "truncate" else 0,
        n_dropped=len(long) if too_long == "drop" else 0,
    )


def _tokenize(
    first: Iterable[str],
    second: Iterable[str],
    tokenizer: PreTrainedTokenizerFast,
    max_length: int | None = None,
) -> tuple[list[list[int]], list[list[int]]]:
    a, b = list(first), list(second)
    if not a:
        return [], []
    out = tokenizer(
        a,
        b,
        padding=False,
        truncation=False if max_length is None else "longest_first",
        max_length=max_length,
        return_token_type_ids=True,
        return_attention_mask=False,
        verbose=False,
    )
    return list(out["input_ids"]), list(out["token_type_ids"])


def word_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A lower-casing tokenizer with one token a word of ``texts`` and BERT's pair template.

    Ids: [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4, then the words in alphabetical order, so
    the same texts in any order give the same tokenizer.
    """
    normalizer = normalizers.Lowercase()
    splitter = pre_tokenizers.BertPreTokenizer()
    words = {
        word
        for text in set(texts)
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))
    }
    if not words:
        raise InputError("word_tokenizer got no words; give the texts its vocabulary comes from")
    vocabulary = {word: i for i, word in enumerate([*_SPECIAL.values(), *sorted(words)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(t, vocabulary[t]) for t in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **_SPECIAL,
    )

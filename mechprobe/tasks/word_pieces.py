"""Words as sub-word tokens, and sub-word vectors pooled back to words."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Num
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from mechprobe.errors import InputError
from mechprobe.tasks.batches import Batch, Encoded

POOLINGS = ("mean", "first")
NO_WORD = -1
"""Word of a special token or of padding."""


class SentencesLeftOut(UserWarning):
    """Some of the given sentences cannot be read by the model and are left out."""


@dataclass(frozen=True)
class EncodedWords:
    """Sentences as token ids, and which word each token is part of.

    Attributes:
        encoded: token ids; ``encoded.index`` (and a batch's ``index``) is the sentence's row in
            what was given, since rows may have been left out; labels are 0.
        words: word of each token, int64 [tokens]; -1 for special tokens.
        n_words: words of each sentence kept, int64 [sentence].
        too_long: rows left out because the model cannot read so many tokens.
        vanished: rows left out because the tokenizer leaves nothing of one of their words.
    """

    encoded: Encoded
    words: np.ndarray
    n_words: np.ndarray
    too_long: tuple[int, ...] = ()
    vanished: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.encoded)

    def words_of(self, batch: Batch) -> Int[Tensor, "batch pos"]:
        """Word of each token of a batch of ``encoded``; -1 for special tokens and padding."""
        rows = np.searchsorted(self.encoded.index, batch.index.cpu().numpy())
        starts, lengths = self.encoded.starts[rows], self.encoded.lengths[rows]
        place = np.arange(batch.tokens.shape[1])
        source = np.minimum(starts[:, None] + place, len(self.words) - 1)
        found = np.where(place < lengths[:, None], self.words[source], NO_WORD)
        return torch.from_numpy(found).to(batch.tokens.device)


def encode_words(
    sentences: Sequence[Sequence[str]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    *,
    unfit: str = "skip",
) -> EncodedWords:
    """Token ids of sentences that are already split into words.

    A sentence is unfit when it has more than ``max_length`` tokens, special ones included, or a
    word of which the tokenizer leaves no token (a zero-width character, say). Unfit sentences are
    left out with a warning and listed in the result, or refused.

    Warns:
        SentencesLeftOut: how many are left out, and why.

    Raises:
        InputError: a tokenizer that cannot tell words, or has no padding token; an unfit sentence
            under ``unfit="raise"``; or no sentence left.
    """
    if unfit not in ("skip", "raise"):
        raise InputError(f"unfit={unfit!r}; expected 'skip' or 'raise'")
    out = _tokenize(sentences, tokenizer)
    too_long, vanished, kept = [], [], []
    words: list[list[int]] = []
    for row, sentence in enumerate(sentences):
        found = [NO_WORD if word is None else word for word in out.word_ids(row)]
        if len(set(found) - {NO_WORD}) < len(sentence):
            vanished.append(row)
        elif len(found) > max_length:
            too_long.append(row)
        else:
            kept.append(row)
            words.append(found)
    if unfit == "raise" and (too_long or vanished):
        _refuse(sentences, out, too_long, vanished, max_length)
    if not kept:
        raise InputError(
            f"no sentence of {len(sentences)} is left: {len(too_long)} are longer than "
            f"{max_length} tokens and {len(vanished)} have words of which no token is left"
        )
    if too_long or vanished:
        warnings.warn(
            f"{len(too_long) + len(vanished)} of {len(sentences)} sentences are left out (the "
            f"first is number {min(too_long + vanished)}, from 0): {len(too_long)} longer than "
            f"{max_length} tokens, {len(vanished)} with a word of which no token is left",
            SentencesLeftOut, stacklevel=2,
        )  # fmt: skip
    ids = [out["input_ids"][row] for row in kept]
    pad: Any = tokenizer.pad_token_id
    encoded = Encoded(
        tokens=np.concatenate(ids).astype(np.int64),
        segments=np.zeros(sum(map(len, ids)), dtype=np.int64),
        starts=np.cumsum([0, *map(len, ids)], dtype=np.int64),
        labels=np.zeros(len(kept), dtype=np.int64),
        index=np.array(kept, dtype=np.int64),
        pad_id=int(pad),
        n_dropped=len(too_long) + len(vanished),
    )
    n_words = np.array([len(sentences[row]) for row in kept], dtype=np.int64)
    return EncodedWords(
        encoded, np.concatenate(words).astype(np.int64), n_words, tuple(too_long), tuple(vanished)
    )


def _tokenize(sentences: Sequence[Sequence[str]], tokenizer: PreTrainedTokenizerBase) -> Any:
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            f"a {type(tokenizer).__name__} cannot tell which word a token is from; give a fast "
            "tokenizer (a PreTrainedTokenizerFast)"
        )
    if not isinstance(tokenizer.pad_token_id, int):
        raise InputError("the tokenizer has no padding token; set tokenizer.pad_token")
    if not sentences or not all(len(sentence) for sentence in sentences):
        raise InputError("a sentence without words, or no sentence at all; give words to encode")
    _check_words_apart(tokenizer)
    return tokenizer(
        [list(sentence) for sentence in sentences],
        is_split_into_words=True,
        padding=False,
        truncation=False,
        verbose=False,
    )


def _check_words_apart(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer that reads given words as if no space stood between them."""
    as_words, as_text = tokenizer(["a", "a"], is_split_into_words=True), tokenizer("a a")
    if as_words["input_ids"] != as_text["input_ids"]:
        raise InputError(
            "this tokenizer runs words together when they are given one by one; load it with "
            "add_prefix_space=True"
        )


def _refuse(
    sentences: Sequence[Sequence[str]],
    out: Any,
    too_long: Sequence[int],
    vanished: Sequence[int],
    max_length: int,
) -> None:
    if vanished:
        row = vanished[0]
        lost = sorted(set(range(len(sentences[row]))) - set(out.word_ids(row)))
        raise InputError(
            f"sentence {row}: the tokenizer leaves nothing of word {lost[0]}, "
            f"{sentences[row][lost[0]]!r} ({len(vanished)} such sentences); mend them, or leave "
            "them out with unfit='skip'"
        )
    raise InputError(
        f"sentence {too_long[0]} has {len(out.word_ids(too_long[0]))} tokens and {len(too_long)} "
        f"sentences are longer than {max_length}; cut them, or leave them out with unfit='skip'"
    )


def pool_words(
    vectors: Num[Tensor, "*site batch pos d"],
    words: Int[Tensor, "batch pos"],
    how: str = "mean",
) -> Float[Tensor, "*site word d"]:
    """One vector a word: the mean of its sub-words' vectors, or the first of them.

    Args:
        vectors: vectors of tokens.
        words: word of each token, -1 for none (``EncodedWords.words_of``).

    Returns:
        All words of the batch one after the other, sentence by sentence; float32, or float64 for
        float64 vectors.

    Raises:
        InputError: an unknown pooling.
    """
    if how not in POOLINGS:
        raise InputError(f"pooling {how!r} is unknown; expected 'mean' or 'first'")
    dtype = torch.float64 if vectors.dtype == torch.float64 else torch.float32
    is_word = words != NO_WORD
    if how == "first":
        before = torch.nn.functional.pad(words, (1, 0), value=NO_WORD)[:, :-1]
        is_word &= words != before
    n_words = words.amax(1) + 1
    start = n_words.cumsum(0) - n_words
    place = (words + start[:, None])[is_word]
    picked = vectors.flatten(-3, -2)[..., is_word.flatten(), :].to(dtype)
    out = picked.new_zeros(*picked.shape[:-2], int(n_words.sum()), picked.shape[-1])
    out.index_add_(-2, place, picked)
    pieces = torch.bincount(place, minlength=out.shape[-2])
    return out / pieces[:, None].to(dtype)

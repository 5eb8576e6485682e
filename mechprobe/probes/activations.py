"""One pass over sentences: the vector of every word at every stream of a model, as one array."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from mechprobe.errors import InputError
from mechprobe.models.edits import HookedModel
from mechprobe.models.streams import Stream, run_with_streams, streams
from mechprobe.tasks.treebank import Sentence
from mechprobe.tasks.word_pieces import NO_WORD, EncodedWords, encode_words, pool_words

IN_MEMORY = 2**31
"""Bytes of vectors that are kept in memory; more go to a memory-mapped file."""


@dataclass(frozen=True)
class WordVectors:
    """What probes read: vectors of words at every stream, sentence after sentence.

    Attributes:
        streams: what the site axis runs over.
        storage: the vectors as they lie in memory or in a mapped file, a unit's vectors of all
            sites together; float32 or float64.
        starts: first unit of each sentence, and the end, int64 [sentence + 1].
        sentences: the sentences read, in order.
        words: word each unit stands for, -1 for none, int64 [unit]; without ``released`` each
            unit is one word and this counts 0, 1, ... in each sentence.
        index: row of each sentence in what was given.
        too_long, vanished: rows left out, as in ``EncodedWords``.
        released: units are all tokens, special ones and padding too.
    """

    streams: tuple[Stream, ...]
    storage: Float[Tensor, "unit site d"]
    starts: np.ndarray
    sentences: tuple[Sentence, ...]
    words: np.ndarray
    index: tuple[int, ...]
    too_long: tuple[int, ...] = ()
    vanished: tuple[int, ...] = ()
    released: bool = False

    def __len__(self) -> int:
        return len(self.sentences)

    @property
    def values(self) -> Float[Tensor, "site unit d"]:
        """The vectors as one array [site, word, d] (a view)."""
        return rearrange(self.storage, "unit site d -> site unit d")

    @property
    def lengths(self) -> np.ndarray:
        """Units of each sentence, int64 [sentence]."""
        return np.diff(self.starts)

    def at(self, wanted: Iterable[Stream | str]) -> WordVectors:
        """The vectors at some of the streams.

        Raises:
            InputError: a stream that is not here.
        """
        chosen = tuple(Stream.parse(one) for one in wanted)
        if missing := [str(one) for one in chosen if one not in self.streams]:
            raise InputError(
                f"no vectors of {missing[0]} here; there are {', '.join(map(str, self.streams))}"
            )
        places = [self.streams.index(one) for one in chosen]
        return WordVectors(
            chosen, self.storage[:, places], self.starts, self.sentences, self.words, self.index,
            self.too_long, self.vanished, self.released,
        )  # fmt: skip


@torch.no_grad()
def word_vectors(
    model: HookedModel,
    sentences: Sequence[Sentence],
    *,
    wanted: Iterable[Stream | str] | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    pooling: str = "mean",
    released_masking: bool = False,
    batch_size: int = 32,
    path: str | Path | None = None,
    in_memory: int = IN_MEMORY,
    unfit: str = "skip",
    on_batch: Callable[[int], None] | None = None,
) -> WordVectors:
    """Vectors of every word at every stream, from one run of the model over the sentences.

    Args:
        wanted: streams of one width; None takes the residual stream, attention and MLP outputs.
        tokenizer: a fast one; None takes the model's own.
        pooling: a word's vector is the mean of its sub-words' vectors, or the first of them.
        released_masking: as in the code released with Li, Yin and Lin 2023: every token is a unit
            of its own, with special tokens and the padding of its batch.
        path: a file for the vectors (raw numbers, memory-mapped); None keeps up to ``in_memory``
            bytes in memory and more in a temporary file, which goes when the vectors go.
        unfit: what happens to sentences that do not fit, as in ``encode_words``.
        on_batch: called with the number of sentences after each batch.

    Warns:
        SentencesLeftOut: as ``encode_words``.

    Raises:
        InputError: no tokenizer, streams of different widths, or as ``encode_words``.
    """
    tokenizer = tokenizer or model.tokenizer
    if tokenizer is None:
        raise InputError("the model has no tokenizer; give one with tokenizer=")
    chosen = tuple(Stream.parse(one) for one in (streams(model) if wanted is None else wanted))
    if not chosen:
        raise InputError("no stream to read; name at least one, such as 'resid.0'")
    encoded = encode_words(
        [sentence.words for sentence in sentences], tokenizer, model.cfg.n_ctx, unfit=unfit
    )
    batches = encoded.encoded.batches(batch_size)
    rows = [np.searchsorted(encoded.encoded.index, b.index.numpy()) for b in batches]
    lengths = encoded.n_words.copy()
    if released_masking:
        for batch, here in zip(batches, rows, strict=True):
            lengths[here] = batch.tokens.shape[1]
    starts = np.cumsum([0, *lengths], dtype=np.int64)
    words = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)
    storage: Tensor | None = None
    for batch, here in zip(batches, rows, strict=True):
        of_token = encoded.words_of(batch)
        _, found = run_with_streams(model, batch, chosen)
        stacked = _stack(found)
        if released_masking:
            vectors = stacked.flatten(1, 2)
        else:
            vectors = pool_words(stacked, of_token.to(stacked.device), pooling)
        if storage is None:
            shape = (int(starts[-1]), len(chosen), vectors.shape[-1])
            storage = _storage(shape, vectors.dtype, path, in_memory)
        units = spans(starts, here)
        storage[torch.from_numpy(units)] = rearrange(vectors, "s u d -> u s d").to(storage)
        if released_masking:
            words[units] = of_token.flatten().cpu().numpy()
        if on_batch is not None:
            on_batch(len(batch))
    assert storage is not None
    return _result(chosen, storage, starts, sentences, words, encoded, released_masking)


def _result(
    chosen: tuple[Stream, ...],
    storage: Tensor,
    starts: np.ndarray,
    sentences: Sequence[Sentence],
    words: np.ndarray,
    encoded: EncodedWords,
    released: bool,
) -> WordVectors:
    index = tuple(encoded.encoded.index.tolist())
    return WordVectors(
        streams=chosen,
        storage=storage,
        starts=starts,
        sentences=tuple(sentences[row] for row in index),
        words=words,
        index=index,
        too_long=encoded.too_long,
        vanished=encoded.vanished,
        released=released,
    )


def _stack(found: dict[Stream, Tensor]) -> Float[Tensor, "site batch pos d"]:
    widths = {str(stream): value.shape[-1] for stream, value in found.items()}
    if len(set(widths.values())) > 1:
        raise InputError(
            f"these streams differ in width ({widths}); read streams of one width at a time"
        )
    return torch.stack(list(found.values()))


def _storage(
    shape: tuple[int, int, int], dtype: torch.dtype, path: str | Path | None, in_memory: int
) -> Tensor:
    """Room for the vectors: in memory, in a given file, or in a nameless one."""
    dtype = torch.float64 if dtype == torch.float64 else torch.float32
    n_bytes = int(np.prod(shape)) * dtype.itemsize
    if path is None and n_bytes <= in_memory:
        return torch.empty(shape, dtype=dtype)
    plain = np.float64 if dtype == torch.float64 else np.float32
    try:
        if path is not None:
            mapped = np.memmap(Path(path), plain, "w+", shape=shape)
        else:
            with tempfile.TemporaryFile() as file:  # the map keeps it alive; nobody else sees it
                mapped = np.memmap(file, plain, "w+", shape=shape)
    except OSError as error:
        where = "a temporary file" if path is None else str(path)
        raise InputError(
            f"{n_bytes / 2**30:.2f} GiB of vectors do not fit {where} ({error.strerror}); give "
            "path= on a disk with room, or fewer streams or sentences"
        ) from error
    return torch.from_numpy(mapped)


def spans(starts: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Units of the given sentences, sentence after sentence, int64 [unit]."""
    lengths = starts[rows + 1] - starts[rows]
    ends = lengths.cumsum()
    return np.arange(lengths.sum()) + np.repeat(starts[rows] - ends + lengths, lengths)


def gold_levels(vectors: WordVectors, levels: Sequence[np.ndarray]) -> np.ndarray:
    """A number a word, given sentence by sentence, as a number a unit; 0 where a unit is no word.

    Returns:
        int64 [unit].
    """
    out = np.zeros(len(vectors.words), dtype=np.int64)
    for start, end, own in zip(vectors.starts, vectors.starts[1:], levels, strict=False):
        words = vectors.words[start:end]
        out[start:end] = np.where(words == NO_WORD, 0, own[np.maximum(words, 0)])
    return out

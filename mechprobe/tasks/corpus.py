"""Text files as one stream of tokens for a causal language model, with a held-out part."""

from __future__ import annotations

import gzip
import lzma
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from mechprobe.errors import InputError

ENDINGS = (".txt", ".txt.xz", ".txt.gz")
_SENTENCE_END = re.compile(r"(?<=[.!?][\"'’”)])\s+(?=[A-Z\"'‘“(])|(?<=[.!?])\s+(?=[A-Z\"'‘“(])")
_CHUNK = 20_000


@dataclass(frozen=True)
class TokenStream:
    """Training and held-out text as token ids, a begin token before every sentence.

    Attributes:
        train, held_out: token ids, uint16 or int32 [token].
        bos: the begin token.
    """

    train: np.ndarray
    held_out: np.ndarray
    bos: int

    def batch(self, step: int, rows: int, length: int, seed: int) -> Int[Tensor, "batch pos"]:
        """Rows of ``length`` + 1 training tokens at places that (seed, step) alone decide."""
        rng = np.random.default_rng([seed, step])
        starts = rng.integers(len(self.train) - length, size=rows)
        return torch.from_numpy(
            self.train[starts[:, None] + np.arange(length + 1)].astype(np.int64)
        )

    def held_out_rows(self, length: int, n: int) -> Int[Tensor, "batch pos"]:
        """The first n rows of ``length`` tokens of the held-out part; fewer when there are not."""
        k = min(n, len(self.held_out) // length)
        if k < 1:
            raise InputError(
                f"{len(self.held_out)} held-out tokens make no row of {length}; give more text or "
                "a shorter context"
            )
        return torch.from_numpy(self.held_out[: k * length].reshape(k, length).astype(np.int64))


def corpus_files(sources: Sequence[str | Path]) -> list[Path]:
    """The text files (.txt, also .xz or .gz) that are named, or lie in the folders named.

    Raises:
        InputError: nothing there.
    """
    files: list[Path] = []
    for source in sources:
        path = Path(source).expanduser()
        if path.is_file():
            files.append(path)
            continue
        found = sorted(p for p in path.glob("*") if p.name.endswith(ENDINGS))
        if not found:
            raise InputError(
                f"no text in {path}; give text files ({', '.join(ENDINGS)}) or a folder of them"
            )
        files += found
    if not files:
        raise InputError("no text files given; name files or folders of them")
    return files


def read_sentences(
    files: Iterable[Path], *, lower: bool = False, split: bool = True, limit: int | None = None
) -> Iterator[str]:
    """Lines of text files that hold a word, in sentences when ``split``.

    Args:
        limit: at most so many characters of each file.

    Raises:
        InputError: a file that cannot be read or is no UTF-8 text.
    """
    for file in files:
        opener: Any = {".xz": lzma.open, ".gz": gzip.open}.get(file.suffix, open)
        taken = 0
        try:
            with opener(file, "rt", encoding="utf-8") as lines:
                for line in lines:
                    text = " ".join(line.split())
                    if limit is not None and taken > limit:
                        break
                    taken += len(text)
                    text = text.lower() if lower else text
                    for sentence in _SENTENCE_END.split(text) if split else [text]:
                        if any(map(str.isalpha, sentence)):
                            yield sentence
        except (OSError, EOFError, lzma.LZMAError, UnicodeDecodeError) as error:
            raise InputError(f"{file} cannot be read ({error}); give UTF-8 text") from None


def token_stream(
    sentences: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    held_out: float = 0.01,
    block: int = 200,
) -> TokenStream:
    """Sentences as token ids; whole blocks of ``block`` neighbouring sentences are held out.

    A sentence that is in the training part as well is no held-out sentence.

    Raises:
        InputError: a share outside (0, 1), no begin token, or too little text for both parts.
    """
    if not 0 < held_out < 1:
        raise InputError(f"the held-out share is {held_out}; give more than 0 and less than 1")
    bos = tokenizer.bos_token_id
    if not isinstance(bos, int):
        raise InputError("the tokenizer has no begin token; set bos_token")
    texts = list(sentences)
    every = max(2, round(1 / held_out))
    block = max(1, min(block, len(texts) // (4 * every)))
    held = [(i // block) % every == every - 1 for i in range(len(texts))]
    train = [t for t, out in zip(texts, held, strict=True) if not out]
    seen = set(train)
    rest = [t for t, out in zip(texts, held, strict=True) if out and t not in seen]
    if not train or not rest:
        raise InputError(
            f"{len(texts)} sentences leave {len(rest)} to hold out; give more text or a larger "
            "held-out share"
        )
    kind = np.uint16 if len(tokenizer) < 2**16 else np.int32
    return TokenStream(
        _encode(train, tokenizer, bos, kind), _encode(rest, tokenizer, bos, kind), bos
    )


def _encode(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, bos: int, kind: Any
) -> np.ndarray:
    rows: list[np.ndarray] = []
    for start in range(0, len(texts), _CHUNK):
        out = tokenizer(
            list(texts[start : start + _CHUNK]), add_special_tokens=False,
            return_attention_mask=False, verbose=False,
        )
        rows.append(np.array([t for ids in out["input_ids"] for t in (bos, *ids)], dtype=kind))
    return np.concatenate(rows)

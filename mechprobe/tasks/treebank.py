"""Dependency treebanks: CoNLL-U files as sentences, and the geometry of their trees.

Heads are counted from 0 and the root's head is -1, so that they index arrays.
"""

from __future__ import annotations

import gzip
import lzma
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from mechprobe.errors import InputError

ROOT = -1
"""The head of a root."""

_OPENERS = {".gz": gzip.open, ".xz": lzma.open}
_UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError, UnicodeDecodeError)
_COLUMNS = 10  # ID FORM LEMMA UPOS XPOS FEATS HEAD DEPREL DEPS MISC
_RANGE = re.compile(r"(\d+)-(\d+)")
_EMPTY = re.compile(r"(\d+)\.(\d+)")
_SENT_ID = re.compile(r"#\s*sent_id\s*=\s*(.*)")


@dataclass(frozen=True)
class Sentence:
    """A sentence with its dependency tree.

    Attributes:
        words: syntactic words.
        heads: position of each word's head, from 0; -1 for the root.
        deprel: relation of each word to its head.
        upos: universal part of speech of each word.
        name: the sentence's id in its treebank, "" where it has none.
    """

    words: tuple[str, ...]
    heads: tuple[int, ...]
    deprel: tuple[str, ...]
    upos: tuple[str, ...]
    name: str = ""

    def __len__(self) -> int:
        return len(self.words)

    @property
    def root(self) -> int:
        """Position of the root."""
        return self.heads.index(ROOT)

    @property
    def edges(self) -> list[tuple[int, int]]:
        """Pairs (smaller, larger position) of words joined by an arc."""
        return [(min(i, h), max(i, h)) for i, h in enumerate(self.heads) if h != ROOT]


def read_conllu(path: str | Path, *, limit: int | None = None) -> list[Sentence]:
    """The sentences of a CoNLL-U file (universaldependencies.org/format.html).

    Multiword tokens (``3-4``) and empty nodes (``8.1``) are not words of the basic tree and are
    passed over; everything else must be right.

    Args:
        path: a ``.conllu`` file, plain or followed by ``.gz`` or ``.xz``.
        limit: read only this many sentences.

    Raises:
        InputError: no such file, an unreadable one, or, with its line number, a row that is no row,
            ids out of order, a head outside the sentence, no root, two roots, or a cycle.
    """
    path = Path(path).expanduser()
    if limit is not None and limit < 1:
        raise InputError(f"limit {limit} leaves no sentence to read; give 1 or more, or None")
    if not path.is_file():
        raise InputError(f"no treebank file {path}; give the path of a .conllu, .gz or .xz file")
    opener = _OPENERS.get(path.suffix, open)
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            found = list(islice(parse_conllu(file, path.name), limit))
    except _UNREADABLE as error:
        raise InputError(
            f"{path.name} cannot be read ({error}); check that it is whole and UTF-8 text"
        ) from error
    if not found:
        raise InputError(f"{path.name} holds no sentence; give a CoNLL-U file with at least one")
    return found


def parse_conllu(lines: Iterable[str], source: str) -> Iterator[Sentence]:
    """Sentences from the lines of a CoNLL-U file; ``source`` names the file in errors.

    Raises:
        InputError: as ``read_conllu``.
    """
    block: list[tuple[int, str]] = []
    number = 0
    for number, text in enumerate(lines, 1):
        line = text.rstrip("\r\n")
        if line.strip():
            block.append((number, line))
        elif block:
            yield _sentence(block, source)
            block = []
    if block:
        yield _sentence(block, source)


def _sentence(block: Sequence[tuple[int, str]], source: str) -> Sentence:
    name, rows, numbers, ranges = "", [], [], []
    for number, line in block:
        where = f"{source} line {number}"
        if line.startswith("#"):
            if found := _SENT_ID.fullmatch(line.strip()):
                name = found[1]
            continue
        fields = line.split("\t")
        if len(fields) != _COLUMNS:
            raise InputError(
                f"{where}: {len(fields)} columns where CoNLL-U has {_COLUMNS}, with tabs between; "
                "mend or remove the row"
            )
        if not all(field.strip() for field in fields):
            raise InputError(f"{where}: an empty column; write _ where there is nothing to say")
        if _is_word(fields[0], len(rows), ranges, where):
            rows.append(fields)
            numbers.append(number)
    if not rows:
        raise InputError(f"{source} line {block[0][0]}: a sentence without words; remove it")
    if ranges and max(ranges) > len(rows):
        raise InputError(
            f"{source} line {numbers[-1]}: a multiword token reaches to word {max(ranges)}, but "
            f"the sentence ends with word {len(rows)}; mend its id"
        )
    return Sentence(
        words=tuple(fields[1] for fields in rows),
        heads=_heads([fields[6] for fields in rows], numbers, source),
        deprel=tuple(fields[7] for fields in rows),
        upos=tuple(fields[3] for fields in rows),
        name=name,
    )


def _is_word(identity: str, n_before: int, ranges: list[int], where: str) -> bool:
    """Whether a row is a word; notes where a multiword token ends, refuses ids out of order."""
    if found := _RANGE.fullmatch(identity):
        first, last = int(found[1]), int(found[2])
        if first != n_before + 1 or last <= first:
            raise InputError(
                f"{where}: multiword token {identity!r} before word {n_before + 1}; expected "
                f"{n_before + 1}-N with a larger N"
            )
        ranges.append(last)
        return False
    if found := _EMPTY.fullmatch(identity):
        if int(found[1]) != n_before:
            raise InputError(
                f"{where}: empty node {identity!r} after word {n_before}; expected {n_before}.N"
            )
        return False
    if identity != str(n_before + 1):
        raise InputError(
            f"{where}: id {identity!r} where word {n_before + 1} was expected; number the words of "
            "a sentence from 1, with an empty line between sentences"
        )
    return True


def _heads(texts: Sequence[str], numbers: Sequence[int], source: str) -> tuple[int, ...]:
    """Heads from 0 with -1 for the root, after checking that they are one tree."""
    heads = []
    for text, number in zip(texts, numbers, strict=True):
        if not (text.isascii() and text.isdigit()) or int(text) > len(texts):
            raise InputError(
                f"{source} line {number}: head {text!r}; expected a number from 0 (root) to "
                f"{len(texts)}, the number of words in the sentence"
            )
        heads.append(int(text) - 1)
    roots = [i for i, head in enumerate(heads) if head == ROOT]
    if len(roots) > 1:
        raise InputError(
            f"{source} line {numbers[roots[1]]}: a second root (the first is on line "
            f"{numbers[roots[0]]}); a tree has one word with head 0"
        )
    if lost := np.flatnonzero(~reaches_root(heads)).tolist():
        at = lost[0]
        for _ in heads:  # every walk from a lost word ends on a cycle, within n steps
            at = heads[at]
        raise InputError(
            f"{source} line {numbers[at]}: the heads of word {at + 1} lead back to it, a cycle "
            f"that never reaches {'the root' if roots else 'a root, and there is none'}; mend HEAD"
        )
    return tuple(heads)


def reaches_root(heads: Sequence[int]) -> Bool[np.ndarray, " word"]:
    """Whether following heads from each word ends at a root (it does not from a cycle)."""
    step = np.append(np.asarray(heads, dtype=np.int64), ROOT)  # step[-1]: the root's head stays
    for _ in range(len(heads).bit_length()):
        step = step[step]  # now twice as many steps at once
    return step[:-1] == ROOT


def ancestors(heads: Sequence[int]) -> Bool[np.ndarray, "word ancestor"]:
    """Which words are on the way from each word to the root, itself included."""
    n = len(heads)
    parent = np.append(np.asarray(heads, dtype=np.int64), ROOT)
    found = np.zeros((n, n + 1), dtype=bool)  # the last column collects steps beyond the root
    at = np.arange(n)
    while (at != ROOT).any():
        found[np.arange(n), at] = True
        at = parent[at]
    return found[:, :n]


def tree_depths(heads: Sequence[int]) -> Int[np.ndarray, " word"]:
    """Arcs between each word and the root, int64; the root has 0.

    >>> tree_depths([1, -1, 1, 2]).tolist()
    [1, 0, 1, 2]
    """
    return ancestors(heads).sum(1) - 1


def tree_distances(heads: Sequence[int]) -> Int[np.ndarray, "word word"]:
    """Arcs on the path between each two words, int64.

    Words share the ancestors of their lowest common one, so a distance is
    depth(i) + depth(j) - 2 depth(lowest common ancestor).

    >>> tree_distances([1, -1, 1, 2])[0].tolist()
    [0, 1, 2, 3]
    """
    above = ancestors(heads).astype(np.float64)  # float products are fast, and exact here
    shared = (above @ above.T).astype(np.int64)
    own = np.diagonal(shared)
    return own[:, None] + own[None, :] - 2 * shared

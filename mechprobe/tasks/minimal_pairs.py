"""Minimal pairs: an acceptable and an unacceptable sentence, grouped by paradigm and phenomenon."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mechprobe.errors import InputError

PARTS: Mapping[str, tuple[float, float]] = {
    "reserve": (0.0, 0.6), "tune": (0.6, 0.85), "validate": (0.85, 0.9), "evaluate": (0.9, 1.0),
}
"""Shares of a paradigm's pairs, in the order of their numbers; no pair is in two parts."""


@dataclass(frozen=True)
class Paradigm:
    """Pairs of one construction.

    Attributes:
        name: the paradigm, such as ``adjunct_island``.
        phenomenon: what it belongs to, such as ``island_effects``.
        field: the field of linguistics: morphology, syntax, semantics, syntax_semantics.
        good, bad: the acceptable and the unacceptable sentence of each pair.
        where: file and line (or the generator) of each pair, for messages.
    """

    name: str
    phenomenon: str
    field: str
    good: tuple[str, ...]
    bad: tuple[str, ...]
    where: tuple[str, ...]

    def __post_init__(self) -> None:
        if not len(self.good) == len(self.bad) == len(self.where):
            raise InputError(
                f"paradigm {self.name}: {len(self.good)} good and {len(self.bad)} bad sentences, "
                f"{len(self.where)} places; give as many of each"
            )
        for good, bad, where in zip(self.good, self.bad, self.where, strict=True):
            if good.split() == bad.split() or not (good.strip() and bad.strip()):
                check_pair(good, bad, where)

    def __len__(self) -> int:
        return len(self.good)

    def rows(self, rows: Sequence[int] | range) -> Paradigm:
        """The paradigm with these pairs only."""
        return Paradigm(
            self.name, self.phenomenon, self.field, tuple(self.good[i] for i in rows),
            tuple(self.bad[i] for i in rows), tuple(self.where[i] for i in rows),
        )

    def words(self) -> frozenset[str]:
        """Word types of all its sentences, in lower case, without punctuation at their ends."""
        both = " ".join((*self.good, *self.bad)).lower().split()
        return frozenset(stripped for word in both if (stripped := word.strip(".,;:!?\"'")))


@dataclass(frozen=True)
class MinimalPairs:
    """Paradigms in a fixed order: phenomenon by phenomenon."""

    name: str
    paradigms: tuple[Paradigm, ...]

    def __post_init__(self) -> None:
        names = [p.name for p in self.paradigms]
        if twice := sorted({n for n in names if names.count(n) > 1}):
            raise InputError(f"{self.name}: paradigm {twice[0]!r} is there twice; give each once")

    def __len__(self) -> int:
        return len(self.paradigms)

    def __iter__(self) -> Iterator[Paradigm]:
        return iter(self.paradigms)

    def __getitem__(self, name: str) -> Paradigm:
        for paradigm in self.paradigms:
            if paradigm.name == name:
                return paradigm
        near = difflib.get_close_matches(name, self.names, 3, 0.0)
        raise InputError(f"{self.name} has no paradigm {name!r}; nearest: {', '.join(near)}")

    @property
    def names(self) -> list[str]:
        """Names of the paradigms."""
        return [p.name for p in self.paradigms]

    @property
    def phenomena(self) -> list[str]:
        """The phenomenon of each paradigm."""
        return [p.phenomenon for p in self.paradigms]

    @property
    def fields(self) -> list[str]:
        """The field of linguistics of each paradigm."""
        return [p.field for p in self.paradigms]

    @property
    def n_pairs(self) -> int:
        """Pairs of all paradigms together."""
        return sum(map(len, self.paradigms))

    def choose(self, names: Sequence[str]) -> MinimalPairs:
        """Only these paradigms, in this order; all when none is named."""
        return MinimalPairs(self.name, tuple(map(self.__getitem__, names))) if names else self

    def part(self, part: str, shares: Mapping[str, tuple[float, float]] = PARTS) -> MinimalPairs:
        """The pairs of a part of every paradigm.

        Raises:
            InputError: an unknown part, parts that overlap, or a part without a pair.
        """
        check_parts(shares)
        if part not in shares:
            raise InputError(f"no part {part!r} of minimal pairs; one of {', '.join(shares)}")
        low, high = shares[part]
        chosen = []
        for paradigm in self.paradigms:
            n = len(paradigm)
            rows = range(round(low * n), round(high * n))
            if not rows:
                raise InputError(
                    f"{self.name}: part {part!r} of paradigm {paradigm.name} is empty ({n} pairs, "
                    f"{low:g} to {high:g}); give more pairs or a larger share"
                )
            chosen.append(paradigm.rows(rows))
        return MinimalPairs(self.name, tuple(chosen))

    def first(self, n: int) -> MinimalPairs:
        """At most the first n pairs of every paradigm; all when n is 0."""
        return MinimalPairs(
            self.name, tuple(p.rows(range(min(n or len(p), len(p)))) for p in self.paradigms)
        )

    def swapped(self, seed: int) -> MinimalPairs:
        """Each pair with its members exchanged or not, by the toss of a coin: a null."""
        rng = np.random.default_rng(seed)
        out = []
        for p in self.paradigms:
            flip = rng.random(len(p)) < 0.5
            pairs = [(b, g) if f else (g, b) for g, b, f in zip(p.good, p.bad, flip, strict=True)]
            good, bad = zip(*pairs, strict=True)
            out.append(Paradigm(p.name, p.phenomenon, p.field, good, bad, p.where))
        return MinimalPairs(self.name, tuple(out))


def check_pair(good: str, bad: str, where: str) -> None:
    """Raise InputError, naming the place, for a pair that can decide nothing."""
    if not good.strip() or not bad.strip():
        which = "acceptable" if not good.strip() else "unacceptable"
        raise InputError(f"{where}: the {which} sentence is empty; fill it or remove the pair")
    if good.split() == bad.split():
        raise InputError(
            f"{where}: both sentences are {good!r}; a minimal pair differs; mend or remove it"
        )


def check_parts(shares: Mapping[str, tuple[float, float]]) -> None:
    """Raise InputError for parts that lie outside 0 to 1, are empty or overlap."""
    last_name, last = "", 0.0
    for name, (low, high) in sorted(shares.items(), key=lambda item: item[1]):
        if not (0 <= low < high <= 1) or not math.isfinite(high):
            raise InputError(f"part {name!r} goes from {low:g} to {high:g}; give 0 <= from < to <= "
                             "1")
        if low < last - 1e-12:
            raise InputError(f"parts {last_name!r} and {name!r} share pairs; let one end first")
        last_name, last = name, high


def word_overlap(pairs: MinimalPairs) -> Float[np.ndarray, "task task"]:
    """Jaccard similarity of the word types of every two paradigms: the vocabulary they share."""
    words = [p.words() for p in pairs]
    out = np.eye(len(words))
    for i, a in enumerate(words):
        for j, b in enumerate(words):
            out[i, j] = len(a & b) / len(a | b)
    return out


def hypothesis_space(pairs: MinimalPairs) -> Float[np.ndarray, "task task"]:
    """Expected similarity: 3 the same paradigm, 2 the same phenomenon, 1 the same field, 0 none."""
    out = np.zeros((len(pairs), len(pairs)))
    for i, a in enumerate(pairs):
        for j, b in enumerate(pairs):
            same = 2.0 if a.phenomenon == b.phenomenon else float(a.field == b.field)
            out[i, j] = 3.0 if i == j else same
    return out

"""Counterfactual sources for patching: the first two different nouns trade places.

"The girl on the table slept" becomes "The table on the girl slept": the same words and structure,
another answer. Ours; the source paper patches nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mechprobe.errors import InputError
from mechprobe.tasks.abstraction.pairs import SequencePairs
from mechprobe.tasks.abstraction.target import NONE, Tokens

_MARKS = frozenset(("(", ")", ",", NONE))


def swapped_nouns(pairs: SequencePairs) -> SequencePairs:
    """The pairs with two nouns of each source exchanged and the targets as they were.

    Raises:
        InputError: a source without two different nouns.
    """
    nouns = _nouns(pairs)
    return replace(
        pairs, source=tuple(_swap(source, nouns) for source in pairs.source),
        name=f"{pairs.name}, two nouns swapped",
    )


def with_two_nouns(pairs: SequencePairs) -> SequencePairs:
    """The pairs that ``swapped_nouns`` takes: those with two different nouns in the source."""
    nouns = _nouns(pairs)
    return pairs.take(np.array([_places(source, nouns) is not None for source in pairs.source]))


def target_nouns(target: Sequence[str]) -> list[str]:
    """The words of a target that take no brackets: its nouns, or a single word."""
    followers = [*target[1:], ""]
    return [
        word for word, after in zip(target, followers, strict=True)
        if word not in _MARKS and after != "("
    ]


def _nouns(pairs: SequencePairs) -> set[str]:
    """The nouns of all targets; a word that is a verb or a preposition somewhere is none."""
    nouns = {noun for target in pairs.target for noun in target_nouns(target)}
    return nouns - {t[i] for t in pairs.target for i in range(len(t) - 1) if t[i + 1] == "("}


def _places(source: Tokens, nouns: set[str]) -> tuple[int, int] | None:
    """Where the first noun stands, and the first other one; None where there are no two."""
    places = [i for i, token in enumerate(source) if token.upper() in nouns]
    others = [i for i in places if source[i].lower() != source[places[0]].lower()]
    return (places[0], others[0]) if others else None


def _swap(source: Tokens, nouns: set[str]) -> Tokens:
    places = _places(source, nouns)
    if places is None:
        raise InputError(
            f"{' '.join(source)!r} has no two different nouns to exchange; leave such pairs out "
            "(with_two_nouns)"
        )
    first, other = places
    tokens = list(source)
    tokens[first], tokens[other] = tokens[other], tokens[first]
    return tuple(tokens)

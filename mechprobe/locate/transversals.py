"""Minimal transversals of a family of sets: the smallest sets that meet every member.

Sets are Python integers, bit i for element i. For a monotone property the minimal transversals of
all minimal sets that have it are the minimal sets whose removal loses it (duality of monotone
Boolean functions; Fredman and Khachiyan 1996).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator


class TooManySets(Exception):
    """A family grew past its limit."""


def elements(mask: int) -> Iterator[int]:
    """The elements of a set, rising."""
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


def minimal_only(family: Iterable[int]) -> list[int]:
    """The members that contain no other member, small ones first."""
    kept: list[int] = []
    for mask in sorted(set(family), key=lambda m: (m.bit_count(), m)):
        if not contains_any(mask, kept):
            kept.append(mask)
    return kept


def contains_any(mask: int, family: Iterable[int]) -> bool:
    """Whether a set contains some member of a family."""
    return any(member & mask == member for member in family)


def add_set(transversals: Iterable[int], member: int, limit: int | None = None) -> list[int]:
    """The minimal transversals after one more member (Berge 1989, sequential method).

    Raises:
        TooManySets: more than ``limit`` of them.
    """
    meet = [t for t in transversals if t & member]
    grown = [t | 1 << e for t in transversals if not t & member for e in elements(member)]
    if limit is not None and len(meet) + len(grown) > 4 * limit:
        raise TooManySets
    # a grown set can only contain one that met the member already: both came from an antichain
    new = minimal_only(t for t in grown if not contains_any(t, meet))
    if limit is not None and len(meet) + len(new) > limit:
        raise TooManySets
    return meet + new


def minimal_transversals(family: Iterable[int], limit: int | None = None) -> list[int]:
    """All minimal sets that meet every member; [0] (the empty set) for an empty family.

    A family with an empty member has none. Raises TooManySets past ``limit``.
    """
    found = [0]
    for member in minimal_only(family):
        found = add_set(found, member, limit)
    return found

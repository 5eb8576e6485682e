"""All minimal sets with a property that can only be asked for, set by set.

Sets are Python integers, bit i for element i of n. ``holds`` answers for many sets at once. A set
is minimal when it has the property and no proper subset has it. ``exhaustive`` assumes nothing;
``dualise`` finds all minimal sets of a monotone property (one that adding elements never loses)
with about as many questions as there are minimal sets, times n, and minimal breaking sets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, islice
from math import comb
from typing import TypeAlias

import numpy as np

from mechprobe.locate.transversals import (
    TooManySets,
    add_set,
    contains_any,
    elements,
    minimal_only,
    minimal_transversals,
)

Holds: TypeAlias = Callable[[Sequence[int]], list[bool]]
AT_ONCE = 512
ALL_SUBSETS_UP_TO = 10
MOST_TRANSVERSALS = 20_000


@dataclass
class Family:
    """The minimal sets found so far.

    Attributes:
        minimal: they, none inside another.
        complete: the search ended by itself, not by a limit.
        breaking: minimal sets whose removal was seen to lose the property (by ``dualise``).
        decided_size: every set of up to this many elements was decided or contains a minimal one.
        probes: random sets that were compared with what the family predicts.
        lost: sets seen without the property though they contain one with it (not monotone).
        missed: random sets with the property though they contain no set found so far. After a
            completed ``dualise`` each lies inside a set that was seen to fail (not monotone).
    """

    minimal: list[int] = field(default_factory=list)
    complete: bool = False
    breaking: list[int] = field(default_factory=list)
    decided_size: int = -1
    probes: int = 0
    lost: list[int] = field(default_factory=list)
    missed: list[int] = field(default_factory=list)

    @property
    def monotone(self) -> bool:
        """Whether nothing was seen that speaks against it."""
        return not self.lost and not self.missed

    def add(self, mask: int) -> None:
        """Put in a set with the property; sets that contain it leave."""
        self.minimal = minimal_only([*self.minimal, mask])


def exhaustive(
    holds: Holds, n: int, family: Family, *, size: int | None = None, max_sets: int | None = None
) -> bool:
    """Decide every set of up to ``size`` elements (None: all n), small ones first.

    A set that contains a smaller one with the property cannot be minimal and is not asked about;
    nothing is assumed. Returns whether it ended before ``max_sets`` minimal sets were exceeded.
    """
    for k in range(n + 1 if size is None else size + 1):
        asked = False
        for part in _chunks(_undecided(n, k, family.minimal)):
            asked = True
            for mask, yes in zip(part, holds(part), strict=True):
                if yes:
                    family.add(mask)
            if max_sets is not None and len(family.minimal) > max_sets:
                return False
        family.decided_size = k
        if not asked and k > 0:  # every set of k contains a minimal one, so larger ones do too
            family.decided_size = n
            break
    if size is None:
        family.decided_size = n
    return True


def _undecided(n: int, k: int, minimal: Sequence[int]) -> Iterator[int]:
    """Sets of k elements that contain no minimal set of fewer elements."""
    smaller = [mask for mask in minimal if mask.bit_count() < k]
    for chosen in combinations(range(n), k):
        mask = sum(1 << e for e in chosen)
        if not contains_any(mask, smaller):
            yield mask


def _chunks(masks: Iterable[int]) -> Iterator[list[int]]:
    masks = iter(masks)
    while part := list(islice(masks, AT_ONCE)):
        yield part


def largest_size(n: int, budget: int) -> int:
    """The largest k such that there are at most ``budget`` sets of up to k of n elements."""
    total, k = 1, 0
    while k < n and (total := total + comb(n, k + 1)) <= budget:
        k += 1
    return k


def shrink(holds: Holds, mask: int, order: Sequence[int]) -> int:
    """A minimal subset with the property of a set that has it.

    For a monotone property one minimal set, by bisection: the shortest prefix (in ``order``) that,
    with what is already known to be needed, suffices ends in a needed element (as in Junker 2004).
    Afterwards all its proper subsets are asked about (single removals when it has more than
    ``ALL_SUBSETS_UP_TO`` elements), so that a property that is not monotone is met as far as that.
    """
    rest, needed = [e for e in order if mask >> e & 1], 0
    while rest and not holds([needed])[0]:
        low, high = 0, len(rest)  # the prefix of `low` is too short, that of `high` suffices
        while high - low > 1:
            middle = (low + high) // 2
            if holds([needed | _mask(rest[:middle])])[0]:
                high = middle
            else:
                low = middle
        needed |= 1 << rest[high - 1]
        rest = rest[: high - 1]
    smaller = _smaller(holds, needed)
    return needed if smaller is None else shrink(holds, smaller, order)


def _mask(chosen: Iterable[int]) -> int:
    return sum(1 << e for e in chosen)


def _smaller(holds: Holds, mask: int) -> int | None:
    """A smallest proper subset with the property among those that are asked about."""
    if mask.bit_count() > ALL_SUBSETS_UP_TO:
        subsets = [mask ^ 1 << e for e in elements(mask)]
    else:
        subsets, subset = [], mask
        while subset:
            subset = (subset - 1) & mask
            subsets.append(subset)
    for k in sorted({s.bit_count() for s in subsets}):
        part = [s for s in subsets if s.bit_count() == k]
        for subset, yes in zip(part, holds(part), strict=True):
            if yes:
                return subset
    return None


def dualise(
    holds: Holds, n: int, family: Family, *, order: Sequence[int], max_sets: int | None = None
) -> None:
    """Find all minimal sets of a monotone property by dualising and advancing.

    The family's minimal transversals are removed one by one from the full set; where the property
    stays, what is left holds a new minimal set; when it is lost for all of them, none is missing
    (Gunopulos et al. 2003). Ends with ``family.complete`` False when a limit was met.
    """
    everything = (1 << n) - 1
    lost: set[int] = set()
    family.complete = False
    try:
        transversals = minimal_transversals(family.minimal, MOST_TRANSVERSALS)
        while untried := [t for t in transversals if t not in lost]:
            fresh: list[int] = []
            part = sorted(untried, key=int.bit_count)[:64]
            for t, yes in zip(part, holds([everything ^ t for t in part]), strict=True):
                if not yes:
                    lost.add(t)
                elif not contains_any(everything ^ t, fresh):
                    fresh.append(shrink(holds, everything ^ t, order))
            for mask in fresh:
                known = set(family.minimal)
                family.add(mask)
                kept = known <= set(family.minimal)
                transversals = (
                    add_set(transversals, mask, MOST_TRANSVERSALS) if kept
                    else minimal_transversals(family.minimal, MOST_TRANSVERSALS)
                )
            if max_sets is not None and len(family.minimal) > max_sets:
                return
    except TooManySets:
        return
    family.breaking = sorted(transversals, key=lambda m: (m.bit_count(), m))
    family.complete = True


def probe(holds: Holds, n: int, family: Family, *, count: int, seed: int) -> list[int]:
    """Ask about random sets of all sizes and compare with what the family predicts.

    Sets that the family says lack the property but have it are returned; those that should have it
    and do not are kept in ``family.lost``.
    """
    if not count:
        return []
    rng = np.random.default_rng([seed, 11])
    chance = rng.uniform(0.05, 0.95, (count, 1))
    drawn = [_mask(np.flatnonzero(row).tolist()) for row in rng.random((count, n)) < chance]
    missed = []
    for mask, yes in zip(drawn, holds(drawn), strict=True):
        predicted = contains_any(mask, family.minimal)
        if yes and not predicted:
            missed.append(mask)
            if family.complete:
                family.missed.append(mask)
        elif predicted and not yes:
            family.lost.append(mask)
    family.probes += count
    return missed

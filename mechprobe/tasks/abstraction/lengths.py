"""Lines of ordinary structure as long as given ones: several in a row where one is too short."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence

from mechprobe.errors import InputError
from mechprobe.tasks.abstraction.derivation import Derivation, Word
from mechprobe.tasks.abstraction.language import Language
from mechprobe.tasks.abstraction.target import Tokens

Length = tuple[int, int]
"""Tokens of a source without its prefix, and of its target."""

Steps = Mapping[Length, tuple[int, Length]]
"""For a reachable total length: least number of lines, and the length of the last of them."""

_TRIES = 1000  # draws of a line's words before the grammar counts as used up


def matched_lines(
    wanted: Sequence[tuple[Tokens, Tokens]],
    pool: Sequence[Derivation],
    language: Language,
    renew: Callable[[Derivation], Derivation],
    rng: random.Random,
    taken: Collection[Tokens] = (),
) -> list[tuple[Tokens, Tokens]]:
    """For each wanted source and target a line of equal lengths made of structures in ``pool``.

    A single derivation of the pool is taken where one has both lengths; else the fewest in a row
    whose sources have the wanted length together and whose targets come nearest to theirs.

    Args:
        wanted: the lines to match; all sources have the language's prefix.
        pool: derivations to build from; single words are not used.
        language: realises them.
        renew: redraws the words of a derivation.
        rng: chooses among derivations of equal lengths.
        taken: sources that may not come, such as held-out ones.

    Raises:
        InputError: a length for which no line is left that is not taken.
    """
    prefix = len(language.spelling.prefix)
    by_length: dict[Length, list[Derivation]] = {}
    for tree in pool:
        if not isinstance(tree, Word):
            length = len(language.source(tree)) - prefix, len(language.target(tree))
            by_length.setdefault(length, []).append(tree)
    steps = _reachable(list(by_length), max((len(s) - prefix for s, _ in wanted), default=0))
    plans: dict[Length, list[Length]] = {}
    lines = []
    for source, target in wanted:
        goal = len(source) - prefix, len(target)
        if goal not in plans:
            plans[goal] = _plan(goal, steps)
        lines.append(_new_line(plans[goal], by_length, language, renew, rng, taken))
    return lines


def _new_line(
    plan: Sequence[Length],
    by_length: Mapping[Length, Sequence[Derivation]],
    language: Language,
    renew: Callable[[Derivation], Derivation],
    rng: random.Random,
    taken: Collection[Tokens],
) -> tuple[Tokens, Tokens]:
    """One line of derivations of the planned lengths, whose source is not taken."""
    prefix = language.spelling.prefix
    for _ in range(_TRIES):
        trees = [renew(rng.choice(by_length[part])) for part in plan]
        sources = [language.source(tree)[len(prefix) :] for tree in trees]
        source = (*prefix, *(token for part in sources for token in part))
        if source not in taken:
            return source, tuple(token for tree in trees for token in language.target(tree))
    raise InputError(
        f"{len(plan)} lines of lengths {', '.join(map(str, plan))} are all held out; add words to "
        "the card, or hold fewer items out"
    )


def _reachable(parts: Sequence[Length], longest: int) -> dict[Length, tuple[int, Length]]:
    """All total lengths with sources up to ``longest``, from the shortest sources up."""
    steps: dict[Length, tuple[int, Length]] = {}
    by_source: dict[int, list[Length]] = {0: [(0, 0)]}
    counts: dict[Length, int] = {(0, 0): 0}
    for total in range(1, longest + 1):
        for part in parts:
            for before in by_source.get(total - part[0], ()):
                here = total, before[1] + part[1]
                count = counts[before] + 1
                if here not in steps:
                    by_source.setdefault(total, []).append(here)
                if here not in steps or count < steps[here][0]:
                    steps[here] = count, part
                    counts[here] = count
    return steps


def _plan(goal: Length, steps: Steps) -> list[Length]:
    """The lengths of the lines whose total comes nearest to ``goal``, the source first."""
    at = min(steps, key=lambda s: (abs(s[0] - goal[0]), abs(s[1] - goal[1]), steps[s][0], s))
    plan = []
    while at != (0, 0):
        part = steps[at][1]
        plan.append(part)
        at = at[0] - part[0], at[1] - part[1]
    return plan

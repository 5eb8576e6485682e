"""Contrast tasks: the auxiliary task's surface with the shared concept broken.

The four kinds are ours. The first three have the auxiliary task's sources, output inventory and
lengths of targets:

- ``other_grammar``: a different rule that can be learnt: recipient, theme, agent; the inner noun
  before the noun it modifies; the innermost clause first.
- ``shuffle_content``: nouns and verbs of each target in random order.
- ``swap_structure``: the brackets of another target of the same length and number of words.
- ``no_generalisation``: the auxiliary task without the structures the target task's training lacks;
  in their place equally long sources of the others, alone or several in a row. It has the same
  words; as in all redrawn lines a common noun may stand where a name stood, here more often, and
  without a determiner.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from mechprobe.errors import InputError
from mechprobe.tasks.abstraction.derivation import ROLES, Derivation
from mechprobe.tasks.abstraction.language import Language
from mechprobe.tasks.abstraction.target import TargetForm, Tokens, realise_target

CONTRASTS = ("other_grammar", "shuffle_content", "swap_structure", "no_generalisation")
OTHER_GRAMMAR = TargetForm(roles=ROLES[::-1], swap_modifier=True, inner_first=True)

Skeleton = tuple[str | None, ...]
"""A target with None in the place of each noun and verb."""


def check_contrast(kind: str) -> None:
    """Raise InputError unless ``kind`` is one of ``CONTRASTS``."""
    if kind not in CONTRASTS:
        raise InputError(f"no contrast task {kind!r}; expected one of {', '.join(CONTRASTS)}")


def contrast_targets(
    kind: str, trees: Sequence[Derivation], language: Language, seed: str
) -> tuple[Tokens, ...]:
    """The contrast task's target of each of the auxiliary task's derivations."""
    check_contrast(kind)
    if kind == "other_grammar":
        return tuple(realise_target(tree, OTHER_GRAMMAR) for tree in trees)
    targets = tuple(map(language.target, trees))
    rng = random.Random(seed)
    structure = structure_tokens(language)
    if kind == "shuffle_content":
        return tuple(_shuffle(target, structure, rng) for target in targets)
    if kind == "swap_structure":
        return _swap(targets, structure, rng)
    return targets


def structure_tokens(language: Language) -> frozenset[str]:
    """The target tokens that are neither noun nor verb."""
    links = [frame.link for frame in language.frames.values() if frame.link is not None]
    prepositions = [p.upper() for p in language.lexicon.prepositions]
    return frozenset(["(", ")", ",", "NONE", *links, *prepositions])


def _shuffle(target: Tokens, structure: frozenset[str], rng: random.Random) -> Tokens:
    content = [token for token in target if token not in structure]
    shuffled = list(content)
    while len(set(content)) > 1 and shuffled == content:
        rng.shuffle(shuffled)
    return _fill(_skeleton(target, structure), shuffled)


def _swap(
    targets: Sequence[Tokens], structure: frozenset[str], rng: random.Random
) -> tuple[Tokens, ...]:
    skeletons = [_skeleton(target, structure) for target in targets]
    alike: dict[tuple[int, int], dict[Skeleton, None]] = {}
    for skeleton in skeletons:
        alike.setdefault((len(skeleton), skeleton.count(None)), {})[skeleton] = None
    swapped = []
    for target, skeleton in zip(targets, skeletons, strict=True):
        choice = [s for s in alike[len(skeleton), skeleton.count(None)] if s != skeleton]
        content = [token for token in target if token not in structure]
        swapped.append(_fill(rng.choice(choice) if choice else skeleton, content))
    return tuple(swapped)


def _skeleton(target: Tokens, structure: frozenset[str]) -> Skeleton:
    return tuple(token if token in structure else None for token in target)


def _fill(skeleton: Skeleton, content: Sequence[str]) -> Tokens:
    words = iter(content)
    return tuple(next(words) if token is None else token for token in skeleton)

"""Concept mutations: the auxiliary task with one thing about its grammar changed.

The list is ours; the source paper's was not available. Low-level changes leave the tree's shape,
high-level ones move whole constituents; each concerns either the source or the target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mechprobe.errors import InputError
from mechprobe.tasks.abstraction.derivation import ROLES
from mechprobe.tasks.abstraction.sentence import SourceForm
from mechprobe.tasks.abstraction.target import TargetForm


@dataclass(frozen=True)
class Mutation:
    """One change of the auxiliary task.

    Attributes:
        side: ``source`` or ``target``.
        level: ``low`` or ``high``.
        meaning: what changes, in a few words.
    """

    side: str
    level: str
    meaning: str


MUTATIONS = {
    "postpositions": Mutation("source", "low", "prepositions follow their noun phrase"),
    "permuted_words": Mutation("source", "low", "function words trade places in a fixed cycle"),
    "verb_final": Mutation("source", "low", "the verb stands last in its clause"),
    "complement_first": Mutation("source", "high", "a complement comes before its clause"),
    "subject_modifier_last": Mutation("source", "high", "a subject's phrase moves to the end"),
    "arguments_reversed": Mutation("target", "low", "recipient, theme, agent"),
    "none_dropped": Mutation("target", "low", "empty slots are left out"),
    "modifier_swapped": Mutation("target", "low", "inner noun before the noun it modifies"),
    "nested_complements": Mutation("target", "high", "complements inside the verb's brackets"),
    "chain_reversed": Mutation("target", "high", "the innermost clause comes first"),
}


def mutated_forms(name: str | None, function_words: Sequence[str]) -> tuple[SourceForm, TargetForm]:
    """Source and target form of a mutation; None for the plain forms.

    Args:
        name: a key of ``MUTATIONS``.
        function_words: of the grammar; ``permuted_words`` replaces each by the next.

    Raises:
        InputError: unknown name.
    """
    if name is not None and name not in MUTATIONS:
        raise InputError(f"no mutation {name!r}; expected one of {', '.join(MUTATIONS)}")
    words = dict(zip(function_words, [*function_words[1:], function_words[0]], strict=True))
    source = {
        "postpositions": SourceForm(postpositions=True),
        "permuted_words": SourceForm(words=words),
        "verb_final": SourceForm(verb_final=True),
        "complement_first": SourceForm(complement_first=True),
        "subject_modifier_last": SourceForm(subject_modifier_last=True),
    }
    target = {
        "arguments_reversed": TargetForm(roles=ROLES[::-1]),
        "none_dropped": TargetForm(none=False),
        "modifier_swapped": TargetForm(swap_modifier=True),
        "nested_complements": TargetForm(nested=True),
        "chain_reversed": TargetForm(inner_first=True),
    }
    return source.get(name or "", SourceForm()), target.get(name or "", TargetForm())

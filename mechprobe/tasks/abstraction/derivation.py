"""Derivation trees: what a sentence says, before it has an order, a form or a vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

ROLES = ("agent", "theme", "recipient")


@dataclass(frozen=True)
class Phrase:
    """A noun phrase.

    Attributes:
        word: the noun or name, in lower case.
        determiner: ``a`` or ``the``; None for a name.
        preposition: of the phrase that modifies the noun, None where there is none.
        inner: the noun phrase behind that preposition.
    """

    word: str
    determiner: str | None = None
    preposition: str | None = None
    inner: Phrase | None = None


@dataclass(frozen=True)
class Clause:
    """A clause: a verb in a frame of the grammar, and its noun phrases by role.

    Attributes:
        frame: name of the frame; ``""`` where only the meaning is known (a logical form).
        verb: the verb's lemma, in lower case.
        agent, theme, recipient: None where the clause does not say who.
        link: what the complement is joined with in the target, such as ``CCOMP``.
        complement: the clause below, None where there is none.
        controlled: whether the agent is that of the clause above (an infinitive).
    """

    frame: str
    verb: str
    agent: Phrase | None = None
    theme: Phrase | None = None
    recipient: Phrase | None = None
    link: str | None = None
    complement: Clause | None = None
    controlled: bool = False

    def role(self, name: str) -> Phrase | None:
        """The noun phrase of a role: ``agent``, ``theme`` or ``recipient``."""
        return getattr(self, name)


@dataclass(frozen=True)
class Word:
    """A single word that stands for itself: ``touch`` means ``TOUCH``."""

    word: str


Derivation = Clause | Word


def clauses_of(tree: Derivation) -> Iterator[Clause]:
    """The clauses from the top down; none for a single word."""
    clause = tree if isinstance(tree, Clause) else None
    while clause is not None:
        yield clause
        clause = clause.complement


def phrases_of(phrase: Phrase) -> Iterator[Phrase]:
    """A noun phrase and those inside it, from the outside in."""
    inner: Phrase | None = phrase
    while inner is not None:
        yield inner
        inner = inner.inner


def depth_of(tree: Derivation) -> int:
    """How many full clauses are embedded; infinitives do not count."""
    return sum(not clause.controlled for clause in clauses_of(tree)) - isinstance(tree, Clause)


def map_clauses(tree: Clause, change: Callable[[Clause], Clause]) -> Clause:
    """The tree with ``change`` applied to each clause, complements first."""
    below = None if tree.complement is None else map_clauses(tree.complement, change)
    return change(replace(tree, complement=below))


def map_words(
    tree: Derivation,
    noun: Callable[[str], str],
    verb: Callable[[str], str],
    preposition: Callable[[str], str],
) -> Derivation:
    """The same structure in other words.

    Each occurrence calls its function once, in a fixed order: inner clauses first; in a clause the
    verb, then agent, theme and recipient, each from the outside in. A single word counts as a noun.
    """
    if isinstance(tree, Word):
        return Word(noun(tree.word))

    def phrase(old: Phrase | None) -> Phrase | None:
        if old is None:
            return None
        word = noun(old.word)
        if old.preposition is None:
            return replace(old, word=word)
        return replace(
            old, word=word, preposition=preposition(old.preposition), inner=phrase(old.inner)
        )

    def clause(old: Clause) -> Clause:
        return replace(
            old,
            verb=verb(old.verb),
            agent=phrase(old.agent),
            theme=phrase(old.theme),
            recipient=phrase(old.recipient),
        )

    return map_clauses(tree, clause)


def rename(tree: Derivation, words: Mapping[str, str]) -> Derivation:
    """The tree with every noun, name, verb and preposition replaced through a dictionary."""
    return map_words(tree, words.__getitem__, words.__getitem__, words.__getitem__)

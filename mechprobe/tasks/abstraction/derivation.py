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


def depth_of(tree: Derivation) -> int:
    """How many full clauses are embedded; infinitives do not count."""
    return sum(not clause.controlled for clause in clauses_of(tree)) - isinstance(tree, Clause)


def map_words(
    tree: Derivation,
    noun: Callable[[str], str],
    verb: Callable[[Clause], str],
    preposition: Callable[[str], str],
) -> Derivation:
    """The same structure in other words.

    ``verb`` is given the clause with its old verb. Each occurrence calls its function once, in a
    fixed order: inner clauses first; in a clause the verb, then agent, theme and recipient, each
    from the outside in. A single word counts as a noun.
    """
    if isinstance(tree, Word):
        return Word(noun(tree.word))
    return _map_clause(tree, noun, verb, preposition)


def _map_clause(
    tree: Clause,
    noun: Callable[[str], str],
    verb: Callable[[Clause], str],
    preposition: Callable[[str], str],
) -> Clause:
    below = None
    if tree.complement is not None:
        below = _map_clause(tree.complement, noun, verb, preposition)
    return replace(
        tree,
        verb=verb(tree),
        agent=_map_phrase(tree.agent, noun, preposition),
        theme=_map_phrase(tree.theme, noun, preposition),
        recipient=_map_phrase(tree.recipient, noun, preposition),
        complement=below,
    )


def _map_phrase(
    phrase: Phrase | None, noun: Callable[[str], str], preposition: Callable[[str], str]
) -> Phrase | None:
    if phrase is None:
        return None
    if phrase.preposition is None:
        return Phrase(noun(phrase.word), phrase.determiner)
    return Phrase(
        noun(phrase.word),
        phrase.determiner,
        preposition(phrase.preposition),
        _map_phrase(phrase.inner, noun, preposition),
    )


def rename(tree: Derivation, words: Mapping[str, str]) -> Derivation:
    """The tree with every noun, name, verb and preposition replaced through a dictionary."""
    return map_words(tree, words.__getitem__, lambda c: words[c.verb], words.__getitem__)

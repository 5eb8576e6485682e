"""Small tasks of the bundled grammar, and an inverse of the target realiser made by hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import SimpleNamespace

import pytest

from mechprobe.tasks import AbstractionTasks, load_abstraction
from mechprobe.tasks.abstraction.derivation import ROLES, Clause, Phrase

SMALL = {"n_train": 300, "n_words": 20, "n_dev": 40, "n_test": 40, "n_ood": 40, "per_item": 4}


@pytest.fixture(scope="session")
def small() -> Callable[..., AbstractionTasks]:
    """``small(probe, **choices)``: the tasks of abstraction/mini at an eighth of their size."""

    @cache
    def load(probe: str = "mod", **choices: object) -> AbstractionTasks:
        return load_abstraction("abstraction/mini", probe=probe, **{**SMALL, **choices})

    return load


@pytest.fixture(scope="session")
def mini_language():
    """The target task's language of abstraction/mini, and 400 derivations of every kind."""
    import random

    from mechprobe.tasks.abstraction.generate import _language
    from mechprobe.tasks.abstraction.grammar_card import read_grammar
    from mechprobe.tasks.abstraction.sample import Draw, sample_clause
    from mechprobe.tasks.cards import read_card

    card = read_card("abstraction/mini")
    grammar = read_grammar(card)
    rng = random.Random("any sentence")
    plain = Draw({0: 4.0, 1: 2.0, 2: 1.0, 4: 1.0}, object_modifier=0.4, modifier=0.3, nested=0.4)
    subject = Draw({0: 1.0, 1: 1.0}, modified_subject=True, modifier=0.4, nested=0.5, max_nested=3)
    trees = [sample_clause(grammar, draw, rng) for draw in (plain, subject) for _ in range(200)]
    return _language(grammar, card), trees


@pytest.fixture(scope="session")
def read_back() -> SimpleNamespace:
    """``read_target`` and ``meaning_of`` below: what a target says, what a derivation says."""
    return SimpleNamespace(read_target=read_target, meaning_of=meaning_of)


Meaning = tuple
"""(verb, {role: noun phrase}, None or (link, meaning below)); a noun phrase is a word or tuple."""


def meaning_of(tree: Clause, above: Phrase | None = None) -> Meaning:
    """What a derivation says, as plain tuples; an infinitive's agent is that of its clause."""
    agent = above if tree.controlled else tree.agent
    phrases = {"agent": agent, "theme": tree.theme, "recipient": tree.recipient}
    roles = {role: _noun(phrase) for role, phrase in phrases.items() if phrase is not None}
    below = None
    if tree.complement is not None:
        below = (tree.link, meaning_of(tree.complement, agent))
    return tree.verb.upper(), roles, below


def _noun(phrase: Phrase):
    if phrase.inner is None:
        return phrase.word.upper()
    return phrase.preposition.upper(), phrase.word.upper(), _noun(phrase.inner)


def read_target(tokens, *, roles=ROLES, swapped=False, nested=False, inner_first=False) -> Meaning:
    """The meaning of a target that has ``NONE`` in its empty slots."""
    rest = list(tokens)

    def take(expected: str | None = None) -> str:
        token = rest.pop(0)
        assert expected in (None, token), (expected, token, tokens)
        return token

    def noun():
        word = take()
        if rest[0] != "(":
            return word
        take("(")
        first = noun()
        take(",")
        second = noun()
        take(")")
        return (word, second, first) if swapped else (word, first, second)

    def clause() -> Meaning:
        verb = take()
        take("(")
        found = {}
        for i, role in enumerate(roles):
            if i:
                take(",")
            found[role] = noun()
        below = None
        if nested and rest[0] != ")":
            below = take(), clause()
        take(")")
        return verb, {r: n for r, n in found.items() if n != "NONE"}, below

    if nested:
        whole = clause()
        assert not rest
        return whole
    clauses, links = [clause()], []
    while rest:
        links.append(take())
        clauses.append(clause())
    if inner_first:
        clauses, links = clauses[::-1], links[::-1]
    verb, found, below = clauses.pop()
    while clauses:
        below = (links.pop(), (verb, found, below))
        verb, found, _ = clauses.pop()
    return verb, found, below

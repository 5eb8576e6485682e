"""Draws derivations from a grammar."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mechprobe.errors import InputError
from mechprobe.tasks.abstraction.derivation import Clause, Derivation, Phrase, Word
from mechprobe.tasks.abstraction.grammar import DETERMINERS, Frame, Grammar
from mechprobe.tasks.abstraction.target import Tokens

_TRIES = 2000  # draws in a row without a new sentence before the grammar counts as used up


@dataclass(frozen=True)
class Draw:
    """What the sentences of one split look like.

    Attributes:
        depths: how often a sentence has this many embedded clauses.
        modified_subject: whether the main subject always has a prepositional phrase; else no
            subject has one, except by ``modifier``.
        object_modifier: how often a theme that is no subject has one, where its noun is common.
        modifier: how often any other common noun of a verb has one.
        nested: how often the noun inside such a phrase has one of its own.
        max_nested: most prepositional phrases on one noun.
    """

    depths: Mapping[int, float]
    modified_subject: bool = False
    object_modifier: float = 0.0
    modifier: float = 0.0
    nested: float = 0.0
    max_nested: int = 2


def sample_clause(grammar: Grammar, draw: Draw, rng: random.Random) -> Clause:
    """One derivation; the same grammar, settings and state of ``rng`` give the same one."""
    depth = rng.choices(list(draw.depths), weights=list(draw.depths.values()))[0]
    return _clause(grammar, draw, rng, depth, False, True)


def _clause(
    grammar: Grammar, draw: Draw, rng: random.Random, depth: int, infinitive: bool, top: bool
) -> Clause:
    frame = _frame(grammar, rng, depth, infinitive)
    verb = _pick(rng, grammar.lexicon.verbs[frame.verbs])
    roles = {}
    for role in frame.roles:
        subject = role == frame.subject
        forced = top and subject and draw.modified_subject
        share = draw.object_modifier if role == "theme" and not subject else draw.modifier
        roles[role] = _argument(grammar, draw, rng, role, 1.0 if forced else share)
    below = None
    if frame.link is not None:
        deeper = depth - (not frame.wants_infinitive)
        below = _clause(grammar, draw, rng, deeper, frame.wants_infinitive, False)
    return Clause(
        frame.name, verb, **roles, link=frame.link, complement=below, controlled=infinitive
    )


def _frame(grammar: Grammar, rng: random.Random, depth: int, infinitive: bool) -> Frame:
    """A frame that embeds a full clause exactly while ``depth`` is above 0."""
    fitting = [
        frame
        for frame in grammar.frames.values()
        if frame.infinitive == infinitive
        and (infinitive or (depth > 0) == (frame.link is not None and not frame.wants_infinitive))
    ]
    weights = [frame.weight for frame in fitting]
    if not sum(weights):
        kind = "an infinitive" if infinitive else f"a clause with {depth} clauses below it"
        raise InputError(
            f"card {grammar.name}: no frame with a weight above 0 makes {kind}; add a [[frame]]"
        )
    return rng.choices(fitting, weights=weights)[0]


def _argument(grammar: Grammar, draw: Draw, rng: random.Random, role: str, share: float) -> Phrase:
    """A noun phrase of a verb; with ``share`` 1 it is common and has a prepositional phrase."""
    lists = grammar.phrases[role]
    if share >= 1:
        lists = {name: weight for name, weight in lists.items() if name != "name"}
    if not sum(lists.values()):
        raise InputError(
            f"card {grammar.name}: [phrases.{role}] has no common noun to put a prepositional "
            "phrase on; give a noun list a weight above 0"
        )
    chosen = rng.choices(list(lists), weights=list(lists.values()))[0]
    word = _pick(rng, grammar.lexicon.nouns[chosen])
    if chosen == "name":
        return Phrase(word)
    modifiers = int(rng.random() < share)
    while 0 < modifiers < draw.max_nested and rng.random() < draw.nested:
        modifiers += 1
    return _common(grammar, rng, word, modifiers)


def _common(grammar: Grammar, rng: random.Random, word: str, modifiers: int) -> Phrase:
    determiner = _pick(rng, DETERMINERS)
    if not modifiers:
        return Phrase(word, determiner)
    preposition = _pick(rng, tuple(grammar.lexicon.prepositions))
    inner = _pick(rng, grammar.lexicon.nouns[grammar.lexicon.prepositions[preposition]])
    return Phrase(word, determiner, preposition, _common(grammar, rng, inner, modifiers - 1))


def _pick(rng: random.Random, words: Sequence[str]) -> str:
    return words[int(rng.random() * len(words))]


def sample_new(
    n: int,
    draw: Callable[[int], Derivation],
    source: Callable[[Derivation], Tokens],
    taken: set[Tokens],
    known: set[str] | None,
    where: str,
) -> list[Derivation]:
    """``n`` derivations whose sentences are new; they are added to ``taken``.

    Args:
        n: how many.
        draw: gives the next candidate, from the number of the example.
        source: its sentence.
        taken: sentences that may not come again.
        known: tokens a sentence may have; None for any.
        where: the split, for messages.

    Raises:
        InputError: the grammar has no more of them.
    """
    trees: list[Derivation] = []
    while len(trees) < n:
        for _ in range(_TRIES):
            tree = draw(len(trees))
            sentence = source(tree)
            if sentence not in taken and (known is None or known.issuperset(sentence)):
                break
        else:
            raise InputError(
                f"{where}: no {n} different sentences left ({len(trees)} found); ask for fewer, "
                "add words to the card, or train on more sentences so that more words are known"
            )
        taken.add(sentence)
        trees.append(tree)
    return trees


def sample_words(n: int, grammar: Grammar, rng: random.Random) -> list[Derivation]:
    """At most ``n`` single words: nouns, names and verb lemmas, drawn without replacement."""
    words = [*grammar.lexicon.all_nouns(), *grammar.lexicon.all_verbs()]
    return [Word(word) for word in rng.sample(words, min(n, len(words)))]

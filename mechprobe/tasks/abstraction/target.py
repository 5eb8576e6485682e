"""The target realiser: a derivation as ``VERB ( AGENT , THEME , RECIPIENT )``."""

from __future__ import annotations

from dataclasses import dataclass

from mechprobe.tasks.abstraction.derivation import ROLES, Clause, Derivation, Phrase, Word

NONE = "NONE"
Tokens = tuple[str, ...]


@dataclass(frozen=True)
class TargetForm:
    """How a meaning is written down.

    The form of An et al. (2023) is the default; the others serve contrast tasks and mutations.

    Attributes:
        roles: order of the slots in a verb's brackets.
        none: whether an empty slot is written as ``NONE``; else it is left out.
        swap_modifier: ``ON ( TRAY , BABY )`` instead of ``ON ( BABY , TRAY )``.
        nested: a complement stands inside the brackets of its verb, behind the slots.
        inner_first: the chain of clauses begins with the innermost.
    """

    roles: tuple[str, ...] = ROLES
    none: bool = True
    swap_modifier: bool = False
    nested: bool = False
    inner_first: bool = False


def realise_target(tree: Derivation, form: TargetForm) -> Tokens:
    """The target of a derivation, one token an element; determiners and voice leave no trace."""
    if isinstance(tree, Word):
        return (tree.word.upper(),)
    if form.nested:
        return tuple(_nested(tree, None, form))
    chain: list[list[str]] = []
    clause: Clause | None = tree
    agent: Phrase | None = None
    while clause is not None:
        agent = agent if clause.controlled else clause.agent
        chain.append([*_head(clause, agent, form), ")"])
        if clause.complement is not None:
            chain.append([clause.link or ""])
        clause = clause.complement
    if form.inner_first:
        chain.reverse()
    return tuple(token for part in chain for token in part)


def _nested(clause: Clause, above: Phrase | None, form: TargetForm) -> list[str]:
    agent = above if clause.controlled else clause.agent
    tokens = _head(clause, agent, form)
    if clause.complement is not None:
        tokens += [clause.link or "", *_nested(clause.complement, agent, form)]
    return [*tokens, ")"]


def _head(clause: Clause, agent: Phrase | None, form: TargetForm) -> list[str]:
    """Verb, opening bracket and slots; the bracket is left open."""
    tokens = [clause.verb.upper(), "("]
    slots = [agent if role == "agent" else clause.role(role) for role in form.roles]
    written = [slot for slot in slots if form.none or slot is not None]
    for i, slot in enumerate(written):
        tokens += [","] * (i > 0) + ([NONE] if slot is None else _phrase(slot, form))
    return tokens


def _phrase(phrase: Phrase, form: TargetForm) -> list[str]:
    noun = [phrase.word.upper()]
    if phrase.preposition is None or phrase.inner is None:
        return noun
    inner = _phrase(phrase.inner, form)
    first, second = (inner, noun) if form.swap_modifier else (noun, inner)
    return [phrase.preposition.upper(), "(", *first, ",", *second, ")"]

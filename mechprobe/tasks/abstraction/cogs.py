"""COGS files (Kim and Linzen 2020): logical forms to targets, and the words they use.

A logical form is a list of terms such as ``help . agent ( x _ 3 , x _ 6 )``, where ``x _ 3`` stands
for the word at place 3 of the sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mechprobe.errors import InputError
from mechprobe.tasks.abstraction.derivation import ROLES, Clause, Derivation, Phrase, Word
from mechprobe.tasks.abstraction.grammar import FORMS, Lexicon
from mechprobe.tasks.abstraction.target import TargetForm, Tokens, realise_target
from mechprobe.tasks.files import read_fields

_TERM = re.compile(r"(?:\* )?([\w' .-]+?) \( (x _ \d+|[\w'-]+)(?: , (x _ \d+|[\w'-]+))? \)")
_LINKS = {"ccomp": "CCOMP", "xcomp": "XCOMP"}
_NOUN = "nmod"


@dataclass(frozen=True)
class Term:
    """One term: ``help . agent ( x _ 3 , Emma )`` has head ``help`` and relation ``agent``.

    A noun's own term has relation ``""`` and no second argument.
    """

    head: str
    relation: str
    first: str
    second: str


def read_cogs(path: Path) -> list[tuple[str, str]]:
    """Sentence and logical form of each line; ``.tsv``, plain, ``.gz`` or ``.xz``.

    Raises:
        InputError: a file that cannot be read, or a line without a logical form.
    """
    lines = []
    for number, row in read_fields(path, None, False):
        if len(row) < 2:
            raise InputError(
                f"{path.name} line {number} has one field; expected a sentence, a tab and its "
                "logical form"
            )
        lines.append((str(row[0]), str(row[1])))
    return lines


def read_terms(logical_form: str) -> list[Term]:
    """The terms of a logical form; raises InputError where it does not read as such."""
    terms = []
    for text in re.split(r" AND | ; ", logical_form):
        match = _TERM.fullmatch(text)
        if match is None:
            raise InputError(
                f"{text!r} in logical form {logical_form!r} is no term; expected such as "
                "'help . agent ( x _ 3 , x _ 6 )'"
            )
        head, _, relation = match[1].partition(" . ")
        if (relation == "") != (match[3] is None):
            raise InputError(
                f"{text!r} in logical form {logical_form!r}: a noun has one argument and a "
                "relation two; mend the term"
            )
        terms.append(Term(head, relation, match[2], match[3] or ""))
    return terms


def read_logical_form(logical_form: str) -> Derivation:
    """The derivation of a logical form; it knows the meaning only, so frames are ``""``.

    Raises:
        InputError: the form cannot be read, or has no or several main verbs.
    """
    if " " not in logical_form:
        return Word(logical_form.lower())
    if logical_form.startswith("LAMBDA"):
        word = logical_form.rsplit("LAMBDA", 1)[1].split(" . ")[1].split(" ")[0]
        return Word(word.lower())
    terms = read_terms(logical_form)
    verbs = {t.first: t.head for t in terms if t.relation and not t.relation.startswith(_NOUN)}
    below = {t.second for t in terms if t.relation in _LINKS}
    main = [variable for variable in verbs if variable not in below]
    if lost := [variable for variable in below if variable not in verbs]:
        raise InputError(f"logical form {logical_form!r} embeds {lost[0]!r}, which is no verb")
    if len(main) != 1:
        raise InputError(
            f"logical form {logical_form!r} has {len(main)} main verbs; expected exactly one"
        )
    return _clause(main[0], terms, verbs, False)


def _clause(
    variable: str, terms: Sequence[Term], verbs: Mapping[str, str], controlled: bool
) -> Clause:
    clause = Clause("", verbs[variable].lower(), controlled=controlled)
    mine = [term for term in terms if term.first == variable]
    rest = [term for term in terms if term.first != variable]
    for term in mine:
        if term.relation in ROLES:
            if not (controlled and term.relation == "agent"):
                clause = replace(clause, **{term.relation: _phrase(term.second, rest)})
        elif term.relation in _LINKS:
            infinitive = term.relation == "xcomp"
            inner = _clause(term.second, rest, verbs, infinitive)
            clause = replace(clause, link=_LINKS[term.relation], complement=inner)
    return clause


def _phrase(argument: str, terms: Sequence[Term]) -> Phrase:
    if not argument.startswith("x _ "):
        return Phrase(argument.lower())
    nouns = [t.head for t in terms if t.first == argument and not t.relation]
    if len(nouns) != 1:
        raise InputError(f"{argument!r} in a logical form names {len(nouns)} nouns; expected one")
    phrase = Phrase(nouns[0].lower())
    rest = [term for term in terms if term.first != argument]
    for term in terms:
        if term.first == argument and term.relation.startswith(_NOUN):
            preposition = term.relation.split(" . ")[1]
            inner = _phrase(term.second, rest)
            phrase = replace(phrase, preposition=preposition, inner=inner)
    return phrase


def target_of(logical_form: str) -> Tokens:
    """The target of a COGS logical form: ``HELP ( DOG , ROSE , NONE )``."""
    return realise_target(read_logical_form(logical_form), TargetForm())


def cogs_lexicon(rows: Iterable[tuple[str, str]]) -> Lexicon:
    """The words of COGS sentences; all verbs are of one class, ``any``.

    A verb's text is found by the place its variable names; its form by the word before it. Forms
    that do not occur are missing.
    """
    nouns: dict[str, None] = {}
    names: dict[str, None] = {}
    forms: dict[str, dict[str, str]] = {}
    prepositions: dict[str, str] = {}
    written: dict[str, str] = {}
    for sentence, logical_form in rows:
        words = sentence.split()
        written.update({w.lower(): w for w in words[len(words) > 1 :] if w.lower() != w})
        if len(words) == 1:
            tree = read_logical_form(logical_form)
            if not logical_form.startswith("LAMBDA"):
                names[words[0].lower()] = None
            elif isinstance(tree, Word) and logical_form.count("LAMBDA") == 1:
                nouns[tree.word] = None
            elif isinstance(tree, Word):
                forms.setdefault(tree.word, {})["base"] = words[0].lower()
            continue
        for term in read_terms(logical_form):
            names.update({a.lower(): None for a in (term.first, term.second) if a[:1].isupper()})
            if not term.relation:
                nouns[term.head.lower()] = None
            elif term.relation.startswith(_NOUN):
                prepositions[term.relation.split(" . ")[1]] = "noun"
            else:
                place = int(term.first.removeprefix("x _ "))
                form = _form(words[place - 1])
                forms.setdefault(term.head.lower(), {})[form] = words[place].lower()
    return Lexicon(
        nouns={"noun": tuple(nouns), "name": tuple(names)},
        names=frozenset(names),
        written={**{name: name.capitalize() for name in names}, **written},
        verbs={"any": tuple(forms)},
        forms={lemma: {f: given[f] for f in FORMS if f in given} for lemma, given in forms.items()},
        prepositions=prepositions,
    )


def _form(before: str) -> str:
    return {"was": "participle", "to": "base"}.get(before.lower(), "past")

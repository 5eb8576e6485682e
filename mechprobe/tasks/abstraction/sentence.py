"""The source realiser: a derivation as an English sentence, in its own order or a changed one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mechprobe.tasks.abstraction.derivation import ROLES, Clause, Derivation, Phrase, Word
from mechprobe.tasks.abstraction.grammar import Frame, Lexicon
from mechprobe.tasks.abstraction.target import Tokens

EXTRAPOSED = ","
"""Stands before a subject's modifier that was moved, so that the sentence keeps one reading."""


@dataclass(frozen=True)
class SourceForm:
    """How a sentence is written down; the default is English.

    Attributes:
        postpositions: a preposition follows its noun phrase: ``the baby a tray on``.
        verb_final: the verb stands behind the other words of its clause, before a complement.
        complement_first: a complement stands before the clause it belongs to.
        subject_modifier_last: a prepositional phrase of the subject stands at the end of its
            clause (before a complement), behind a comma.
        words: function words that are replaced by others.
    """

    postpositions: bool = False
    verb_final: bool = False
    complement_first: bool = False
    subject_modifier_last: bool = False
    words: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Spelling:
    """What surrounds the words of a sentence.

    Attributes:
        prefix: tokens before the sentence, such as ``("Form", "one:")``.
        capital: whether the first word begins with a capital; names do so in any case.
        capital_words: whether a single word does, too.
        end: last token of a sentence.
    """

    prefix: Tokens
    capital: bool = True
    capital_words: bool = False
    end: str = "."


def realise_source(
    tree: Derivation,
    frames: Mapping[str, Frame],
    lexicon: Lexicon,
    spelling: Spelling,
    form: SourceForm,
) -> Tokens:
    """The sentence of a derivation, one token an element, with its prefix."""
    if isinstance(tree, Word):
        text = _noun(tree.word, lexicon)
        first = text[:1].upper() + text[1:] if spelling.capital_words else text
        return (*spelling.prefix, first)
    tokens = [*_clause(tree, frames, lexicon, form), spelling.end]
    tokens = [form.words.get(token, token) for token in tokens]
    if spelling.capital:
        tokens[0] = tokens[0][:1].upper() + tokens[0][1:]
    return (*spelling.prefix, *tokens)


def _clause(
    clause: Clause, frames: Mapping[str, Frame], lexicon: Lexicon, form: SourceForm
) -> list[str]:
    frame = frames[clause.frame]
    own, joint = _split(frame.source)
    if form.verb_final:
        own = sorted(own, key=lambda part: part.startswith("verb."))
    tokens: list[str] = []
    moved: list[str] = []
    for part in own:
        phrase = clause.role(part) if part in ROLES else None
        if phrase is not None:
            if part == frame.subject and form.subject_modifier_last:
                moved = _modifier(phrase, lexicon, form)
                phrase = Phrase(phrase.word, phrase.determiner)
            tokens += _phrase(phrase, lexicon, form)
        elif part.startswith("verb."):
            tokens.append(lexicon.forms[clause.verb][frame.form])
        else:
            tokens.append(part)
    tokens += [EXTRAPOSED, *moved] if moved else []
    if clause.complement is None:
        return tokens
    below = [*joint, *_clause(clause.complement, frames, lexicon, form)]
    return below + tokens if form.complement_first else tokens + below


def _split(source: Tokens) -> tuple[list[str], list[str]]:
    """A frame's own parts, and the words that introduce its complement."""
    parts = [part for part in source if part != "clause"]
    if len(parts) == len(source):
        return parts, []
    cut = len(parts)
    while parts[cut - 1] not in ROLES and not parts[cut - 1].startswith("verb."):
        cut -= 1
    return parts[:cut], parts[cut:]


def _phrase(phrase: Phrase, lexicon: Lexicon, form: SourceForm) -> list[str]:
    head = [] if phrase.determiner is None else [phrase.determiner]
    return [*head, _noun(phrase.word, lexicon), *_modifier(phrase, lexicon, form)]


def _modifier(phrase: Phrase, lexicon: Lexicon, form: SourceForm) -> list[str]:
    if phrase.preposition is None or phrase.inner is None:
        return []
    inner = _phrase(phrase.inner, lexicon, form)
    return [*inner, phrase.preposition] if form.postpositions else [phrase.preposition, *inner]


def _noun(word: str, lexicon: Lexicon) -> str:
    return lexicon.written.get(word, word)

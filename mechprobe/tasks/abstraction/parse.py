"""Reads a plain English sentence back into its derivations: the inverse of the source realiser."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from mechprobe.errors import InputError
from mechprobe.tasks.abstraction.derivation import ROLES, Clause, Derivation, Phrase, Word
from mechprobe.tasks.abstraction.grammar import DETERMINERS, Frame, Lexicon
from mechprobe.tasks.abstraction.sentence import Spelling
from mechprobe.tasks.abstraction.target import TargetForm, Tokens, realise_target

Reading = Mapping[str, Sequence[str]]
"""Verb text to the lemmas that have it, for one form."""


class SentenceReader:
    """Finds the derivations of sentences of one language.

    Args:
        frames: the grammar's frames by name.
        lexicon: its words.
        spelling: prefix and last token of its sentences.
        any_frame: let every verb stand in every frame, as in an auxiliary task with redrawn verbs.
    """

    def __init__(
        self,
        frames: Mapping[str, Frame],
        lexicon: Lexicon,
        spelling: Spelling,
        any_frame: bool = False,
    ) -> None:
        used = list(frames.values())
        if any_frame:  # frames that differ in their verbs alone are one
            used = list({(f.source, f.link, f.infinitive): f for f in reversed(used)}.values())
        self._main = [f for f in used if not f.infinitive]
        self._infinitive = [f for f in used if f.infinitive]
        self._spelling = spelling
        self._nouns = frozenset(lexicon.all_nouns())
        self._names = lexicon.names
        self._prepositions = frozenset(lexicon.prepositions)
        self._verbs = {frame.name: _reading(frame, lexicon, any_frame) for frame in used}
        self._words = self._nouns | set(lexicon.forms)
        self._has_names = bool(lexicon.names)

    def read(self, source: Sequence[str]) -> list[Derivation]:
        """All derivations of a sentence, with its prefix; none if it is not in the language."""
        n = len(self._spelling.prefix)
        if tuple(source[:n]) != self._spelling.prefix:
            return []
        tokens = [token.lower() for token in source[n:]]
        if len(tokens) == 1:
            return [Word(tokens[0])] if tokens[0] in self._words else []
        if not tokens or tokens[-1] != self._spelling.end:
            return []
        body = tokens[:-1]
        return [tree for tree, end in self._clause(body, 0, False) if end == len(body)]

    def read_pair(self, source: Sequence[str], target: Tokens) -> Derivation:
        """The one derivation of a sentence that has this target in the plain form.

        Raises:
            InputError: there is none, or more than one.
        """
        plain = TargetForm()
        found = [tree for tree in self.read(source) if realise_target(tree, plain) == target]
        if len(found) != 1:
            raise InputError(
                f"{len(found)} derivations for {' '.join(source)!r} with target "
                f"{' '.join(target)!r}; expected one: check the pair, the word lists and the frames"
            )
        return found[0]

    def _clause(
        self, tokens: Sequence[str], start: int, infinitive: bool
    ) -> Iterator[tuple[Clause, int]]:
        for frame in self._infinitive if infinitive else self._main:
            yield from self._frame(tokens, start, frame)

    def _frame(
        self, tokens: Sequence[str], start: int, frame: Frame
    ) -> Iterator[tuple[Clause, int]]:
        roles: dict[str, Phrase] = {}
        lemmas: Sequence[str] = ()
        at = start
        for part in frame.source:
            if at >= len(tokens):
                return
            if part == "clause":
                break
            if part in ROLES:
                read = self._phrase(tokens, at)
                if read is None:
                    return
                roles[part], at = read
                continue
            if part.startswith("verb."):
                lemmas = self._verbs[frame.name].get(tokens[at], ())
                if not lemmas:
                    return
            elif tokens[at] != part:
                return
            at += 1
        for lemma in lemmas:
            clause = Clause(
                frame.name,
                lemma,
                agent=roles.get("agent"),
                theme=roles.get("theme"),
                recipient=roles.get("recipient"),
                link=frame.link,
                controlled=frame.infinitive,
            )
            if frame.link is None:
                yield clause, at
                continue
            for below, end in self._clause(tokens, at, frame.wants_infinitive):
                yield replace(clause, complement=below), end

    def _phrase(self, tokens: Sequence[str], at: int) -> tuple[Phrase, int] | None:
        """A noun phrase and where it ends; a preposition belongs to the noun just before it."""
        determiner = tokens[at] if tokens[at] in DETERMINERS else None
        at += determiner is not None
        if at >= len(tokens) or tokens[at] not in self._nouns:
            return None
        word = tokens[at]
        if self._has_names and (word in self._names) != (determiner is None):
            return None
        if at + 1 < len(tokens) and tokens[at + 1] in self._prepositions and at + 2 < len(tokens):
            inner = self._phrase(tokens, at + 2)
            if inner is not None:
                return Phrase(word, determiner, tokens[at + 1], inner[0]), inner[1]
        return Phrase(word, determiner), at + 1


def _reading(frame: Frame, lexicon: Lexicon, any_frame: bool) -> Reading:
    lemmas = lexicon.forms if any_frame else lexicon.verbs[frame.verbs]
    reading: dict[str, list[str]] = {}
    for lemma in lemmas:
        text = lexicon.forms[lemma].get(frame.form)
        if text is not None:
            reading.setdefault(text, []).append(lemma)
    return reading

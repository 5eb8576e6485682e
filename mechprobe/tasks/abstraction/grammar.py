"""A grammar: clause frames, word lists, and how often each is drawn."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mechprobe.tasks.abstraction.derivation import ROLES

DETERMINERS = ("a", "the")
FORMS = ("base", "past", "participle")


@dataclass(frozen=True)
class Frame:
    """One way to build a clause.

    Attributes:
        name: the frame's name.
        verbs: the verb class that goes into it.
        source: the English order: roles, ``verb.FORM``, ``clause`` for the complement, and other
            words as they are.
        weight: how often it is drawn, against the others of its kind.
        link: token before the complement in the target; None without complement.
        infinitive: whether this is a clause without subject, below another.
        wants_infinitive: whether its complement is such a clause.
    """

    name: str
    verbs: str
    source: tuple[str, ...]
    weight: float
    link: str | None
    infinitive: bool
    wants_infinitive: bool

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles it fills, in the order of the sentence."""
        return tuple(part for part in self.source if part in ROLES)

    @property
    def subject(self) -> str | None:
        """The role of its subject: the one before the verb."""
        return self.source[0] if self.source[0] in ROLES else None

    @property
    def form(self) -> str:
        """The form of its verb: ``base``, ``past`` or ``participle``."""
        return next(p for p in self.source if p.startswith("verb.")).removeprefix("verb.")


@dataclass(frozen=True)
class Lexicon:
    """The words of one language.

    Attributes:
        nouns: word lists by name; they may share words.
        names: the nouns that take no determiner.
        written: text of the words that are not written in lower case, such as names.
        verbs: lemmas by verb class.
        forms: each lemma's text by form.
        prepositions: each preposition, and the noun list that follows it.
    """

    nouns: Mapping[str, tuple[str, ...]]
    names: frozenset[str]
    written: Mapping[str, str]
    verbs: Mapping[str, tuple[str, ...]]
    forms: Mapping[str, Mapping[str, str]]
    prepositions: Mapping[str, str]

    def all_nouns(self) -> list[str]:
        """Every noun and name once, in the order of the lists."""
        return list(dict.fromkeys(word for words in self.nouns.values() for word in words))

    def all_verbs(self) -> list[str]:
        """Every verb lemma once, in the order of the classes."""
        return list(dict.fromkeys(word for words in self.verbs.values() for word in words))

    def only(self, words: Collection[str]) -> Lexicon:
        """The nouns, names and verbs that are among ``words``; prepositions stay."""
        return Lexicon(
            nouns={name: tuple(w for w in n if w in words) for name, n in self.nouns.items()},
            names=frozenset(self.names & set(words)),
            written={word: text for word, text in self.written.items() if word in words},
            verbs={name: tuple(w for w in v if w in words) for name, v in self.verbs.items()},
            forms={verb: forms for verb, forms in self.forms.items() if verb in words},
            prepositions=self.prepositions,
        )


@dataclass(frozen=True)
class Grammar:
    """Frames and words, with what the sampler draws from.

    Attributes:
        name: the card's name.
        frames: by name.
        lexicon: the words.
        phrases: for each role, how often its noun comes from which list.
    """

    name: str
    frames: Mapping[str, Frame]
    lexicon: Lexicon
    phrases: Mapping[str, Mapping[str, float]]


def function_words(frames: Mapping[str, Frame]) -> tuple[str, ...]:
    """Determiners and the words written in the frames, in order of first appearance."""
    written = [
        part
        for frame in frames.values()
        for part in frame.source
        if part not in ROLES and part != "clause" and not part.startswith("verb.")
    ]
    return tuple(dict.fromkeys([*DETERMINERS, *written]))

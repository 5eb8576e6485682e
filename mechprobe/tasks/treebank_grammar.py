"""Our own treebank: sentences with dependency trees from a head-driven probabilistic grammar.

A rule names one of its parts as the head (``VP.n*``) and says how the others depend on it
(``NP.n:nsubj``); the head word of a phrase is the head word of its head part (Collins 2003,
section 2). Grammars are TOML files in ``tasks/grammars/``; their format stands on top of
``english.toml``.
"""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, product
from pathlib import Path
from typing import Any

from mechprobe.errors import InputError
from mechprobe.tasks.card_keys import check_grammar_keys
from mechprobe.tasks.cards import card_folder
from mechprobe.tasks.treebank import ROOT, Sentence, tree_depths

_PART = re.compile(r"(?P<symbol>[A-Z]+(?:\.[a-z]+)?)(?:(?P<head>\*)|:(?P<relation>[a-z:]+))")
_TRIES = 1000  # draws in a row without a new sentence before a grammar counts as used up
_NESTING = 200  # rules within rules before a sentence is given up as endless
_LIMITS = ("min_words", "max_words", "min_depth", "max_depth")


@dataclass(frozen=True)
class Part:
    """One part of a rule; ``relation`` is None for the head."""

    symbol: str
    relation: str | None


@dataclass(frozen=True)
class Rules:
    """The ways to rewrite one symbol, with the running sum of their weights."""

    ways: tuple[tuple[Part, ...], ...]
    cumulative: tuple[float, ...]


@dataclass(frozen=True)
class Words:
    """The words of one symbol and their part of speech."""

    upos: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Grammar:
    """A head-driven grammar.

    Attributes:
        name: for messages and sentence names.
        start: the symbol a sentence is.
        symbols: what each symbol is rewritten to.
        min_words, max_words, min_depth, max_depth: sentences outside are drawn again (arcs between
            root and deepest word).
    """

    name: str
    start: str
    symbols: Mapping[str, Rules | Words]
    min_words: int
    max_words: int
    min_depth: int
    max_depth: int


class _TooLong(Exception):
    """A sentence grew beyond what is allowed."""


@dataclass
class _Draft:
    """A sentence in the making."""

    grammar: Grammar
    rng: random.Random
    words: list[str] = field(default_factory=list)
    upos: list[str] = field(default_factory=list)
    heads: dict[int, int] = field(default_factory=dict)
    deprel: dict[int, str] = field(default_factory=dict)

    def grow(self, symbol: str, nesting: int = 0) -> int:
        """Append a phrase; returns the position of its head word."""
        if nesting > _NESTING or len(self.words) >= self.grammar.max_words:
            raise _TooLong
        match self.grammar.symbols[symbol]:
            case Words(upos, words):
                self.words.append(self.rng.choice(words))
                self.upos.append(upos)
                return len(self.words) - 1
            case Rules(ways, cumulative):
                (parts,) = self.rng.choices(ways, cum_weights=cumulative)
        places = [self.grow(part.symbol, nesting + 1) for part in parts]
        (head,) = (p for p, part in zip(places, parts, strict=True) if part.relation is None)
        for place, part in zip(places, parts, strict=True):
            if part.relation is not None:
                self.heads[place], self.deprel[place] = head, part.relation
        return head


def generate_treebank(
    n: int, *, grammar: str | Path | Grammar = "english", seed: int = 0
) -> list[Sentence]:
    """``n`` different sentences with their dependency trees.

    A longer treebank of the same seed begins with the shorter one. Short sentences come first more
    often than late, since a sentence is never repeated.

    Args:
        n: how many sentences.
        grammar: name of a grammar in ``tasks/grammars/``, path of a ``.toml`` file, or a Grammar.
        seed: decides every sentence.

    Raises:
        InputError: fewer than one sentence asked for, a grammar that cannot work, or one that gives
            no new sentence in 1000 draws.
    """
    if n < 1:
        raise InputError(f"{n} sentences asked for; give 1 or more")
    if not isinstance(grammar, Grammar):
        grammar = read_grammar(grammar)
    rng = random.Random(seed)
    found: dict[tuple[str, ...], Sentence] = {}
    since = 0
    while len(found) < n:
        since += 1
        if since > _TRIES:
            raise InputError(
                f"grammar {grammar.name} gave {len(found)} different sentences and in {_TRIES} "
                "more draws no new one; ask for fewer or widen its limits, rules or words"
            )
        sentence = _draw(grammar, rng, f"{grammar.name}-{seed}-{len(found) + 1}")
        if sentence is not None and sentence.words not in found:
            found[sentence.words] = sentence
            since = 0
    return list(found.values())


def _draw(grammar: Grammar, rng: random.Random, name: str) -> Sentence | None:
    """One sentence, or None when it is outside the grammar's limits."""
    draft = _Draft(grammar, rng)
    try:
        root = draft.grow(grammar.start)
    except _TooLong:
        return None
    n = len(draft.words)
    draft.heads[root], draft.deprel[root] = ROOT, "root"
    heads = tuple(draft.heads[i] for i in range(n))
    deep = int(tree_depths(heads).max())
    if n < grammar.min_words or not grammar.min_depth <= deep <= grammar.max_depth:
        return None
    deprel = tuple(draft.deprel[i] for i in range(n))
    return Sentence(tuple(draft.words), heads, deprel, tuple(draft.upos), name)


def read_grammar(name_or_path: str | Path) -> Grammar:
    """A grammar by its name in ``tasks/grammars/`` or by the path of a ``.toml`` file.

    Raises:
        InputError: no such grammar, or, with rule and symbol named, one that cannot work.
    """
    text = str(name_or_path)
    path = Path(text) if text.endswith(".toml") else card_folder() / "grammars" / f"{text}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.toml")))
        raise InputError(
            f"no grammar {text!r}; give the path of a .toml file or one of: {known or 'none here'}"
        )
    try:
        card = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"grammar {text} is not valid TOML: {error}; mend that line") from error
    return parse_grammar(card, path.stem)


def parse_grammar(card: Mapping[str, Any], name: str) -> Grammar:
    """A grammar from its tables, features written out and every symbol checked.

    Raises:
        InputError: as ``read_grammar``.
    """
    check_grammar_keys(card, name)
    if missing := [key for key in ("start", "settings", "rules", "words") if key not in card]:
        raise InputError(f"grammar {name} lacks {', '.join(missing)}; add it")
    limits = card["settings"]
    if sorted(limits) != sorted(_LIMITS) or not all(
        isinstance(limit, int) and limit >= 0 for limit in limits.values()
    ):
        raise InputError(
            f"grammar {name}: [settings] are {', '.join(_LIMITS)}, whole numbers; got {limits}"
        )
    symbols: dict[str, Rules | Words] = {
        symbol: _words(entry, f"grammar {name}: [words] {symbol}")
        for symbol, entry in card["words"].items()
    }
    for symbol, rules in _write_out(card["rules"], card.get("features", {}), name).items():
        if symbol in symbols:
            raise InputError(f"grammar {name}: {symbol} has both rules and words; rename one")
        symbols[symbol] = rules
    parts = [p.symbol for r in symbols.values() if isinstance(r, Rules) for w in r.ways for p in w]
    for symbol in (card["start"], *parts):
        if symbol not in symbols:
            raise InputError(f"grammar {name}: {symbol} has neither rules nor words; add them")
    return Grammar(name, card["start"], symbols, **limits)


def _words(entry: Any, where: str) -> Words:
    words = entry.get("list") if isinstance(entry, dict) else None
    if not words or "upos" not in entry or not all(str(word).split() == [word] for word in words):
        raise InputError(
            f'{where} needs upos and words without spaces; give {{ upos = "NOUN", list = [...] }}'
        )
    return Words(entry["upos"], tuple(words))


def _write_out(
    rules: Mapping[str, Sequence[str]], features: Mapping[str, Sequence[str]], name: str
) -> dict[str, Rules]:
    """Each symbol's rules with every feature replaced by each of its values.

    The weight of a line is shared equally by the values of features only its right side has.
    """
    weighted: dict[str, list[tuple[float, tuple[Part, ...]]]] = {}
    for left, lines in rules.items():
        for line in lines:
            weight, parts = _line(line, f"grammar {name}: rule {left} = {line!r}")
            on_left = _features([left], features)
            free = _features([part.symbol for part in parts], features) - on_left
            names = sorted(on_left | free)
            share = weight
            for feature in free:
                share /= len(features[feature])
            for values in product(*(features[feature] for feature in names)):
                chosen = dict(zip(names, values, strict=True))
                way = tuple(Part(_filled(p.symbol, chosen), p.relation) for p in parts)
                weighted.setdefault(_filled(left, chosen), []).append((share, way))
    return {
        symbol: Rules(tuple(way for _, way in ways), tuple(accumulate(w for w, _ in ways)))
        for symbol, ways in weighted.items()
    }


def _line(line: str, where: str) -> tuple[float, tuple[Part, ...]]:
    weight, *texts = line.split()
    found = [_PART.fullmatch(text) for text in texts]
    try:
        number = float(weight)
    except ValueError:
        number = -1.0
    if not 0 < number < float("inf") or not found or not all(found):
        raise InputError(f"{where}; expected 'WEIGHT PART PART ...', such as '3 DET:det NOUN*'")
    parts = tuple(Part(m["symbol"], m["relation"]) for m in found if m is not None)
    if [part.relation for part in parts].count(None) != 1:
        raise InputError(f"{where}; mark exactly one part as the head, with a star")
    return number, parts


def _features(symbols: Sequence[str], features: Mapping[str, Sequence[str]]) -> set[str]:
    return {end for s in symbols if (end := s.partition(".")[2]) in features}


def _filled(symbol: str, values: Mapping[str, str]) -> str:
    stem, _, end = symbol.partition(".")
    return f"{stem}.{values[end]}" if end in values else symbol

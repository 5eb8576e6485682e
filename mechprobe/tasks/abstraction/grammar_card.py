"""Reads a grammar from its card, and says what to mend where it cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mechprobe.errors import InputError
from mechprobe.tasks.abstraction.derivation import ROLES
from mechprobe.tasks.abstraction.grammar import FORMS, Frame, Grammar, Lexicon, function_words
from mechprobe.tasks.abstraction.target import NONE

BRACKETS = ("(", ")", ",")


def _table_of(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, Mapping) and all(map(fits, value.values()))


_CHECKS: Mapping[str, Callable[[Any], bool]] = {
    "table": _table_of(lambda _: True),
    "table of lists": _table_of(lambda v: isinstance(v, list)),
    "table of words": _table_of(lambda v: isinstance(v, str)),
    "table of tables": _table_of(lambda v: isinstance(v, Mapping)),
    "list of tables": lambda value: (
        isinstance(value, list) and all(isinstance(v, Mapping) for v in value)
    ),
}
_SHAPE = {
    "nouns": "table of lists",
    "prepositions": "table of words",
    "phrases": "table of tables",
    "verbs": "table of lists",
    "frame": "list of tables",
    "auxiliary.prepositions": "table of words",
    "auxiliary.syllables": "table of lists",
}


def check_shape(card: Mapping[str, Any], shape: Mapping[str, str]) -> None:
    """Raise InputError unless each entry of a card, such as ``auxiliary.syllables``, has its shape.

    Shapes are the keys of ``_CHECKS``.
    """
    for path, kind in shape.items():
        value: Any = card
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if not _CHECKS[kind](value) or not value:
            raise InputError(
                f"card {card['name']}: {path} is {str(value)[:60]!r}; expected a {kind}, not "
                "empty: see the card abstraction/mini"
            )


def read_grammar(card: Mapping[str, Any]) -> Grammar:
    """The grammar of a card; raises InputError that names the entry to mend."""
    where = f"card {card['name']}"
    check_shape(card, _SHAPE)
    lexicon = _lexicon(card, where)
    frames = read_frames(card)
    for frame in frames.values():
        if not lexicon.verbs.get(frame.verbs):
            raise InputError(
                f"{where}: frame {frame.name!r} takes verbs of class {frame.verbs!r}; [verbs] has "
                f"{', '.join(lexicon.verbs)}; add the class or mend the frame"
            )
    phrases: dict[str, Mapping[str, float]] = {}
    for role in {role for frame in frames.values() for role in frame.roles}:
        lists = card["phrases"].get(role, {})
        wrong = [n for n, w in lists.items() if n not in lexicon.nouns or not _is_weight(w)]
        if not lists or wrong:
            raise InputError(
                f"{where}: [phrases.{role}] {f'has {wrong[0]!r}' if wrong else 'is missing'}; "
                f"expected weights for some of {', '.join(lexicon.nouns)}"
            )
        phrases[role] = {n: float(w) for n, w in lists.items()}
    grammar = Grammar(card["name"], frames, lexicon, phrases)
    _check_words(grammar, where)
    return grammar


def read_frames(card: Mapping[str, Any]) -> dict[str, Frame]:
    """The card's ``[[frame]]`` tables by name; raises InputError for one that cannot be used."""
    frames = {}
    check_shape(card, {"frame": "list of tables"})
    for entry in card["frame"]:
        frame = _frame(entry, f"card {card['name']}: frame {entry.get('name', '?')!r}")
        if frame.name in frames:
            raise InputError(f"card {card['name']} has two frames {frame.name!r}; rename one")
        frames[frame.name] = frame
    wants = any(frame.wants_infinitive for frame in frames.values())
    if wants and not any(frame.infinitive for frame in frames.values()):
        raise InputError(
            f"card {card['name']}: a frame has complement = 'infinitive', but none is one; add a "
            "frame with infinitive = true"
        )
    return frames


def _frame(entry: Mapping[str, Any], where: str) -> Frame:
    missing = [key for key in ("name", "verbs", "source", "weight") if key not in entry]
    if missing:
        raise InputError(f"{where} lacks {', '.join(missing)}; add it to the card")
    source = tuple(str(entry["source"]).split())
    verbs = [part for part in source if part.startswith("verb.")]
    if len(verbs) != 1 or verbs[0].removeprefix("verb.") not in FORMS:
        raise InputError(
            f"{where}: source {entry['source']!r} needs exactly one verb; write verb.base, "
            "verb.past or verb.participle"
        )
    if len(set(source)) < len(source):
        raise InputError(f"{where}: source {entry['source']!r} has a part twice; take one out")
    if not _is_weight(entry["weight"]):
        raise InputError(f"{where}: weight {entry['weight']!r}; expected a number, 0 or more")
    kind, infinitive = entry.get("complement"), bool(entry.get("infinitive", False))
    link = entry.get("link")
    if kind not in (None, "clause", "infinitive") or (kind is None) != (link is None):
        raise InputError(
            f"{where}: complement {kind!r} with link {link!r}; expected 'clause' or 'infinitive' "
            "with a link such as 'CCOMP', or neither"
        )
    if (kind is not None) != (source[-1] == "clause") or "clause" in source[:-1]:
        raise InputError(
            f"{where}: source {entry['source']!r}; expected 'clause' at its end exactly where the "
            "frame has a complement"
        )
    if infinitive == (source[0] in ROLES):
        raise InputError(
            f"{where}: source {entry['source']!r} must begin with {' or '.join(ROLES)}, the "
            "subject, unless infinitive = true"
        )
    return Frame(
        name=entry["name"],
        verbs=entry["verbs"],
        source=source,
        weight=float(entry["weight"]),
        link=link,
        infinitive=infinitive,
        wants_infinitive=kind == "infinitive",
    )


def _is_weight(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _lexicon(card: Mapping[str, Any], where: str) -> Lexicon:
    nouns = {
        name: tuple(_lower(word, f"{where}: [nouns] {name}") for word in words)
        for name, words in card["nouns"].items()
    }
    empty = [name for name, words in nouns.items() if not words]
    if empty:
        raise InputError(f"{where}: [nouns] {empty[0]} has no words; add some or remove it")
    for preposition, following in card["prepositions"].items():
        if following not in nouns:
            raise InputError(
                f"{where}: [prepositions] {preposition} is followed by list {following!r}; "
                f"[nouns] has {', '.join(nouns)}"
            )
    verbs, forms = _verbs(card["verbs"], where)
    return Lexicon(
        nouns=nouns,
        names=frozenset(nouns.get("name", ())),
        written={w.lower(): w for words in card["nouns"].values() for w in words if w.lower() != w},
        verbs=verbs,
        forms=forms,
        prepositions=card["prepositions"],
    )


def _verbs(
    classes: Mapping[str, Sequence[str]], where: str
) -> tuple[dict[str, tuple[str, ...]], dict[str, dict[str, str]]]:
    """Verb classes, and the forms of each lemma: ``eat/ate/eaten``, ``help/helped``, ``help``."""
    forms: dict[str, dict[str, str]] = {}
    lists: dict[str, tuple[str, ...]] = {}
    for name, entries in classes.items():
        lemmas = []
        for entry in entries:
            base, *rest = _lower(entry, f"{where}: [verbs] {name}").split("/")
            lemmas.append(base)
            if not rest:
                continue
            given = {"base": base, "past": rest[0], "participle": rest[-1]}
            if len(rest) > 2 or forms.setdefault(base, given) != given:
                raise InputError(
                    f"{where}: verb {entry!r} of class {name!r}; expected base/past/participle or "
                    "base/past, the same wherever the verb is listed"
                )
        lists[name] = tuple(lemmas)
    for name, lemmas in lists.items():
        for lemma in lemmas:
            if lemma not in forms:
                raise InputError(
                    f"{where}: verb {lemma!r} of class {name!r} has no forms; write it once as "
                    f"'{lemma}/PAST/PARTICIPLE'"
                )
    return lists, forms


def _lower(word: object, where: str) -> str:
    text = word.lower() if isinstance(word, str) else ""
    if not text or any(not part.strip() or part.split() != [part] for part in text.split("/")):
        raise InputError(f"{where} has {word!r}; expected one word without spaces")
    return text


def _check_words(grammar: Grammar, where: str) -> None:
    """Every written word has one reading, so that sentences can be read back."""
    lexicon = grammar.lexicon
    readings: dict[str, str] = {}
    common = [w for name, words in lexicon.nouns.items() if name != "name" for w in words]
    links = [frame.link for frame in grammar.frames.values() if frame.link is not None]
    for kind, words in (
        ("function word", [*function_words(grammar.frames), *BRACKETS, NONE.lower(), "."]),
        ("link", [link.lower() for link in links]),
        ("preposition", list(lexicon.prepositions)),
        ("name", list(lexicon.names)),
        ("noun", common),
        ("verb", [text for forms in lexicon.forms.values() for text in forms.values()]),
    ):
        for word in words:
            if readings.setdefault(word, kind) != kind:
                raise InputError(
                    f"{where}: {word!r} is both {readings[word]} and {kind}; a word has one "
                    "reading: replace one of them"
                )

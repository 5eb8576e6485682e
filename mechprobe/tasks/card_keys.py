"""The keys a card may have at each level; any other is a typo, and refused with the nearest."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from mechprobe.errors import InputError
from mechprobe.tasks.language.task import FORMS

Level: TypeAlias = Mapping[str, Any]
"""Key to the level inside it; None where nothing is inside, or where any key may be. A level of the
one key "*" has names of the card's own."""


def _level(*names: str, **inside: Level | None) -> Level:
    return {**dict.fromkeys(names), **inside}


def _each(level: Level) -> Level:
    return {"*": level}


_COLUMNS = ("first", "second", "label", "group", "labels", "drop", "drop_empty", "detokenize")
_SOURCE = _level(
    *_COLUMNS,
    local=_level(*_COLUMNS, "files", "quoting", "header"),
    hub=_level(*_COLUMNS, "path", "config", "split", "revision", "options"),
)
_SETTABLE = ("take", "take_per_group", "share", "groups")
_PART = _level("source", "relabel", *_SETTABLE)
_WORDS = _each(_level("list", "forms"))
_FRAME = _level("name", "verbs", "source", "complement", "link", "infinitive", "weight")
_GROUP = _level("name", "label", "overlap", "in_domain", "counterexample", "ood", "pairs")
_EXPECTED = _level("model", "architecture", "shape", "source", "heads")
_SIZES = ("n_train", "n_dev", "n_test", "n_ood", "per_item")
_PREFIXES = ("prefix", "auxiliary_prefix", "redraw")
_SHARES = ("object_modifier", "nested_modifier", "ood_modifier", "max_modifiers")

_CARDS: dict[str, Level] = {
    "templates": _level(
        "labels", "content", "overlap_label", "new_word_label", "collapse", "ood_score_groups",
        words=_WORDS, group=_GROUP,
        settings=_level(
            "n_train", "n_dev", "n_ood", "overlap_predicts", "new_words", "counterexample_groups",
            "ood_groups",
        ),
    ),
    "files": _level(
        "labels", "collapse", "symmetric", "ood_score_groups", "settings",
        sources=_each(_SOURCE), splits=_each(_PART),
    ),
    "grammar": _level(
        "nouns", "prepositions", "verbs", "ood_score_groups",
        phrases=_level("agent", "theme", "recipient"), frame=_FRAME,
        auxiliary=_level("prepositions", syllables=_level("onsets", "vowels", "codas")),
        settings=_level(
            *_SIZES, *_PREFIXES, *_SHARES, "n_words", "depths", "ood_depths", "capital"
        ),
    ),
    "grammar-files": _level(
        "grammar", "ood_score_groups", settings=_level(*_SIZES, *_PREFIXES),
        files=_level(
            "train", "dev", "test", "dictionary", "cogs_train", "mod_test", "com_test",
            "mod_auxiliary", "com_auxiliary",
        ),
    ),
    "minimal-pairs": _level(
        words=_WORDS, paradigm=_level("name", "phenomenon", "field", "pairs"),
        frame=_level("texts", "weight"), settings=_level("n_pairs", "n_text"),
    ),
}  # fmt: skip
_TREEBANK = _level(
    "title", "start", "features", "rules", "settings", words=_each(_level("upos", "list"))
)
_FORM_SETTINGS = {"ioi": ("n", "counterfactual"), "induction": ("n", "period", "again")}


def check_keys(card: Mapping[str, Any], name: str) -> None:
    """Refuse a key of a card that nothing reads, at any level of it.

    Args:
        card: as written, of a kind that is known.

    Raises:
        InputError: an unknown key, with the nearest known one; a setting that no split uses.
    """
    if card["kind"] == "language":
        form = str(card.get("form"))
        if form not in FORMS:  # refused where the task is made
            return
        inside = _level(
            "form", "source", *FORMS[form], expected=_EXPECTED,
            settings=_level(*_FORM_SETTINGS.get(form, ("n",))),
        )  # fmt: skip
    else:
        inside = _CARDS[card["kind"]]
    _check(card, {"kind": None, "title": None, "settings": None, **inside}, f"card {name}", "")
    if card["kind"] == "files":
        _check_used(card, name)


def check_grammar_keys(card: Mapping[str, Any], name: str) -> None:
    """Refuse a key of a treebank grammar that nothing reads; raises InputError."""
    _check(card, _TREEBANK, f"grammar {name}", "")


def _check(table: Mapping[str, Any], level: Level, card: str, path: str) -> None:
    for key, value in table.items():
        if "*" not in level and key not in level:
            place = f"in [{path}]" if path else "at the top"
            raise InputError(f"{card}: unknown key {key!r} {place}; {_instead(key, level)}")
        inside = level.get("*", level.get(key))
        for part in value if isinstance(value, list) else [value]:
            if inside is not None and isinstance(part, Mapping):
                _check(part, inside, card, f"{path}.{key}" if path else key)


def _check_used(card: Mapping[str, Any], name: str) -> None:
    """Refuse splits that are no lists of tables, and a setting that no part of a split names."""
    used: set[str] = set()
    splits = card.get("splits", {})
    for split, parts in splits.items():
        if not isinstance(parts, list) or not all(isinstance(part, Mapping) for part in parts):
            raise InputError(f"card {name}: split {split!r} is no list; write [[splits.{split}]]")
        named = (part.get(key) for part in parts for key in _SETTABLE)
        used |= {value for value in named if isinstance(value, str)}
    settings = card.get("settings", {})
    unused = [key for key in settings if key not in used]
    if splits and unused and used <= set(settings):
        raise InputError(
            f"card {name}: setting {unused[0]!r} is used by no split; {_instead(unused[0], used)}"
        )


def _instead(key: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(key, list(known), 1, 0.0)
    return f"nearest: {near[0]}; mend or remove it" if near else "remove it"

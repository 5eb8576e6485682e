"""The keys a card of each kind may have at each level, and what each holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mechprobe.errors import InputError
from mechprobe.tasks.card_shape import (
    ANY,
    FLAG,
    NUMBER,
    NUMBERS,
    PAIRS,
    TEXT,
    TEXTS,
    WHOLE,
    WHOLES,
    Shape,
    check_shape,
    each,
    instead,
)
from mechprobe.tasks.language.task import FORMS

_TEXT_TABLE = each(TEXT)
_COLUMN = (TEXT, WHOLE)
_COLUMNS = {
    "first": _COLUMN, "second": _COLUMN, "label": _COLUMN, "group": _COLUMN,
    "labels": _TEXT_TABLE, "drop": TEXTS, "drop_empty": FLAG, "detokenize": FLAG,
}  # fmt: skip
_HUB = {
    **_COLUMNS, "path": TEXT, "config": TEXT, "split": TEXT, "revision": TEXT,
    "options": each(ANY),
}  # fmt: skip
_SOURCE = {
    **_COLUMNS, "hub": (_HUB, [_HUB]),
    "local": {**_COLUMNS, "files": (TEXTS, TEXT), "quoting": TEXT, "header": FLAG},
}  # fmt: skip
_SETTABLE = {
    "take": (WHOLE, TEXT), "take_per_group": (WHOLE, TEXT), "share": (NUMBER, TEXT),
    "groups": (TEXTS, TEXT),
}  # fmt: skip
_PART = {"source": (TEXT, TEXTS), "relabel": _TEXT_TABLE, **_SETTABLE}
_WORDS = each({"list": TEXTS, "forms": TEXTS})
_FRAME = {
    "name": TEXT, "verbs": TEXT, "source": TEXT, "complement": TEXT, "link": TEXT,
    "infinitive": FLAG, "weight": NUMBER,
}  # fmt: skip
_GROUP = {
    "name": TEXT, "label": TEXT, "overlap": FLAG, "in_domain": NUMBER, "counterexample": FLAG,
    "ood": FLAG, "pairs": PAIRS,
}  # fmt: skip
_EXPECTED = {
    "model": TEXT, "architecture": TEXT, "shape": WHOLES, "source": TEXT, "heads": each(TEXTS),
}  # fmt: skip
_SIZES = dict.fromkeys(("n_train", "n_dev", "n_test", "n_ood", "per_item"), WHOLE)
_PREFIXES = dict.fromkeys(("prefix", "auxiliary_prefix", "redraw"), TEXT)

_CARDS: dict[str, dict[str, Shape]] = {
    "templates": {
        "labels": TEXTS, "content": TEXTS, "overlap_label": TEXT, "new_word_label": TEXT,
        "collapse": each(TEXTS), "ood_score_groups": TEXTS, "words": _WORDS, "group": [_GROUP],
        "settings": {
            "n_train": WHOLE, "n_dev": WHOLE, "n_ood": WHOLE, "overlap_predicts": NUMBER,
            "new_words": NUMBERS, "counterexample_groups": TEXTS, "ood_groups": TEXTS,
        },
    },
    "files": {
        "labels": TEXTS, "collapse": each(TEXTS), "symmetric": FLAG, "ood_score_groups": TEXTS,
        "settings": each((WHOLE, NUMBER, TEXTS)), "sources": each(_SOURCE),
        "splits": each([_PART]),
    },
    "grammar": {
        "nouns": each(TEXTS), "prepositions": _TEXT_TABLE, "verbs": each(TEXTS),
        "ood_score_groups": TEXTS,
        "phrases": dict.fromkeys(("agent", "theme", "recipient"), each(NUMBER)),
        "frame": [_FRAME],
        "auxiliary": {
            "prepositions": _TEXT_TABLE,
            "syllables": {"onsets": TEXTS, "vowels": TEXTS, "codas": TEXTS},
        },
        "settings": {
            **_SIZES, **_PREFIXES, "n_words": WHOLE, "depths": NUMBERS, "ood_depths": WHOLES,
            "object_modifier": NUMBER, "nested_modifier": NUMBER, "ood_modifier": NUMBER,
            "max_modifiers": WHOLE, "capital": FLAG,
        },
    },
    "grammar-files": {
        "grammar": TEXT, "ood_score_groups": TEXTS, "settings": {**_SIZES, **_PREFIXES},
        "files": dict.fromkeys((
            "train", "dev", "test", "dictionary", "cogs_train", "mod_test", "com_test",
            "mod_auxiliary", "com_auxiliary",
        ), TEXT),
    },
    "minimal-pairs": {
        "words": _WORDS,
        "paradigm": [{"name": TEXT, "phenomenon": TEXT, "field": TEXT, "pairs": PAIRS}],
        "frame": [{"texts": TEXTS, "weight": NUMBER}],
        "settings": {"n_pairs": WHOLE, "n_text": WHOLE},
    },
}  # fmt: skip
_TREEBANK = {
    "title": TEXT, "start": TEXT, "features": each(TEXTS), "rules": each(TEXTS),
    "settings": each(WHOLE), "words": each({"upos": TEXT, "list": TEXTS}),
}  # fmt: skip
_FORM_SETTINGS = {
    "ioi": {"n": WHOLE, "counterfactual": TEXT},
    "induction": {"n": WHOLE, "period": WHOLE, "again": WHOLE},
}


def check_keys(card: Mapping[str, Any], name: str) -> None:
    """Refuse a key of a card that nothing reads, and a value that is not of its kind.

    Args:
        card: as written, of a kind that is known.

    Raises:
        InputError: an unknown key, with the nearest known one; a value of another kind; a setting
            that is missing, or that no split uses.
    """
    if card["kind"] == "language":
        form = str(card.get("form"))
        if form not in FORMS:  # refused where the task is made
            return
        inside: dict[str, Shape] = {
            "form": TEXT, "source": TEXT, **dict.fromkeys(FORMS[form], TEXTS),
            "expected": [_EXPECTED], "settings": _FORM_SETTINGS.get(form, {"n": WHOLE}),
        }  # fmt: skip
        inside |= {"centuries": WHOLES} if "centuries" in inside else {}
    else:
        inside = _CARDS[card["kind"]]
    where = f"card {name}"
    check_shape(card, {"kind": TEXT, "title": TEXT, **inside}, where)
    if card["kind"] == "files":
        _check_used(card, where)
    elif card["kind"] == "language" and "settings" not in card:
        return  # refused where the task is made
    elif missing := [key for key in inside["settings"] if key not in card.get("settings", {})]:
        raise InputError(f"{where}: [settings] lacks {', '.join(missing)}; add it to the card")


def check_grammar_keys(card: Mapping[str, Any], name: str) -> None:
    """Refuse what a treebank grammar cannot hold; raises InputError."""
    check_shape(card, _TREEBANK, f"grammar {name}")


def _check_used(card: Mapping[str, Any], where: str) -> None:
    """Refuse a setting that no part of a split names, or one of another kind than named for."""
    splits, settings = card.get("splits", {}), card.get("settings", {})
    used: set[str] = set()
    for part in (part for parts in splits.values() for part in parts):
        for key, (kind, _) in _SETTABLE.items():
            if isinstance(name := part.get(key), str):
                used.add(name)
                if name in settings:
                    check_shape(settings[name], kind, where, f"settings.{name}")
    unused = [key for key in settings if key not in used]
    if splits and unused and used <= set(settings):
        raise InputError(
            f"{where}: setting {unused[0]!r} is used by no split; {instead(unused[0], used)}"
        )

"""Expands the templates of a card into labelled sentence pairs.

A template is text with slots: ``{noun1}`` is a word of the card's list ``noun``; the same number is
the same word, different numbers are different words; ``{noun1.was}`` is another form of that word.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mechprobe.errors import InputError

_SLOT = re.compile(r"\{([a-z_]+)(\d+)(?:\.([a-z_]+))?\}")
_TRIES = 200  # draws for one new pair before a template counts as used up

Row = Mapping[str, str]
"""The forms of one word: form name to text."""

Slot = tuple[str, str]
"""Word list and number, such as ``("noun", "1")``."""


@dataclass(frozen=True)
class Template:
    """One premise and hypothesis with slots.

    Attributes:
        premise: text with slots.
        hypothesis: text with slots.
        rows: for each slot, the words that have all forms it is used in.
        replaceable: slots of the hypothesis whose word may be replaced by a new one.
    """

    premise: str
    hypothesis: str
    rows: Mapping[Slot, Sequence[Row]]
    replaceable: tuple[Slot, ...]


@dataclass(frozen=True)
class Group:
    """A sub-case: templates of one label.

    Attributes:
        name: the sub-case's name.
        label: its label.
        overlap: whether every hypothesis word is in the premise.
        in_domain: weight among the ordinary in-domain pairs, 0 for none.
        counterexample: whether in-domain counterexamples may be drawn from it.
        ood: whether it is tested out of domain.
        templates: drawn equally often.
    """

    name: str
    label: str
    overlap: bool
    in_domain: float
    counterexample: bool
    ood: bool
    templates: tuple[Template, ...]


def words_of(text: str) -> list[str]:
    """The words of a sentence in lower case, without punctuation."""
    return re.findall(r"[\w'-]+", text.lower())


def overlaps(premise: str, hypothesis: str) -> bool:
    """Whether every word of the hypothesis occurs in the premise."""
    return set(words_of(hypothesis)) <= set(words_of(premise))


def read_words(card: Mapping[str, Any]) -> dict[str, list[Row]]:
    """The card's ``[words.*]`` lists, each word as its forms."""
    lists: dict[str, list[Row]] = {}
    for name, entry in card["words"].items():
        if not entry.get("list"):
            raise InputError(f"card {card['name']}: [words.{name}] has no list; add list = [...]")
        forms = list(entry.get("forms", ["word"]))
        rows = [str(word).split("/") for word in entry["list"]]
        for row in rows:
            if len(row) > len(forms) or not all(part.strip() for part in row):
                raise InputError(
                    f"card {card['name']}: word {'/'.join(row)!r} of list {name!r} has "
                    f"{len(row)} forms; expected at most {len(forms)} ({'/'.join(forms)}), "
                    "none empty"
                )
        lists[name] = [dict(zip(forms, row, strict=False)) for row in rows]
    return lists


def read_groups(card: Mapping[str, Any]) -> list[Group]:
    """The card's ``[[group]]`` tables, checked against its word lists and labels."""
    words, content = read_words(card), tuple(card["content"])
    groups = []
    for entry in card["group"]:
        where = f"card {card['name']}: group {entry.get('name', '?')!r}"
        pairs = entry.get("pairs", [])
        if "name" not in entry or not pairs or any(len(pair) != 2 for pair in pairs):
            raise InputError(
                f'{where} needs a name and pairs; give pairs = [["premise", "hypothesis"], ...]'
            )
        if entry.get("label") not in card["labels"]:
            raise InputError(
                f"{where} has label {entry.get('label')!r}; expected one of "
                f"{', '.join(card['labels'])}"
            )
        groups.append(
            Group(
                name=entry["name"],
                label=entry["label"],
                overlap=bool(entry.get("overlap", True)),
                in_domain=float(entry.get("in_domain", 0)),
                counterexample=bool(entry.get("counterexample", False)),
                ood=bool(entry.get("ood", False)),
                templates=tuple(
                    _template(premise, hypothesis, words, content, where)
                    for premise, hypothesis in pairs
                ),
            )
        )
    return groups


def _template(
    premise: str,
    hypothesis: str,
    words: Mapping[str, list[Row]],
    content: Sequence[str],
    where: str,
) -> Template:
    needed: dict[Slot, set[str]] = {}
    for name, number, form in _SLOT.findall(f"{premise} {hypothesis}"):
        if name not in words:
            raise InputError(
                f"{where} uses the word list {name!r}; the card has {', '.join(words)}"
            )
        needed.setdefault((name, number), {"word"}).add(form or "word")
    rows: dict[Slot, list[Row]] = {}
    for slot, forms in needed.items():
        rows[slot] = [row for row in words[slot[0]] if forms <= row.keys()]
        if not rows[slot]:
            raise InputError(
                f"{where}: no word of list {slot[0]!r} has the forms {', '.join(sorted(forms))}; "
                f"add one to [words.{slot[0]}]"
            )
    in_hypothesis = dict.fromkeys((n, i) for n, i, _ in _SLOT.findall(hypothesis))
    return Template(
        premise=premise,
        hypothesis=hypothesis,
        rows=rows,
        replaceable=tuple(slot for slot in in_hypothesis if slot[0] in content),
    )


def _draw(rows: Sequence[Row], taken: Sequence[Row], rng: random.Random) -> Row | None:
    """A word that is neither one of ``taken`` nor a synonym of one; None if none was found."""
    avoid = {text for row in taken for key, text in row.items() if key in ("word", "synonym")}
    for _ in range(_TRIES):
        row = rows[int(rng.random() * len(rows))]
        if row["word"] not in avoid and row.get("synonym") not in avoid:
            return row
    return None


def _fill(text: str, chosen: Mapping[Slot, Row]) -> str:
    return _SLOT.sub(lambda m: chosen[m[1], m[2]][m[3] or "word"], text)


def expand(template: Template, rng: random.Random, n_new: int = 0) -> tuple[str, str] | None:
    """One premise and hypothesis; ``n_new`` words of the hypothesis are not in the premise.

    At most as many words are new as the hypothesis has replaceable ones. None when the word lists
    are too short for the template.
    """
    chosen: dict[Slot, Row] = {}
    used: dict[str, list[Row]] = {}
    for slot, rows in template.rows.items():
        row = _draw(rows, used.setdefault(slot[0], []), rng)
        if row is None:
            return None
        chosen[slot] = row
        used[slot[0]].append(row)
    premise = _fill(template.premise, chosen)
    replaced = dict(chosen)
    for slot in rng.sample(template.replaceable, min(n_new, len(template.replaceable))):
        row = _draw(template.rows[slot], used[slot[0]], rng)
        if row is None:
            return None
        replaced[slot] = row
        used[slot[0]].append(row)
    return premise, _fill(template.hypothesis, replaced)


def expand_group(
    group: Group,
    n: int,
    rng: random.Random,
    seen: set[tuple[str, str]],
    new_words: Sequence[float] | None = None,
) -> list[tuple[str, str]]:
    """``n`` pairs of a group that are not in ``seen``; they are added to it.

    Args:
        group: where the templates come from.
        n: pairs to make; each template gives an equal share (one more for some).
        rng: the only source of randomness.
        seen: pairs used already, anywhere in the task.
        new_words: how often 1, 2, 3, ... words of the hypothesis are new; None for no new word.
    """
    pairs: list[tuple[str, str]] = []
    turns = [group.templates[i % len(group.templates)] for i in range(n)]
    counts = [0] * n
    if new_words is not None:
        counts = rng.choices(range(1, len(new_words) + 1), weights=list(new_words), k=n)
    for template, n_new in zip(turns, counts, strict=True):
        for _ in range(_TRIES):
            pair = expand(template, rng, n_new)
            if pair is not None and pair not in seen:
                break
        else:
            raise InputError(
                f"group {group.name!r} has no {n} different pairs left ({len(pairs)} found); ask "
                "for fewer examples or add words or templates to the card"
            )
        seen.add(pair)
        pairs.append(pair)
    return pairs

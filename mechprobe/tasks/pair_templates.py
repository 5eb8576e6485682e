"""Minimal pairs and ordinary sentences from the templates of a card: data for offline use."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from mechprobe.errors import InputError
from mechprobe.tasks.cards import read_card
from mechprobe.tasks.minimal_pairs import MinimalPairs, Paradigm
from mechprobe.tasks.templates import Group, expand, read_groups

ENGLISH = "minimal_pairs/english"
_KEYS = ("name", "phenomenon", "field", "pairs")
_TRIES = 400


def generate_minimal_pairs(
    card: str | Path = ENGLISH, *, n_pairs: int | None = None, seed: int = 0
) -> MinimalPairs:
    """Pairs of every paradigm of a card; the same card, number and seed give the same pairs.

    No sentence occurs twice in a paradigm, so that its parts share none.

    Args:
        card: name of a card with kind "minimal-pairs", or the path of one.
        n_pairs: pairs of each paradigm; the card's own number when None.

    Raises:
        InputError: a card that cannot be read, or templates too few for so many pairs.
    """
    content = read_pair_card(card)
    n = int(content["settings"]["n_pairs"] if n_pairs is None else n_pairs)
    if n < 1:
        raise InputError(f"card {content['name']}: {n} pairs of a paradigm; give 1 or more")
    made = []
    for entry, group in zip(content["paradigm"], _groups(content, content["paradigm"])):
        rng = random.Random(f"{seed}:pairs:{group.name}")
        good, bad = zip(*_draw(group, n, rng), strict=True)
        where = tuple(f"card {content['name']}: {group.name} pair {i}" for i in range(n))
        made.append(
            Paradigm(entry["name"], entry["phenomenon"], entry["field"], good, bad, where)
        )
    made.sort(key=lambda p: (p.field, p.phenomenon, p.name))
    return MinimalPairs(content["name"], tuple(made))


def generate_text(
    card: str | Path = ENGLISH,
    *,
    n: int | None = None,
    seed: int = 0,
    avoid: Collection[str] = (),
) -> list[str]:
    """Ordinary sentences from a card's frames, drawn by weight; none of ``avoid`` is among them.

    Raises:
        InputError: a card that cannot be read, or frames that give nothing but ``avoid``.
    """
    content = read_pair_card(card)
    n = int(content["settings"]["n_text"] if n is None else n)
    frames = content["frame"]
    for place, frame in enumerate(frames, 1):
        if not frame.get("texts") or not frame.get("weight", 0) > 0:
            raise InputError(f"card {content['name']}: frame {place} needs texts and a weight > 0")
    named = [
        {"name": f"frame {i}", "pairs": [[t, t] for t in f["texts"]]} for i, f in enumerate(frames)
    ]
    groups = _groups(content, named)
    rng = random.Random(f"{seed}:text")
    turns = rng.choices(groups, weights=[f["weight"] for f in frames], k=n)
    barred = frozenset(avoid)
    return [_sentence(group, rng, barred) for group in turns]


def read_pair_card(card: str | Path) -> dict[str, Any]:
    """A card of minimal pairs, checked; raises InputError for one of another kind."""
    content = read_card(card)
    if content["kind"] != "minimal-pairs":
        raise InputError(f"card {content['name']} has kind {content['kind']!r}; give one of kind "
                         "'minimal-pairs', such as minimal_pairs/english")
    for entry in content["paradigm"]:
        if missing := [key for key in _KEYS if not entry.get(key)]:
            raise InputError(
                f"card {content['name']}: paradigm {entry.get('name', '?')!r} lacks {missing[0]}; "
                f"it needs {', '.join(_KEYS)}"
            )
    return content


def _groups(content: Mapping[str, Any], entries: list[dict[str, Any]]) -> list[Group]:
    label = "pair"
    card = {
        "name": content["name"], "words": content["words"], "labels": [label], "content": [],
        "group": [{"name": e["name"], "label": label, "pairs": e["pairs"]} for e in entries],
    }
    return read_groups(card)


def _draw(group: Group, n: int, rng: random.Random) -> list[tuple[str, str]]:
    """Pairs of a group, its templates in turn, whose sentences are all different."""
    seen: set[str] = set()
    pairs: list[tuple[str, str]] = []
    for i in range(n):
        for _ in range(_TRIES):
            pair = expand(group.templates[i % len(group.templates)], rng)
            if pair is not None and not seen.intersection(pair):
                break
        else:
            raise InputError(
                f"paradigm {group.name!r} has no {n} different pairs ({len(pairs)} found); ask for "
                "fewer, or add words or templates to the card"
            )
        seen.update(pair)
        pairs.append(pair)
    return pairs


def _sentence(group: Group, rng: random.Random, avoid: frozenset[str]) -> str:
    for _ in range(_TRIES):
        pair = expand(rng.choice(group.templates), rng)
        if pair is not None and pair[0] not in avoid:
            return pair[0]
    raise InputError(
        f"{group.name} gives nothing but sentences that are held out; add words or texts to it"
    )

"""Splits of a template card: in-domain pairs with counterexamples, and out-of-domain groups."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mechprobe.errors import InputError
from mechprobe.tasks.examples import PairExamples
from mechprobe.tasks.templates import Group, expand_group, overlaps, read_groups

Item = tuple[str, str, str, str]
"""Premise, hypothesis, label, group."""


def generate_splits(card: Mapping[str, Any], seed: int) -> dict[str, PairExamples]:
    """The splits of a template card; the same card, settings and seed give the same pairs.

    No pair occurs twice, in one split or in two. The out-of-domain and held-out pairs do not
    depend on ``n_train``. ``mask`` is the training split.
    """
    settings = card["settings"]
    groups = read_groups(card)
    seen: set[tuple[str, str]] = set()
    ood: list[Item] = []
    for group in _chosen(card, groups, "ood_groups", [g.name for g in groups if g.ood]):
        rng = random.Random(f"{seed}:ood:{group.name}")
        ood += _items(card, group, expand_group(group, settings["n_ood"], rng, seen))
    dev = _in_domain(card, groups, settings["n_dev"], f"{seed}:dev", seen)
    train = _in_domain(card, groups, settings["n_train"], f"{seed}:train", seen)
    splits = {"train": train, "dev": dev, "ood": ood}
    made = {name: _examples(card, name, items) for name, items in splits.items()}
    return {**made, "mask": made["train"]}


def _chosen(
    card: Mapping[str, Any], groups: Sequence[Group], setting: str, allowed: Sequence[str]
) -> list[Group]:
    wanted = list(card["settings"][setting]) or list(allowed)
    for name in wanted:
        if name not in allowed:
            raise InputError(
                f"card {card['name']}: {setting} names {name!r}; expected some of "
                f"{', '.join(allowed)}"
            )
    by_name = {group.name: group for group in groups}
    return [by_name[name] for name in dict.fromkeys(wanted)]


def equal_parts(n: int, weights: Sequence[float]) -> list[int]:
    """``n`` split into whole numbers in proportion to ``weights`` (largest remainders)."""
    total = sum(weights)
    exact = [n * w / total for w in weights]
    parts = [int(e) for e in exact]
    by_rest = sorted(range(len(weights)), key=lambda i: parts[i] - exact[i])
    for i in by_rest[: n - sum(parts)]:
        parts[i] += 1
    return parts


def _in_domain(
    card: Mapping[str, Any],
    groups: Sequence[Group],
    n: int,
    stream: str,
    seen: set[tuple[str, str]],
) -> list[Item]:
    """``n`` in-domain pairs in random order; half of them have the label overlap suggests."""
    settings = card["settings"]
    allowed = [g.name for g in groups if g.counterexample]
    counter = _chosen(card, groups, "counterexample_groups", allowed)
    plain = [g for g in groups if g.in_domain > 0]
    _check_mix(card, counter, plain)
    weights = [g.in_domain for g in plain]
    new_words = [float(w) for w in settings["new_words"]]
    items: list[Item] = []

    def add(kind: str, chosen: Sequence[Group], counts: Sequence[int]) -> None:
        for group, count in zip(chosen, counts, strict=True):
            rng = random.Random(f"{stream}:{kind}:{group.name}")
            if kind == "new_word":
                pairs = expand_group(group, count, rng, seen, new_words)
                items.extend((p, h, card["new_word_label"], "new_word") for p, h in pairs)
            else:
                items.extend(_items(card, group, expand_group(group, count, rng, seen)))

    n_counter = n - round(settings["overlap_predicts"] * n)
    add("counterexample", counter, equal_parts(n_counter, [1.0] * len(counter)))
    suggested = sum(label == card["overlap_label"] for _, _, label, _ in items)
    n_overlap = max(0, min((n + 1) // 2 - suggested, n - n_counter))
    add("overlap", plain, equal_parts(n_overlap, weights))
    add("new_word", plain, equal_parts(n - len(items), weights))
    random.Random(f"{stream}:order").shuffle(items)
    return items


def _check_mix(card: Mapping[str, Any], counter: Sequence[Group], plain: Sequence[Group]) -> None:
    where, settings = f"card {card['name']}", card["settings"]
    share, new_words = settings["overlap_predicts"], settings["new_words"]
    if not 0.5 <= share <= 1:
        raise InputError(f"{where}: overlap_predicts={share} is not possible; expected 0.5 to 1")
    weights_fit = all(isinstance(w, int | float) and w >= 0 for w in new_words)
    if not weights_fit or sum(new_words) <= 0:
        raise InputError(
            f"{where}: new_words={new_words} are no weights; expected how often 1, 2, 3 words are "
            "new, such as [0.5, 0.3, 0.2]"
        )
    if not plain or not counter:
        raise InputError(
            f"{where} has {len(plain)} in-domain groups and {len(counter)} counterexample groups; "
            "mark at least one group with in_domain and one with counterexample"
        )
    for group in counter:
        if group.overlap == (group.label == card["overlap_label"]):
            raise InputError(
                f"{where}: group {group.name!r} is marked as a counterexample, but overlap gives "
                "its label; take the mark away"
            )


def _items(card: Mapping[str, Any], group: Group, pairs: Sequence[tuple[str, str]]) -> list[Item]:
    for premise, hypothesis in pairs:
        if overlaps(premise, hypothesis) != group.overlap:
            raise InputError(
                f"card {card['name']}: group {group.name!r} says overlap = "
                f"{str(group.overlap).lower()}, but not so in {premise!r} -> {hypothesis!r}; mend "
                "the mark or the template"
            )
    return [(premise, hypothesis, group.label, group.name) for premise, hypothesis in pairs]


def _examples(card: Mapping[str, Any], split: str, items: Sequence[Item]) -> PairExamples:
    labels = tuple(card["labels"])
    index = {label: i for i, label in enumerate(labels)}
    return PairExamples(
        first=tuple(premise for premise, *_ in items),
        second=tuple(hypothesis for _, hypothesis, *_ in items),
        label=np.array([index[label] for _, _, label, _ in items], dtype=np.int64),
        labels=labels,
        group=tuple(group for *_, group in items),
        name=f"{card['name']}:{split}",
    )

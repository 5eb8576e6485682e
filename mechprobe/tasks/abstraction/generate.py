"""Derivations and languages of a grammar card."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mechprobe.errors import InputError
from mechprobe.tasks.abstraction.auxiliary import nonce_dictionary, translate_lexicon
from mechprobe.tasks.abstraction.derivation import Derivation
from mechprobe.tasks.abstraction.grammar import Grammar, function_words
from mechprobe.tasks.abstraction.grammar_card import read_grammar
from mechprobe.tasks.abstraction.language import Language
from mechprobe.tasks.abstraction.sample import Draw, sample_clause, sample_new, sample_words
from mechprobe.tasks.abstraction.sentence import SourceForm, Spelling
from mechprobe.tasks.abstraction.splits import (
    AbstractionTasks,
    Choice,
    Trees,
    make_blocks,
    make_tasks,
)
from mechprobe.tasks.abstraction.target import NONE, TargetForm, Tokens

_SHARES = ("object_modifier", "nested_modifier", "ood_modifier")
_SETTINGS: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("n_train", "n_words", "n_dev", "n_test", "n_ood", "per_item"), int),
    **dict.fromkeys(("depths", "ood_depths"), list),
    **dict.fromkeys(_SHARES, (int, float)),
    "max_modifiers": int,
    **dict.fromkeys(("prefix", "auxiliary_prefix", "redraw"), str),
    "capital": bool,
}


def generate_tasks(card: Mapping[str, Any], lexicon_set: int, choice: Choice) -> AbstractionTasks:
    """The tasks of a grammar card; the same card, settings and seed give the same pairs.

    The derivations depend on probe and seed only, the dictionary on ``lexicon_set`` only. No
    sentence of the target task occurs twice, in one split or in two; what is held out uses only
    words of the training sentences, so that structure alone is new.
    """
    _check_settings(card)
    grammar = read_grammar(card)
    target = _language(grammar, card)
    reserved = [*function_words(grammar.frames), *_prefix_words(card), NONE.lower()]
    reserved += [f.link.lower() for f in grammar.frames.values() if f.link is not None]
    words = nonce_dictionary(grammar.lexicon, card["auxiliary"], reserved, lexicon_set)
    auxiliary = Language(
        grammar.frames,
        translate_lexicon(grammar.lexicon, words),
        _spelling(card, "auxiliary_prefix"),
        SourceForm(),
        TargetForm(),
    )
    trees = sample_trees(grammar, target, choice)
    blocks = make_blocks(trees.ood, words, auxiliary, choice)
    whole = Trees(trees.train, trees.dev, trees.test, trees.ood, blocks)
    return make_tasks(whole, target, auxiliary, words, choice)


def sample_trees(grammar: Grammar, target: Language, choice: Choice) -> Trees:
    """The target task's derivations by split; the auxiliary task's blocks are left empty."""
    settings, name = choice.card["settings"], grammar.name
    ordinary = _ordinary(settings)
    taken: set[Tokens] = set()

    def draws(split: str, n: int, known: set[str] | None) -> list[Derivation]:
        rng = random.Random(f"{choice.seed}:{choice.probe}:{split}")
        kinds = _unusual(settings, choice.probe) if split == "ood" else [ordinary]
        return sample_new(
            n,
            lambda i: sample_clause(grammar, kinds[i % len(kinds)], rng),
            target.source,
            taken,
            known,
            f"card {name}, split {split}",
        )

    words = sample_words(
        min(settings["n_words"], settings["n_train"]),
        grammar,
        random.Random(f"{choice.seed}:{choice.probe}:words"),
    )
    train = draws("train", settings["n_train"] - len(words), None)
    known = {token for tree in (*train, *words) for token in target.source(tree)}
    random.Random(f"{choice.seed}:order").shuffle(shuffled := [*train, *words])
    sizes = {"dev": "n_dev", "test": "n_test", "ood": "n_ood"}
    held_out = {split: draws(split, settings[size], known) for split, size in sizes.items()}
    return Trees(shuffled, **held_out, blocks=())


def _ordinary(settings: Mapping[str, Any]) -> Draw:
    return Draw(
        depths={depth: float(weight) for depth, weight in enumerate(settings["depths"])},
        object_modifier=float(settings["object_modifier"]),
        nested=float(settings["nested_modifier"]),
        max_nested=settings["max_modifiers"],
    )


def _unusual(settings: Mapping[str, Any], probe: str) -> list[Draw]:
    """What the generalisation items look like; they take turns."""
    usual, share = _ordinary(settings), float(settings["ood_modifier"])
    if probe == "com":
        return [replace(usual, depths={depth: 1.0}) for depth in settings["ood_depths"]]
    return [replace(usual, modified_subject=True, object_modifier=share, modifier=share)]


def _language(grammar: Grammar, card: Mapping[str, Any]) -> Language:
    spelling = _spelling(card, "prefix")
    return Language(grammar.frames, grammar.lexicon, spelling, SourceForm(), TargetForm())


def _spelling(card: Mapping[str, Any], prefix: str) -> Spelling:
    return Spelling(tuple(card["settings"][prefix].split()), bool(card["settings"]["capital"]))


def _prefix_words(card: Mapping[str, Any]) -> list[str]:
    both = f"{card['settings']['prefix']} {card['settings']['auxiliary_prefix']}"
    return both.lower().split()


def check_settings(
    card: Mapping[str, Any], expected: Mapping[str, type | tuple[type, ...]]
) -> None:
    """Raise InputError unless the card's ``[settings]`` have these entries, of these types."""
    settings = card["settings"]
    for key, kind in expected.items():
        if not isinstance(settings.get(key), kind):
            raise InputError(
                f"card {card['name']}: [settings] has {key} = {settings.get(key)!r}; expected it "
                "as in the card abstraction/mini"
            )


def _check_settings(card: Mapping[str, Any]) -> None:
    where, settings = f"card {card['name']}", card["settings"]
    check_settings(card, _SETTINGS)
    for key in _SHARES:
        if not 0 <= settings[key] < 1:
            raise InputError(f"{where}: {key}={settings[key]}; expected a share, 0 to below 1")
    depths, deep = settings["depths"], settings["ood_depths"]
    if not all(isinstance(d, int | float) and d >= 0 for d in depths) or not sum(depths):
        raise InputError(
            f"{where}: depths={depths}; expected how often 0, 1, 2 clauses are embedded in "
            "training, such as [0.9, 0.09, 0.01]"
        )
    deepest = max(depth for depth, weight in enumerate(depths) if weight)
    if not deep or not all(isinstance(d, int) and d > deepest for d in deep):
        raise InputError(
            f"{where}: ood_depths={deep}; expected whole numbers above {deepest}, the deepest "
            "embedding in training"
        )
    for key, least in (("n_train", 1), ("per_item", 1), ("max_modifiers", 1)):
        if settings[key] < least:
            raise InputError(f"{where}: {key}={settings[key]}; expected {least} or more")

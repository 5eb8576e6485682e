"""Loads the tasks of an abstraction probe from a grammar card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mechprobe.errors import InputError
from mechprobe.tasks.abstraction.generate import generate_tasks
from mechprobe.tasks.abstraction.released import released_tasks
from mechprobe.tasks.abstraction.splits import AbstractionTasks, Choice, check_choice
from mechprobe.tasks.cards import read_card, resolve_card


def load_abstraction(
    name_or_path: str | Path = "abstraction/mini",
    *,
    probe: str = "mod",
    lexicon_set: int = 1,
    contrast: str = "other_grammar",
    mutation: str | None = None,
    data_dir: str | Path | None = None,
    seed: int = 0,
    **settings: Any,
) -> AbstractionTasks:
    """Load target, auxiliary and contrast task of an abstraction probe (An et al. 2023).

    Args:
        name_or_path: ``abstraction/mini``, ``abstraction/full``, ``abstraction/released`` or the
            path of a ``.toml`` file with a grammar of your own.
        probe: ``mod``: training has prepositional phrases on objects only, the test on the
            subject; ``com``: training embeds clauses to a small depth, the test deeper.
        lexicon_set: from 1; which words the auxiliary task has. Those of two sets are disjoint in
            generated tasks, but for the kept words and prepositions, which all sets share.
        contrast: ``other_grammar``, ``shuffle_content``, ``swap_structure`` or
            ``no_generalisation``; see ``mechprobe.tasks.abstraction.contrast``.
        mutation: a key of ``mechprobe.tasks.abstraction.mutations.MUTATIONS``, applied to the
            auxiliary task alone; None for no mutation.
        data_dir: folder with the released files, for ``abstraction/released``.
        seed: decides derivations and redrawn words.
        settings: override the card's ``[settings]``.

    Raises:
        InputError: a card, choice or setting that cannot be used, too small a grammar, overlapping
            vocabularies, or test items that leak into training (by sentence: in distribution a
            meaning may also stand in training, in the passive, say).
    """
    if lexicon_set < 1:
        raise InputError(f"lexicon_set={lexicon_set}; expected a whole number, 1 or more")
    card = read_card(name_or_path)
    if card["kind"] not in ("grammar", "grammar-files"):
        raise InputError(
            f"card {card['name']} has kind {card['kind']!r}; load it with load_task, or give a "
            "grammar such as abstraction/mini"
        )
    card = resolve_card(card, settings)
    card["settings"] |= {"seed": seed, "lexicon_set": lexicon_set}
    choice = Choice(probe, contrast, mutation, seed, card)
    check_choice(choice)
    if card["kind"] == "grammar":
        return generate_tasks(card, lexicon_set, choice)
    return released_tasks(card, None if data_dir is None else Path(data_dir), lexicon_set, choice)

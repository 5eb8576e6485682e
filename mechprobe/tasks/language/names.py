"""Induction in stories: a name of several tokens was told, begins again, and goes on as before.

Two names that begin with the same tokens and are equally long make a clean prompt and its
counterfactual, which end alike, so that only what was told before tells them apart.
"""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
from transformers import PreTrainedTokenizerBase

from mechprobe.errors import InputError
from mechprobe.tasks.answers import preference
from mechprobe.tasks.behaviour import Behaviour
from mechprobe.tasks.language.rows import asked_at_the_end, beginning, text_ids, word_ids
from mechprobe.tasks.language.task import SPLITS, LanguageTask

SUCCESS = ("preference", preference)
FEWEST = 8


def draw(
    task: LanguageTask, tokenizer: PreTrainedTokenizerBase, split: str, d_vocab: int | None
) -> Behaviour:
    """Stories of the card, asked where the two names part; no prompt is in two splits.

    Raises:
        InputError: fewer than eight pairs of names that begin alike in this tokenizer.
    """
    card = task.card
    pairs = _pairs(tokenizer, card["names"])
    if len(pairs) < FEWEST:
        cut = " ".join(map(str, tokenizer.convert_ids_to_tokens(word_ids(tokenizer, "Sara"))))
        raise InputError(
            f"{task.name}: {len(pairs)} pairs of names begin with the same tokens and are equally "
            f"long in this model's tokenizer ('Sara' is {cut!r}), and {FEWEST} are needed; take "
            "behaviours/induction, or put such names into the card"
        )
    stories = list(product(pairs, card["templates"], card["who"], card["places"]))
    order = np.random.default_rng(task.seed).permutation(len(stories))
    part = len(stories) // len(SPLITS)
    mine = order[SPLITS.index(split) * part :][: min(part, card["settings"]["n"])]
    clean, corrupt, answer, wrong = [], [], [], []
    for i in mine:
        (told, other, shared), template, who, place = stories[i]
        start = word_ids(tokenizer, told)[:shared]
        for rows, name in ((clean, told), (corrupt, other)):
            text = template.format(name=name, who=who, place=place)
            rows.append([*beginning(tokenizer), *text_ids(tokenizer, text), *start])
        answer.append(word_ids(tokenizer, told)[shared])
        wrong.append(word_ids(tokenizer, other)[shared])
    return asked_at_the_end(
        f"{task.name}:{split}", clean, corrupt, np.array(answer), np.array(wrong),
        np.full(len(clean), 0.5),
    )


def _pairs(tokenizer: PreTrainedTokenizerBase, names: list[str]) -> list[tuple[str, str, int]]:
    """Two names and how many first tokens they share, the last of these more than a space.

    Neither goes on with the first letters of what the other goes on with, such as "a" and "ar".
    """
    ids = {name: word_ids(tokenizer, name) for name in names}
    found = []
    for one, other in permutations(names, 2):
        same = [a == b for a, b in zip(ids[one], ids[other], strict=False)]
        shared = same.index(False) if False in same else 0
        if not shared or len(ids[one]) != len(ids[other]):
            continue
        last, here, there = (
            str(tokenizer.decode([token])).strip()
            for token in (ids[one][shared - 1], ids[one][shared], ids[other][shared])
        )
        if last and not here.startswith(there) and not there.startswith(here):
            found.append((one, other, shared))
    return found

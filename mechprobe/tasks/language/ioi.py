"""Indirect object identification (Wang et al. 2023): two people, one gives, the other gets.

The answer is the person named once, the wrong answer the giver. Which of the two gives, and so
whether the order is A B B A or B A B A, is drawn for every example.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from mechprobe.errors import InputError
from mechprobe.tasks.answers import preference
from mechprobe.tasks.behaviour import Behaviour
from mechprobe.tasks.language.rows import asked_at_the_end, beginning, one_token_words, text_ids
from mechprobe.tasks.language.task import LanguageTask

SUCCESS = ("preference", preference)
COUNTERFACTUALS = ("other names", "swapped")
FEWEST = 8


def draw(
    task: LanguageTask, tokenizer: PreTrainedTokenizerBase, split: str, d_vocab: int | None
) -> Behaviour:
    """Prompts of the card with names that are one token, and their counterfactuals.

    "other names": three people that the clean prompt does not name (the ABC distribution of Wang et
    al. 2023, section 2). "swapped": the giver is the other one of the two, and so is the answer.

    Raises:
        InputError: fewer than eight names of one token, or an unknown counterfactual.
    """
    settings = task.card["settings"]
    if settings["counterfactual"] not in COUNTERFACTUALS:
        raise InputError(
            f"{task.name}: counterfactual {settings['counterfactual']!r}; give one of "
            f"{', '.join(map(repr, COUNTERFACTUALS))}"
        )
    known = one_token_words(tokenizer, task.card["names"], FEWEST, f"{task.name}, names")
    rng = np.random.default_rng(task.seeds(split))
    first = beginning(tokenizer)
    clean, corrupt, answer, wrong = [], [], [], []
    for _ in range(settings["n"]):
        people = [str(name) for name in rng.choice(list(known), 5, replace=False)]
        giver = int(rng.integers(2))
        frame = _frame(task.card, rng)
        other = {"A": people[2], "B": people[3], "S": people[4]}
        if settings["counterfactual"] == "swapped":
            other = {"A": people[0], "B": people[1], "S": people[1 - giver]}
        told = {"A": people[0], "B": people[1], "S": people[giver]}
        clean.append([*first, *text_ids(tokenizer, frame.format(**told))])
        corrupt.append([*first, *text_ids(tokenizer, frame.format(**other))])
        answer.append(known[people[1 - giver]])
        wrong.append(known[people[giver]])
    return asked_at_the_end(
        f"{task.name}:{split}", clean, corrupt, np.array(answer), np.array(wrong),
        np.full(len(clean), 0.5),
    )


def _frame(card: Any, rng: np.random.Generator) -> str:
    """A template with its place and object, people still to be filled in."""
    template = str(rng.choice(card["templates"]))
    filled = {"place": str(rng.choice(card["places"])), "object": str(rng.choice(card["objects"]))}
    return template.format(A="{A}", B="{B}", S="{S}", **filled)

"""Induction on random tokens (Olsson et al. 2022): a string begins again and goes on as before."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int
from transformers import PreTrainedTokenizerBase

from mechprobe.errors import InputError
from mechprobe.tasks.answers import accuracy
from mechprobe.tasks.behaviour import Behaviour
from mechprobe.tasks.language.rows import asked_at_the_end, beginning
from mechprobe.tasks.language.task import LanguageTask

SUCCESS = ("accuracy", accuracy)


def draw(
    task: LanguageTask, tokenizer: PreTrainedTokenizerBase | None, split: str, d_vocab: int | None
) -> Behaviour:
    """Strings of different tokens that begin again; in the counterfactual another one came first.

    The wrong answer is another token of the string. Chance is a guess among the string's tokens,
    one in ``period``: copying just any of them is not induction.

    Raises:
        InputError: settings that leave nothing to ask, or fewer tokens than a string and its
            counterfactual need.
    """
    settings = task.card["settings"]
    n, period, again = settings["n"], settings["period"], settings["again"]
    if not 1 <= again < period:
        raise InputError(
            f"{task.name}: again={again} of period={period}; the string must begin again (1 or "
            "more) and have a next token (less than period)"
        )
    tokens = _tokens(tokenizer, d_vocab)
    if len(tokens) < 2 * period or period < 3:
        raise InputError(
            f"{task.name}: strings of {period} from {len(tokens)} tokens; give a period of 3 or "
            f"more, at most {len(tokens) // 2} here"
        )
    rng = np.random.default_rng(task.seeds(split))
    drawn = np.stack([rng.choice(tokens, 2 * period, replace=False) for _ in range(n)])
    string, other = drawn[:, :period], drawn[:, period:]
    places = rng.random((n, period))
    places[:, again - 1 : again + 1] = 2  # neither the answer nor the token before it
    wrong = np.take_along_axis(string, places.argmin(1)[:, None], 1)[:, 0]
    first = np.tile(np.array(beginning(tokenizer), dtype=np.int64), (n, 1))
    second = string[:, :again]
    return asked_at_the_end(
        f"{task.name}:{split}",
        np.concatenate([first, string, second], 1).tolist(),
        np.concatenate([first, other, second], 1).tolist(),
        string[:, again], wrong, np.full(n, 1 / period),
    )


def _tokens(tokenizer: PreTrainedTokenizerBase | None, d_vocab: int | None) -> Int[np.ndarray, "t"]:
    """Ids of all tokens but special ones."""
    special = [] if tokenizer is None else tokenizer.all_special_ids
    sizes = [n for n in (d_vocab, None if tokenizer is None else len(tokenizer)) if n is not None]
    if not sizes:
        raise InputError("random tokens need a tokenizer, or d_vocab=...")
    return np.setdiff1d(np.arange(min(sizes)), special)
